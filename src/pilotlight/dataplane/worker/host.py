"""The worker: makes environments, watches them, and removes what has ended.

One task for each environment waits for what takes time (code, sandbox, init, death); invocations
never touch it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

from pilotlight.dataplane.worker.hosted import HostedEnvironment, Surroundings
from pilotlight.dataplane.worker.settings import WorkerSettings
from pilotlight.dataplane.worker.start import NotStarted, Starter
from pilotlight.dataplane.worker.timers import Timers
from pilotlight.kernel.service import every
from pilotlight.model.environment import EnvironmentState as S
from pilotlight.model.errors import IsolationMissing, PlatformError, SandboxError
from pilotlight.model.function import FunctionVersion, Isolation
from pilotlight.model.ids import Digest, EnvironmentId
from pilotlight.ports.clock import Clock
from pilotlight.ports.code import CodeCache
from pilotlight.ports.placement import NoCapacity
from pilotlight.ports.runtimes import Runtimes
from pilotlight.ports.sandbox import BlankClass, Sandbox, SandboxDriver
from pilotlight.ports.sealing import Sealer
from pilotlight.ports.telemetry import LogSink, Telemetry
from pilotlight.ports.worker import (
    EnvironmentOrder,
    EnvironmentOwner,
    EnvironmentStatus,
    StartFailure,
    StartFault,
    WorkerLoad,
)

log = logging.getLogger(__name__)

_LAST_WORDS_S = 0.25
"""How long what a dead sandbox sent before may still be read: a surviving child of an unconfined
runtime can keep the channel open for ever."""


class WorkerHost:
    """A `WorkerLink` for its own process, and a `Part`.

    Args:
        drivers: by the isolation they give; a function never gets another than it asked for.
        sealer: opens the environment variables of functions.
        available_mib: reads the host's available memory; None switches the pressure watch off.
        sandbox_wanted: told of the class of every sandbox that is asked for, so that the warm
            pool manager knows which blanks are in use.
    """

    def __init__(
        self,
        drivers: Mapping[Isolation, SandboxDriver],
        cache: CodeCache,
        runtimes: Runtimes,
        logs: LogSink,
        telemetry: Telemetry,
        clock: Clock,
        settings: WorkerSettings,
        *,
        sealer: Sealer,
        available_mib: Callable[[], int] | None = None,
        sandbox_wanted: Callable[[BlankClass], None] | None = None,
    ) -> None:
        self.name = "worker"
        self._drivers = dict(drivers)
        self._cache = cache
        self._starter = Starter(cache, runtimes, telemetry, clock, settings, sandbox_wanted, sealer)
        self._logs = logs
        self._telemetry = telemetry
        self._clock = clock
        self._settings = settings
        self._available_mib = available_mib
        self._environments: dict[EnvironmentId, HostedEnvironment] = {}
        self._charged_mib = 0
        self._fences: dict[str, int] = {}
        self._group: asyncio.TaskGroup | None = None
        self._around: Surroundings | None = None

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until cancelled; then remove every environment and close the drivers."""
        loop = asyncio.get_running_loop()
        timers = Timers(
            self._clock,
            loop,
            freeze_after_s=self._settings.freeze_after_s,
            keep_alive_s=self._settings.keep_alive_s,
        )
        self._around = Surroundings(
            self._settings, self._clock, self._logs, self._telemetry, timers
        )
        try:
            await self._adopt()
            async with asyncio.TaskGroup() as group:
                self._group = group
                ready()
                await every(self._settings.pressure_period_s, self._relieve)
        finally:
            self._group = None
            timers.close()
            for driver in self._drivers.values():
                await driver.aclose()

    @property
    def worker(self) -> str:
        """Identity of this worker."""
        return self._settings.worker

    def start(self, order: EnvironmentOrder, owner: EnvironmentOwner) -> None:
        """Begin an environment; see `WorkerLink`."""
        if self._group is None or self._around is None or self._is_stale(order):
            error = PlatformError("this worker takes no new environments for this frontend")
            owner.start_failed(StartFailure(StartFault.STALE, error, is_retryable=True))
            return
        charge_mib = self._settings.charge_mib(order.function.memory_mib)
        if not self._make_room(charge_mib):
            owner.start_failed(self._no_room(order.function))
            return
        self._charged_mib += charge_mib
        hosted = HostedEnvironment(order, owner, self._around)
        self._environments[order.id] = hosted
        self._group.create_task(self._attend(hosted), name=f"environment {order.id}")

    def states(self) -> Mapping[str, int]:
        """How many environments are in which state; for metrics."""
        found = Counter(hosted.life.phase for hosted in self._environments.values())
        return {state: found[state] for state in S if state is not S.DEAD}

    def load(self) -> WorkerLoad:
        """Load now."""
        evictable_mib = sum(
            self._settings.charge_mib(e.order.function.memory_mib)
            for e in self._environments.values()
            if e.life.phase is S.IDLE
        )
        return WorkerLoad(
            worker=self._settings.worker,
            zone=self._settings.zone,
            isolations=frozenset(self._drivers),
            budget_mib=self._settings.memory_budget_mib,
            charged_mib=self._charged_mib,
            evictable_mib=evictable_mib,
            environments=len(self._environments),
            is_open=self._group is not None,
        )

    def has_code(self, code: Digest) -> bool:
        """Whether the cache holds the package."""
        return self._cache.is_cached(code)

    async def fence(self, frontend: str, epoch: int) -> None:
        """Refuse everything of a frontend below ``epoch``; see `WorkerLink`.

        Running invocations go on to their end or timeout.
        """
        self._fences[frontend] = max(epoch, self._fences.get(frontend, 0))
        old = [e for e in self._environments.values() if self._is_stale(e.order)]
        for hosted in old:
            hosted.retire_now()
        for hosted in old:
            await hosted.ended.wait()

    def environments(self) -> tuple[EnvironmentStatus, ...]:
        """All environments of this worker."""
        return tuple(
            hosted.status(isolation=self._isolation(hosted.order.function))
            for hosted in self._environments.values()
        )

    # Room.

    def _is_stale(self, order: EnvironmentOrder) -> bool:
        return order.epoch < self._fences.get(order.frontend, 0)

    def _make_room(self, charge_mib: int) -> bool:
        """Evict idle environments, the longest idle first, until the charge fits."""
        if self._around is None:
            return False
        missing_mib = self._charged_mib + charge_mib - self._settings.memory_budget_mib
        for idle in self._around.timers.longest_idle() if missing_mib > 0 else ():
            if isinstance(idle, HostedEnvironment):
                missing_mib -= self._settings.charge_mib(idle.order.function.memory_mib)
                self._evict(idle)
            if missing_mib <= 0:
                break
        return missing_mib <= 0

    def _evict(self, hosted: HostedEnvironment) -> None:
        """End an idle environment; its charge is gone at once, its memory a moment later."""
        self._discharge(hosted)
        hosted.retire_now()

    def _discharge(self, hosted: HostedEnvironment) -> None:
        if self._environments.pop(hosted.id, None) is not None:
            self._charged_mib -= self._settings.charge_mib(hosted.order.function.memory_mib)

    def _no_room(self, function: FunctionVersion) -> StartFailure:
        error = NoCapacity(
            f"worker {self._settings.worker} has no memory for another environment of "
            f"{function.memory_mib} MB: {self._charged_mib} of "
            f"{self._settings.memory_budget_mib} MiB are in use. Try again when others have ended."
        )
        return StartFailure(StartFault.CAPACITY, error, is_retryable=True)

    async def _relieve(self) -> None:
        """Under memory pressure end one eighth of the idle environments, longest idle first."""
        if self._available_mib is None or self._around is None:
            return
        if self._available_mib() >= self._settings.low_memory_mib:
            return
        idle = [e for e in self._around.timers.longest_idle() if isinstance(e, HostedEnvironment)]
        for hosted in idle[: max(1, len(idle) // 8)]:
            log.info("environment_evicted", extra={"environment": hosted.id, "why": "memory"})
            self._evict(hosted)

    # The life of one environment.

    async def _adopt(self) -> None:
        for driver in self._drivers.values():
            for found in await driver.adopt():
                # Its frontend's memory of it is gone (D8), so it can't be owned again.
                log.info("leftover_destroyed", extra={"environment": found})
                await driver.destroy(found)

    def _isolation(self, function: FunctionVersion) -> Isolation:
        return function.isolation or self._settings.default_isolation

    async def _attend(self, hosted: HostedEnvironment) -> None:
        driver = self._drivers.get(self._isolation(hosted.order.function))
        try:
            if driver is None:
                hosted.failed(self._no_isolation(hosted.order.function))
                return
            await self._watch(hosted, await self._starter.bring_up(hosted, driver))
        except NotStarted as stopped:
            hosted.failed(stopped.failure)
        finally:
            await self._bury(hosted, driver)

    async def _watch(self, hosted: HostedEnvironment, sandbox: Sandbox) -> None:
        """Wait for the end of init, then for the end of the environment."""
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(_note_exit(hosted, sandbox))
            try:
                async with asyncio.timeout(self._init_limit_s(hosted)):
                    await hosted.started.wait()
            except TimeoutError:
                hosted.init_took_too_long()
            await hosted.ended.wait()
            if hosted.life.phase is not S.DEAD:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.exit_wait_s):
                        await asyncio.wait({watcher})
                hosted.died()
            watcher.cancel()

    def _init_limit_s(self, hosted: HostedEnvironment) -> float:
        if hosted.order.invocation is not None:
            return float(hosted.order.function.timeout_s)
        return hosted.order.init_limit_s

    async def _bury(self, hosted: HostedEnvironment, driver: SandboxDriver | None) -> None:
        """Remove the sandbox; the channel is closed before, for the driver closes its socket."""
        if hosted.life.phase is S.CREATING:
            hosted.retire_now()
        elif hosted.life.phase is not S.DEAD:  # cancelled: the worker stops
            hosted.died()
        channel = hosted.release()
        try:
            if channel is not None:
                channel.abort()
                await channel.closed.wait()
            if driver is not None:
                await driver.destroy(hosted.id)
        except SandboxError:
            self._telemetry.platform_failure("sandbox", "destroy")
            log.exception("sandbox_not_removed", extra={"environment": hosted.id})
        finally:
            self._starter.gone(hosted)
            self._discharge(hosted)

    def _no_isolation(self, function: FunctionVersion) -> StartFailure:
        wanted = self._isolation(function)
        have = ", ".join(sorted(self._drivers)) or "none"
        error = IsolationMissing(
            f"function {function.name} asks for isolation {wanted.value!r}, which this worker "
            f"does not give (it gives: {have}). `pilotlight doctor` says what is missing; "
            "isolation is never downgraded."
        )
        return StartFailure(StartFault.ISOLATION, error)


async def _note_exit(hosted: HostedEnvironment, sandbox: Sandbox) -> None:
    """Keep how the sandbox ended; what it sent before is read first."""
    hosted.exit = await sandbox.wait()
    channel = hosted.channel
    if channel is not None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await channel.closed.wait()
    hosted.channel_closed()
