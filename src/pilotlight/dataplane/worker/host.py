"""The worker: makes environments, watches them, and removes what has ended.

One task for each environment waits for what takes time (code, sandbox, init, death); invocations
never touch it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol, runtime_checkable

from pilotlight.dataplane.worker.channel import Channel
from pilotlight.dataplane.worker.hosted import HostedEnvironment, Surroundings, missing_runtime
from pilotlight.dataplane.worker.logpipe import LineCutter, LogPipe
from pilotlight.dataplane.worker.settings import WorkerSettings
from pilotlight.dataplane.worker.timers import Timers
from pilotlight.kernel.service import every
from pilotlight.model.environment import EnvironmentState as S
from pilotlight.model.errors import ApiError, IsolationMissing, PlatformError, SandboxError
from pilotlight.model.function import FunctionVersion, Isolation
from pilotlight.model.ids import Digest, EnvironmentId
from pilotlight.model.limits import MIB_PER_VCPU
from pilotlight.model.loglines import init_start_line
from pilotlight.ports.clock import Clock
from pilotlight.ports.code import CodeCache
from pilotlight.ports.placement import NoCapacity
from pilotlight.ports.runtimes import RuntimeChoice, Runtimes
from pilotlight.ports.sandbox import BlankClass, Sandbox, SandboxDriver, SandboxSpec
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


@runtime_checkable
class _PinsCode(Protocol):
    """A code cache that keeps what is in use."""

    def pin(self, code: Digest) -> None:
        """Keep a package that `CodeCache.ensure` just returned."""
        ...

    def unpin(self, code: Digest) -> None:
        """Give up one pin."""
        ...


class _NotStarted(Exception):
    """Carries the failure out of the steps of a start."""

    def __init__(self, failure: StartFailure) -> None:
        super().__init__(str(failure.error))
        self.failure = failure


class WorkerHost:
    """A `WorkerLink` for its own process, and a `Part`.

    Args:
        drivers: by the isolation they give; a function never gets another than it asked for.
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
        available_mib: Callable[[], int] | None = None,
        sandbox_wanted: Callable[[BlankClass], None] | None = None,
    ) -> None:
        self.name = "worker"
        self._drivers = dict(drivers)
        self._cache = cache
        self._runtimes = runtimes
        self._logs = logs
        self._telemetry = telemetry
        self._clock = clock
        self._settings = settings
        self._available_mib = available_mib
        self._sandbox_wanted = sandbox_wanted
        self._environments: dict[EnvironmentId, HostedEnvironment] = {}
        self._charged_mib = 0
        self._pinned: set[EnvironmentId] = set()
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
            sandbox = await self._bring_up(hosted, driver)
            if sandbox is not None:
                await self._watch(hosted, sandbox)
        finally:
            await self._bury(hosted, driver)

    async def _bring_up(self, hosted: HostedEnvironment, driver: SandboxDriver) -> Sandbox | None:
        """Make sandbox and channel; None when that failed and the owner has been told."""
        try:
            async with asyncio.timeout(self._settings.create_limit_s):
                spec = await self._prepare(hosted)
                sandbox = await self._create(hosted, driver, spec)
                await self._connect(hosted, sandbox)
        except _NotStarted as stopped:
            hosted.failed(stopped.failure)
            return None
        except TimeoutError:
            error = SandboxError(
                f"the sandbox was not ready after {self._settings.create_limit_s:.0f} s"
            )
            hosted.failed(StartFailure(StartFault.SANDBOX, error, is_retryable=True))
            return None
        task_root = getattr(driver, "task_root", None)
        hosted.send_init_frame(task_root(spec) if callable(task_root) else "/var/task")
        return sandbox

    async def _prepare(self, hosted: HostedEnvironment) -> SandboxSpec:
        function = hosted.order.function
        choice = self._runtimes.choose(function.runtime) if function.runtime else None
        if choice is None:
            error = missing_runtime(function.runtime)
            raise _NotStarted(StartFailure(StartFault.RUNTIME, error))
        hosted.write_line(_init_start(choice, function))
        spec = _spec(hosted.order.id, function, choice)
        if self._sandbox_wanted is not None:
            self._sandbox_wanted(BlankClass(spec.tenant, spec.runtime, spec.network))
        began_s = self._clock.monotonic()
        try:
            await self._cache.ensure(spec.code, spec.runtime)
            self._pin(hosted)
        except KeyError:
            error = ApiError(
                "CodeArtifactUserFailedException",
                f"The code package of {function.name} ({function.code.sha256}) is missing from "
                "storage. Upload it again with UpdateFunctionCode.",
            )
            raise _NotStarted(StartFailure(StartFault.CODE, error)) from None
        except PlatformError as error:
            raise _NotStarted(StartFailure(StartFault.CODE, error)) from error
        except (OSError, RuntimeError) as error:
            self._telemetry.platform_failure("codecache", type(error).__name__)
            told = SandboxError(f"the code of {function.name} could not be unpacked: {error}")
            raise _NotStarted(StartFailure(StartFault.CODE, told, is_retryable=True)) from error
        hosted.phases_us["fetch"] = int((self._clock.monotonic() - began_s) * 1e6)
        return spec

    async def _create(
        self, hosted: HostedEnvironment, driver: SandboxDriver, spec: SandboxSpec
    ) -> Sandbox:
        began_s = self._clock.monotonic()
        try:
            sandbox = await driver.create(spec)
        except IsolationMissing as error:
            raise _NotStarted(StartFailure(StartFault.ISOLATION, error)) from error
        except (PlatformError, OSError) as error:
            self._telemetry.platform_failure("sandbox", type(error).__name__)
            told = (
                error
                if isinstance(error, PlatformError)
                else SandboxError(f"the sandbox could not be made: {error}")
            )
            failure = StartFailure(StartFault.SANDBOX, told, is_retryable=told.retryable)
            raise _NotStarted(failure) from error
        took_us = int((self._clock.monotonic() - began_s) * 1e6)
        runtime_us = sandbox.start.phases_us.get("runtime", 0)
        if runtime_us:
            hosted.phases_us["runtime"] = runtime_us
        hosted.phases_us["sandbox"] = max(0, took_us - runtime_us)
        return sandbox

    async def _connect(self, hosted: HostedEnvironment, sandbox: Sandbox) -> None:
        if hosted.life.phase is not S.CREATING:  # retired while it was made
            raise _NotStarted(
                StartFailure(StartFault.STALE, SandboxError("retired"), is_retryable=True)
            )
        loop = asyncio.get_running_loop()
        try:
            _, channel = await loop.create_connection(lambda: Channel(hosted), sock=sandbox.channel)
        except OSError as error:
            failure = SandboxError(f"the sandbox's channel can't be used: {error}")
            raise _NotStarted(
                StartFailure(StartFault.SANDBOX, failure, is_retryable=True)
            ) from error
        cutter = LineCutter(
            hosted.write_line,
            rate=self._settings.log_bytes_per_s,
            burst=self._settings.log_burst_bytes,
        )
        pipe = LogPipe(sandbox.log_fd, cutter, self._clock.monotonic, loop)
        hosted.sandbox_ready(sandbox, channel, pipe)

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
            self._unpin(hosted)
            self._discharge(hosted)

    def _pin(self, hosted: HostedEnvironment) -> None:
        if isinstance(self._cache, _PinsCode):
            self._cache.pin(hosted.order.function.code.package)
            self._pinned.add(hosted.id)

    def _unpin(self, hosted: HostedEnvironment) -> None:
        if hosted.id in self._pinned and isinstance(self._cache, _PinsCode):
            self._pinned.discard(hosted.id)
            self._cache.unpin(hosted.order.function.code.package)

    def _no_isolation(self, function: FunctionVersion) -> StartFailure:
        wanted = self._isolation(function)
        have = ", ".join(sorted(self._drivers)) or "none"
        error = IsolationMissing(
            f"function {function.name} asks for isolation {wanted.value!r}, which this worker "
            f"does not give (it gives: {have}). `pilotlight doctor` says what is missing; "
            "isolation is never downgraded."
        )
        return StartFailure(StartFault.ISOLATION, error)


def _spec(identity: EnvironmentId, function: FunctionVersion, choice: RuntimeChoice) -> SandboxSpec:
    return SandboxSpec(
        id=identity,
        tenant=function.account,
        runtime=choice.runtime.name,
        memory_mib=function.memory_mib,
        cpu_millis=max(1, function.memory_mib * 1000 // MIB_PER_VCPU),
        ephemeral_mib=function.ephemeral_mib,
        code=function.code.package,
    )


def _init_start(choice: RuntimeChoice, function: FunctionVersion) -> str:
    text = f"{choice.runtime.name} ({choice.runtime.version})"
    return init_start_line(text, wanted=function.runtime if choice.substituted else None)


async def _note_exit(hosted: HostedEnvironment, sandbox: Sandbox) -> None:
    """Keep how the sandbox ended; what it sent before is read first."""
    hosted.exit = await sandbox.wait()
    channel = hosted.channel
    if channel is not None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await channel.closed.wait()
    hosted.channel_closed()
