"""The invoke path over the memory driver, the executable specification of sandboxes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from pilotlight.control.placement import PlacementService
from pilotlight.dataplane.frontend import FrontendInvoker, FrontendSettings
from pilotlight.dataplane.sandboxes.memory import MemoryDriver
from pilotlight.dataplane.worker import WorkerHost, WorkerSettings
from pilotlight.model.function import Isolation
from pilotlight.model.ids import RuntimeName
from pilotlight.model.invocation import InvocationResult
from pilotlight.ports.runtimes import RuntimeChoice
from pilotlight.testing.scripted import (
    CachedCode,
    CountedIds,
    OneRuntime,
    OneView,
    RecordedLogs,
    RecordedTelemetry,
    a_function,
    an_invocation,
)
from pilotlight.testing.sealing import known_sealer
from pilotlight.testing.simloop import SimLoop, simulate


class AnyRuntime(OneRuntime):
    """Every name is a script of the memory driver."""

    def choose(self, wanted: RuntimeName) -> RuntimeChoice | None:
        (runtime,) = self.installed().values()
        return RuntimeChoice(replace(runtime, name=wanted), substituted=False)


def invoke(script: str, times: int = 1, timeout_s: int = 3) -> list[InvocationResult]:
    async def main(loop: SimLoop) -> list[InvocationResult]:
        driver, telemetry, view = MemoryDriver(), RecordedTelemetry(), OneView()
        settings = WorkerSettings(default_isolation=Isolation.MEMORY)
        host = WorkerHost(
            {Isolation.MEMORY: driver},
            CachedCode(),
            AnyRuntime(),
            RecordedLogs(),
            telemetry,
            loop,
            settings,
            sealer=known_sealer(),
        )
        placement = PlacementService(
            [host],
            CountedIds(),
            lambda _account: 10,
            default_isolation=Isolation.MEMORY,
            charge_mib=settings.charge_mib,
        )
        invoker = FrontendInvoker(
            view, placement, {host.worker: host}, telemetry, loop, FrontendSettings()
        )
        function = view.put(a_function(runtime=f"memory:{script}", timeout_s=timeout_s))
        up = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(host.run(lambda: None))]
            tasks.append(group.create_task(invoker.run(up.set)))
            await up.wait()
            await asyncio.sleep(0)
            answers = []
            for number in range(times):
                answers.append(await invoker.invoke(an_invocation(function, number, {"n": number})))
                await asyncio.sleep(0.3)  # frozen in between
            for task in tasks:
                task.cancel()
        return answers

    return simulate(main)


def test_echo_is_frozen_and_thawed_between_invocations() -> None:
    answers = invoke("echo", times=3)
    assert [json.loads(a.payload) for a in answers] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert len({a.report.environment for a in answers}) == 1


@pytest.mark.parametrize(
    ("script", "outcome", "kind"),
    [
        ("spin", "timeout", "Sandbox.Timedout"),
        ("slow:5000", "timeout", "Sandbox.Timedout"),
        ("fail", "error", "ValueError"),
        ("exit:7", "crash", "Runtime.ExitError"),
        ("killed:11", "crash", "Runtime.ExitError"),
        ("oom", "memory", "Runtime.OutOfMemory"),
        ("wrong-sequence", "crash", "Runtime.ExitError"),
        ("wrong-type", "crash", "Runtime.ExitError"),
        ("too-long", "crash", "Runtime.ExitError"),
        ("init-exit:3", "crash", "Runtime.ExitError"),
        ("init-hang", "timeout", "Sandbox.Timedout"),
    ],
)
def test_every_misbehaviour_has_its_outcome(script: str, outcome: str, kind: str) -> None:
    for answer in invoke(script, times=2):
        assert answer.report.outcome == outcome
        assert json.loads(answer.payload)["errorType"] == kind
        assert answer.function_error == "Unhandled"


def test_a_failing_init_answers_its_own_error() -> None:
    (answer,) = invoke("init-fail")
    assert answer.report.outcome == "error"
    assert "errorType" in json.loads(answer.payload)
