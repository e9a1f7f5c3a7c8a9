"""Random faults in virtual time: whatever dies, every invocation is answered exactly once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace

import pytest

from pilotlight.dataplane.frontend import FrontendSettings
from pilotlight.dataplane.worker import WorkerSettings
from pilotlight.model.errors import PlatformError, SandboxError
from pilotlight.model.function import Isolation
from pilotlight.model.invocation import InvocationResult
from pilotlight.ports.sandbox import SandboxExit
from pilotlight.testing.oneworker import OneWorker
from pilotlight.testing.scripted import a_function, an_invocation
from pilotlight.testing.simloop import SimLoop, simulate

EVENTS: list[tuple[int, dict[str, object]]] = [
    (60, {}),
    (10, {"sleep": 0.3}),
    (3, {"sleep": 5}),
    (3, {"exit": 1, "sleep": 0.01}),
    (2, {"oom": True}),
    (2, {"lie": "00"}),
    (3, {"raise": "ValueError"}),
    (5, {"log": "line\nhalf"}),
]


class Chaos:
    """Clients, updates and deaths, all from one seed."""

    def __init__(self, stack: OneWorker, seed: int) -> None:
        self.stack = stack
        self.random = random.Random(seed)
        self.answers: Counter[int] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.sent = 0
        self.functions = [stack.view.put(a_function(f"f{n}", timeout_s=2)) for n in range(3)]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(40):
                group.create_task(self.client())
            group.create_task(self.faults())
        await asyncio.sleep(40)  # the longest wait and timeout

    async def client(self) -> None:
        for _ in range(40):
            self.send()
            await asyncio.sleep(self.random.choice([0.0, 0.001, 0.05, 0.3]))

    def send(self) -> None:
        weights = [weight for weight, _ in EVENTS]
        (_, event) = self.random.choices(EVENTS, weights)[0]
        number = self.sent = self.sent + 1
        which = self.random.randrange(len(self.functions))
        invocation = an_invocation(
            self.functions[which], number, event, wants_log=self.random.random() < 0.1
        )

        def done(answer: InvocationResult | PlatformError) -> None:
            self.answers[number] += 1
            if isinstance(answer, InvocationResult):
                assert answer.report.request_id == invocation.request_id
                self.outcomes[answer.report.outcome] += 1
            else:
                self.outcomes[type(answer).__name__] += 1

        self.stack.invoker.submit(invocation, done)
        busy = sum(e.in_flight for e in self.stack.host.environments())
        assert busy <= self.stack.limit

    async def faults(self) -> None:
        driver = self.stack.driver
        for turn in range(60):
            await asyncio.sleep(0.1)
            if driver.live and self.random.random() < 0.7:
                name = self.random.choice(sorted(driver.live))
                driver.live[name].die(SandboxExit(self.random.choice([0, 1, -9, -11])))
            if self.random.random() < 0.2:
                driver.failures.append(SandboxError("chance"))
            driver.inits.extend(self.random.choices(["0.05", "error", "exit"], [6, 1, 1], k=1))
            if self.random.random() < 0.1:
                which = self.random.randrange(len(self.functions))
                new = replace(self.functions[which], revision_id=f"r{turn}")
                self.functions[which] = self.stack.view.put(new)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_invocation_is_answered_once_whatever_dies(seed: int) -> None:
    def make(loop: SimLoop) -> OneWorker:
        worker = WorkerSettings(default_isolation=Isolation.MEMORY, memory_budget_mib=20 * 32)
        return OneWorker(loop, limit=30, worker=worker, frontend=FrontendSettings())

    async def main(loop: SimLoop) -> Chaos:
        async with make(loop).running() as stack:
            chaos = Chaos(stack, seed)
            await chaos.run()
            assert stack.invoker.running == 0
            assert stack.telemetry.waiting == 0
            assert all(e.in_flight == 0 for e in stack.host.environments())
            assert len(stack.telemetry.reports) == len(stack.logs.reports)
            return chaos

    chaos = simulate(main)
    assert set(chaos.answers.values()) == {1}
    assert len(chaos.answers) == chaos.sent == 1600
    assert chaos.outcomes["success"] > 400
    assert chaos.outcomes["crash"] > 0


def test_the_same_seed_gives_the_same_outcomes() -> None:
    def once() -> Counter[str]:
        async def main(loop: SimLoop) -> Counter[str]:
            async with OneWorker(loop, limit=30).running() as stack:
                chaos = Chaos(stack, 7)
                await chaos.run()
                return chaos.outcomes

        return simulate(main)

    assert once() == once()
