"""The invoke path with real Python processes: real frames, real deaths, real time."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

import pilotlight_guest
from pilotlight.control.placement import PlacementService
from pilotlight.dataplane.frontend import FrontendInvoker, FrontendSettings
from pilotlight.dataplane.sandboxes.process import ProcessDriver
from pilotlight.dataplane.worker import WorkerHost, WorkerSettings
from pilotlight.kernel.service import Part
from pilotlight.kernel.system import SystemClock, SystemIds
from pilotlight.model.function import Code, FunctionVersion, Isolation
from pilotlight.model.ids import Digest, RuntimeName
from pilotlight.model.invocation import InvocationResult
from pilotlight.ports.runtimes import HostRuntime, RuntimeChoice
from pilotlight.testing.scripted import (
    CachedCode,
    OneRuntime,
    OneView,
    RecordedLogs,
    RecordedTelemetry,
    a_function,
    an_invocation,
)
from pilotlight.testing.sealing import known_sealer

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

SOURCE = """
import os, sys, time, json
if os.environ.get("BROKEN"):
    import nothing_like_this
if os.environ.get("INIT_EXIT"):
    os._exit(4)
count = 0

def handler(event, context):
    global count
    count += 1
    what = event.get("do")
    if what == "env":
        return dict(os.environ)
    if what == "exit":
        sys.exit(event["status"])
    if what == "kill":
        os.kill(os.getpid(), event["signal"])
    if what == "sleep":
        time.sleep(event["seconds"])
    if what == "raise":
        raise ValueError("wanted")
    if what == "print":
        print(event["text"])
    if what == "flood":
        for _ in range(event["lines"]):
            print("x" * 100)
    if what == "large":
        return "x" * event["size"]
    return {"count": count, "left": context.get_remaining_time_in_millis()}
