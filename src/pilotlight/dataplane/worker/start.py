"""The steps by which an environment comes to be: runtime, code, sandbox, channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from pilotlight.dataplane.worker.channel import Channel
from pilotlight.dataplane.worker.hosted import HostedEnvironment
from pilotlight.dataplane.worker.logpipe import LineCutter, LogPipe
from pilotlight.dataplane.worker.settings import WorkerSettings
from pilotlight.model.environment import EnvironmentState as S
from pilotlight.model.errors import ApiError, IsolationMissing, PlatformError, SandboxError
from pilotlight.model.function import FunctionVersion, merged_digest
from pilotlight.model.ids import Digest, EnvironmentId
from pilotlight.model.limits import MIB_PER_VCPU
from pilotlight.model.loglines import init_start_line
from pilotlight.ports.clock import Clock
from pilotlight.ports.code import CodeCache
from pilotlight.ports.runtimes import RuntimeChoice, Runtimes
from pilotlight.ports.sandbox import BlankClass, Sandbox, SandboxDriver, SandboxSpec
from pilotlight.ports.sealing import SealBroken, Sealer
from pilotlight.ports.telemetry import Telemetry
from pilotlight.ports.worker import StartFailure, StartFault
from pilotlight.wire.variables import opened


@runtime_checkable
class _PinsCode(Protocol):
    """A code cache that keeps what is in use."""

    def pin(self, code: Digest) -> None:
        """Keep a package that `CodeCache.ensure` just returned."""
        ...

    def unpin(self, code: Digest) -> None:
        """Give up one pin."""
        ...


class NotStarted(Exception):
    """Carries the failure out of the steps of a start."""

    def __init__(self, failure: StartFailure) -> None:
        super().__init__(str(failure.error))
        self.failure = failure


class Starter:
    """Carries out the steps; each raises `NotStarted` with what the owner must know."""

    def __init__(
        self,
        cache: CodeCache,
        runtimes: Runtimes,
        telemetry: Telemetry,
        clock: Clock,
        settings: WorkerSettings,
        sandbox_wanted: Callable[[BlankClass], None] | None,
        sealer: Sealer,
    ) -> None:
        self._sealer = sealer
        self._cache = cache
        self._runtimes = runtimes
        self._telemetry = telemetry
        self._clock = clock
        self._settings = settings
        self._sandbox_wanted = sandbox_wanted
        self._pinned: dict[EnvironmentId, list[Digest]] = {}

    async def bring_up(self, hosted: HostedEnvironment, driver: SandboxDriver) -> Sandbox:
        """Make sandbox and channel and send INIT.

        Raises:
            NotStarted: with what the owner must know; the sandbox may be there and must go.
        """
        try:
            async with asyncio.timeout(self._settings.create_limit_s):
                spec = await self._prepare(hosted)
                own = self._variables(hosted.order.function)
                sandbox = await self._create(hosted, driver, spec)
                await self._connect(hosted, sandbox)
        except TimeoutError:
            error = SandboxError(
                f"the sandbox was not ready after {self._settings.create_limit_s:.0f} s"
            )
            failure = StartFailure(StartFault.SANDBOX, error, is_retryable=True)
            raise NotStarted(failure) from None
        task_root, opt_root = getattr(driver, "task_root", None), getattr(driver, "opt_root", None)
        hosted.send_init_frame(
            own,
            task_root(spec) if callable(task_root) else "/var/task",
            opt_root(spec) if callable(opt_root) else "/opt",
        )
        return sandbox

    def gone(self, hosted: HostedEnvironment) -> None:
        """The environment is gone: its code need not be kept for it. Idempotent."""
        for tree in self._pinned.pop(hosted.id, ()):
            if isinstance(self._cache, _PinsCode):
                self._cache.unpin(tree)

    def _variables(self, function: FunctionVersion) -> Mapping[str, str]:
        try:
            return opened(function, self._sealer) or {}
        except SealBroken as error:
            raise NotStarted(StartFailure(StartFault.CODE, error)) from error

    async def _prepare(self, hosted: HostedEnvironment) -> SandboxSpec:
        function = hosted.order.function
        choice = self._runtimes.choose(function.runtime) if function.runtime else None
        if choice is None:
            error = missing_runtime(function.runtime)
            raise NotStarted(StartFailure(StartFault.RUNTIME, error))
        hosted.journal.line(_init_start(choice, function))
        spec = _spec(hosted.order.id, function, choice)
        if self._sandbox_wanted is not None:
            self._sandbox_wanted(BlankClass(spec.tenant, spec.runtime, spec.network))
        began_s = self._clock.monotonic()
        try:
            await self._cache.ensure(spec.code, spec.runtime)
            self._pin(hosted, spec.code)
            if spec.layers is not None:
                packages = hosted.order.function.layer_packages
                await self._cache.ensure_merged(packages, spec.runtime)
                self._pin(hosted, spec.layers)
        except KeyError:
            error = ApiError(
                "CodeArtifactUserFailedException",
                f"The code package of {function.name} ({function.code.sha256}) or of one of its "
                "layers is missing from storage. Upload it again.",
            )
            raise NotStarted(StartFailure(StartFault.CODE, error)) from None
        except PlatformError as error:
            raise NotStarted(StartFailure(StartFault.CODE, error)) from error
        except (OSError, RuntimeError) as error:
            self._telemetry.platform_failure("codecache", type(error).__name__)
            told = SandboxError(f"the code of {function.name} could not be unpacked: {error}")
            raise NotStarted(StartFailure(StartFault.CODE, told, is_retryable=True)) from error
        hosted.meter.phases_us["fetch"] = int((self._clock.monotonic() - began_s) * 1e6)
        return spec

    async def _create(
        self, hosted: HostedEnvironment, driver: SandboxDriver, spec: SandboxSpec
    ) -> Sandbox:
        began_s = self._clock.monotonic()
        try:
            sandbox = await driver.create(spec)
        except IsolationMissing as error:
            raise NotStarted(StartFailure(StartFault.ISOLATION, error)) from error
        except (PlatformError, OSError) as error:
            self._telemetry.platform_failure("sandbox", type(error).__name__)
            told = (
                error
                if isinstance(error, PlatformError)
                else SandboxError(f"the sandbox could not be made: {error}")
            )
            failure = StartFailure(StartFault.SANDBOX, told, is_retryable=told.retryable)
            raise NotStarted(failure) from error
        took_us = int((self._clock.monotonic() - began_s) * 1e6)
        runtime_us = sandbox.start.phases_us.get("runtime", 0)
        if runtime_us:
            hosted.meter.phases_us["runtime"] = runtime_us
        hosted.meter.phases_us["sandbox"] = max(0, took_us - runtime_us)
        return sandbox

    async def _connect(self, hosted: HostedEnvironment, sandbox: Sandbox) -> None:
        if hosted.life.phase is not S.CREATING:  # retired while it was made
            raise NotStarted(
                StartFailure(StartFault.STALE, SandboxError("retired"), is_retryable=True)
            )
        loop = asyncio.get_running_loop()
        try:
            _, channel = await loop.create_connection(lambda: Channel(hosted), sock=sandbox.channel)
        except OSError as error:
            failure = SandboxError(f"the sandbox's channel can't be used: {error}")
            raise NotStarted(
                StartFailure(StartFault.SANDBOX, failure, is_retryable=True)
            ) from error
        cutter = LineCutter(
            hosted.journal.line,
            rate=self._settings.log_bytes_per_s,
            burst=self._settings.log_burst_bytes,
        )
        pipe = LogPipe(sandbox.log_fd, cutter, self._clock.monotonic, loop)
        hosted.sandbox_ready(sandbox, channel, pipe)

    def _pin(self, hosted: HostedEnvironment, tree: Digest) -> None:
        if isinstance(self._cache, _PinsCode):
            self._cache.pin(tree)
            self._pinned.setdefault(hosted.id, []).append(tree)


def _spec(identity: EnvironmentId, function: FunctionVersion, choice: RuntimeChoice) -> SandboxSpec:
    return SandboxSpec(
        id=identity,
        tenant=function.account,
        runtime=choice.runtime.name,
        memory_mib=function.memory_mib,
        cpu_millis=max(1, function.memory_mib * 1000 // MIB_PER_VCPU),
        ephemeral_mib=function.ephemeral_mib,
        code=function.code.package,
        layers=merged_digest(function.layer_packages) if function.layers else None,
    )


def _init_start(choice: RuntimeChoice, function: FunctionVersion) -> str:
    text = f"{choice.runtime.name} ({choice.runtime.version})"
    return init_start_line(text, wanted=function.runtime if choice.substituted else None)


def missing_runtime(runtime: str | None) -> ApiError:
    """What a caller is told when this host can't run the function's runtime."""
    remedy = (
        "Add an interpreter with `pilotlight runtime add PATH` and start Pilotlight again, or choose"
        if (runtime or "").startswith("python3.")
        else "Pilotlight runs Python so far: choose"
    )
    return ApiError(
        "InvalidRuntimeException",
        f"This host has no runtime {runtime!r} and runs nothing in its place. {remedy} a runtime "
        "that `pilotlight runtime ls` shows.",
    )
