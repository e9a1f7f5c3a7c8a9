"""Frontend, placement and one worker with scripted sandboxes, ready for a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pilotlight.control.placement import PlacementService
from pilotlight.dataplane.frontend import FrontendInvoker, FrontendSettings
from pilotlight.dataplane.worker import WorkerHost, WorkerSettings
from pilotlight.kernel.service import Part, run_parts
from pilotlight.model.errors import PlatformError
from pilotlight.model.function import FunctionVersion, Isolation
from pilotlight.model.invocation import InvocationResult
from pilotlight.ports.clock import Clock
from pilotlight.testing.scripted import (
    CachedCode,
    CountedIds,
    OneRuntime,
    OneView,
    RecordedLogs,
    RecordedStream,
    RecordedTelemetry,
    ScriptedDriver,
    an_invocation,
)
from pilotlight.testing.sealing import known_sealer


@dataclass
class OneWorker:
    """What a test of the invoke path needs; create it, then enter `running`."""

    clock: Clock
    limit: int = 1000
    frontend: FrontendSettings = field(default_factory=FrontendSettings)
    worker: WorkerSettings = field(
        default_factory=lambda: WorkerSettings(default_isolation=Isolation.MEMORY)
    )
    driver: ScriptedDriver = field(default_factory=ScriptedDriver)
    cache: CachedCode = field(default_factory=CachedCode)
    view: OneView = field(default_factory=OneView)
    logs: RecordedLogs = field(default_factory=RecordedLogs)
    telemetry: RecordedTelemetry = field(default_factory=RecordedTelemetry)
    available_mib: int = 10_000

    def __post_init__(self) -> None:
        self.host = WorkerHost(
            {Isolation.MEMORY: self.driver},
            self.cache,
            OneRuntime(),
            self.logs,
            self.telemetry,
            self.clock,
            self.worker,
            available_mib=lambda: self.available_mib,
            sealer=known_sealer(),
        )
        self.placement = PlacementService(
            [self.host],
            CountedIds(),
            lambda _account: self.limit,
            default_isolation=Isolation.MEMORY,
            charge_mib=self.worker.charge_mib,
        )
        self.invoker = FrontendInvoker(
            self.view,
            self.placement,
            {self.host.worker: self.host},
            self.telemetry,
            self.clock,
            self.frontend,
        )
        self._number = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[OneWorker]:
        """Run the parts; on leaving everything is ended and nothing may be left."""
        up = asyncio.Event()

        class Last:
            name = "last"

            async def run(self, ready: Callable[[], None]) -> None:
                ready()
                up.set()
                await asyncio.Event().wait()

        async with asyncio.TaskGroup() as group:
            parts: list[Part] = [self.host, self.placement, self.invoker, Last()]
            task = group.create_task(run_parts(parts, start_timeout_s=1e9))
            await up.wait()
            try:
                yield self
            finally:
                task.cancel()
        assert not self.driver.live, "a sandbox was left behind"

    async def invoke(
        self, function: FunctionVersion, event: object = None, *, wants_log: bool = False
    ) -> InvocationResult:
        """Invoke and wait."""
        self._number += 1
        return await self.invoker.invoke(
            an_invocation(
                function, self._number, event, now=self.clock.monotonic, wants_log=wants_log
            )
        )

    def submit(
        self, function: FunctionVersion, event: object = None
    ) -> list[InvocationResult | PlatformError]:
        """Invoke; the list gets the answer."""
        answers: list[InvocationResult | PlatformError] = []
        self._number += 1
        invocation = an_invocation(function, self._number, event, now=self.clock.monotonic)
        self.invoker.submit(invocation, answers.append)
        return answers

    def stream(self, function: FunctionVersion, event: object = None) -> RecordedStream:
        """Invoke and take the answer in pieces."""
        self._number += 1
        taker = RecordedStream()
        invocation = an_invocation(
            function, self._number, event, now=self.clock.monotonic, wants_stream=True
        )
        self.invoker.submit(invocation, taker)
        return taker