"""


class ThisRuntime(OneRuntime):
    """The interpreter that runs the tests."""

    def choose(self, wanted: RuntimeName) -> RuntimeChoice | None:
        runtime = HostRuntime(
            wanted, "3", Path(sys.executable).resolve(), Path(sys.base_prefix).resolve()
        )
        return RuntimeChoice(runtime, substituted=False)


class Stack:
    """Everything but HTTP."""

    def __init__(self, code_root: Path) -> None:
        self.clock = SystemClock()
        self.view, self.logs, self.telemetry = OneView(), RecordedLogs(), RecordedTelemetry()
        runtime = RuntimeName("python3.11")
        choice = ThisRuntime().choose(runtime)
        assert choice is not None
        driver = ProcessDriver(
            code_root=code_root,
            runtimes={runtime: choice.runtime},
            guest_root=Path(pilotlight_guest.__file__).parent.parent,
            instance=str(code_root),
        )
        settings = WorkerSettings(default_isolation=Isolation.PROCESS)
        self.host = WorkerHost(
            {Isolation.PROCESS: driver},
            CachedCode(),
            ThisRuntime(),
            self.logs,
            self.telemetry,
            self.clock,
            settings,
            sealer=known_sealer(),
        )
        placement = PlacementService(
            [self.host],
            SystemIds(),
            lambda _account: 20,
            default_isolation=Isolation.PROCESS,
            charge_mib=settings.charge_mib,
        )
        self.invoker = FrontendInvoker(
            self.view,
            placement,
            {self.host.worker: self.host},
            self.telemetry,
            self.clock,
            FrontendSettings(),
        )
        self.function = self.view.put(self.version("app"))
        self._number = 0

    def version(self, name: str, **changes: object) -> FunctionVersion:
        code = Code("sha", 1, Digest("b" * 64))
        return a_function(name, code=code, timeout_s=10, **changes)

    async def invoke(
        self, event: object, function: FunctionVersion | None = None, *, wants_log: bool = False
    ) -> InvocationResult:
        self._number += 1
        return await self.invoker.invoke(
            an_invocation(
                function or self.function,
                self._number,
                event,
                now=self.clock.monotonic,
                wants_log=wants_log,
            )
        )


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[Stack]:
    tree = tmp_path / ("b" * 64)
    tree.mkdir()
    (tree / "app.py").write_text(SOURCE)
    stack = Stack(tmp_path)
    async with asyncio.TaskGroup() as group:
        tasks = []
        parts: list[Part] = [stack.host, stack.invoker]
        for part in parts:
            up = asyncio.Event()
            tasks.append(group.create_task(_run(part, up)))
            await up.wait()
        try:
            yield stack
        finally:
            for task in tasks:
                task.cancel()


async def _run(part: Part, up: asyncio.Event) -> None:
    await part.run(up.set)


async def test_cold_warm_frozen_and_the_environment(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        cold = await stack.invoke({})
        assert json.loads(cold.payload)["count"] == 1
        assert cold.report.cold is not None
        assert cold.report.init_ms is not None
        warm = await stack.invoke({})
        answer = json.loads(warm.payload)
        assert answer["count"] == 2
        assert 9_000 < answer["left"] <= 10_000
        assert warm.report.peak_memory_mib > 1
        await asyncio.sleep(0.3)
        assert stack.host.environments()[0].is_frozen
        names = json.loads((await stack.invoke({"do": "env"})).payload)
        assert names["AWS_LAMBDA_FUNCTION_NAME"] == "app"
        assert names["_HANDLER"] == "app.handler"
        assert names["TZ"] == ":UTC"
        assert len(stack.host.environments()) == 1


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"do": "exit", "status": 1}, "Runtime exited with error: exit status 1"),
        ({"do": "exit", "status": 0}, "Runtime exited without providing a reason"),
        ({"do": "kill", "signal": 9}, "Runtime exited with error: signal: killed"),
        ({"do": "kill", "signal": 11}, "Runtime exited with error: signal: segmentation fault"),
    ],
)
async def test_real_deaths(tmp_path: Path, event: object, message: str) -> None:
    async with running(tmp_path) as stack:
        answer = await stack.invoke(event)
        assert json.loads(answer.payload) == {
            "errorType": "Runtime.ExitError",
            "errorMessage": f"RequestId: {answer.report.request_id} Error: {message}",
        }
        assert json.loads((await stack.invoke({})).payload)["count"] == 1


async def test_a_real_timeout(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        slow = stack.view.put(stack.version("app"))
        slow = stack.view.put(replace(slow, timeout_s=1, revision_id="2"))
        answer = await stack.invoke({"do": "sleep", "seconds": 30}, slow)
        assert json.loads(answer.payload)["errorType"] == "Sandbox.Timedout"
        assert (await stack.invoke({}, slow)).function_error is None


async def test_errors_init_errors_and_init_exits(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        answer = await stack.invoke({"do": "raise"})
        error = json.loads(answer.payload)
        assert (error["errorType"], error["errorMessage"]) == ("ValueError", "wanted")
        assert error["requestId"] == answer.report.request_id
        broken = stack.view.put(stack.version("broken", environment={"BROKEN": "1"}))
        answer = await stack.invoke({}, broken)
        error = json.loads(answer.payload)
        assert error["errorType"] == "Runtime.ImportModuleError"
        assert "nothing_like_this" in error["errorMessage"]
        gone = stack.view.put(stack.version("gone", environment={"INIT_EXIT": "1"}))
        answer = await stack.invoke({}, gone)
        assert "exit status 4" in json.loads(answer.payload)["errorMessage"]


async def test_logs_are_complete_attributed_and_bounded(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        answer = await stack.invoke({"do": "print", "text": "hello\nworld"}, wants_log=True)
        assert stack.logs.texts(answer.report.request_id) == ["hello", "world"]
        assert b"hello\nworld\nEND RequestId" in (answer.log_tail or b"")
        flood = await stack.invoke({"do": "flood", "lines": 300_000})
        assert flood.function_error is None
        lines = stack.logs.texts(flood.report.request_id)
        assert sum(len(line) for line in lines) < 20_000_000
        assert any("were dropped" in line for line in lines)


async def test_six_megabytes_pass_and_concurrent_invocations_do_not_mix(tmp_path: Path) -> None:
    async with running(tmp_path) as stack:
        large = await stack.invoke({"do": "large", "size": 6 * 1024 * 1024})
        assert len(large.payload) == 6 * 1024 * 1024 + 2

        async def one(number: int) -> None:
            text = f"request {number}"
            answer = await stack.invoke({"do": "print", "text": text})
            assert stack.logs.texts(answer.report.request_id) == [text]

        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(one(number))
