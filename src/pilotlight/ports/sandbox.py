"""What a sandbox driver must do. The suite in ``pilotlight.testing.sandbox_suite`` proves it.

A driver makes *sandboxes*. A sandbox holds a runtime that speaks the frames of
``pilotlight_guest.frames`` on its channel; when `SandboxDriver.create` returns, the function's
code is at ``/var/task`` and the runtime waits for its INIT frame. Everything that comes out of a
sandbox is hostile: its frames, its log bytes, its exit status.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from pilotlight.model.function import Isolation
from pilotlight.model.ids import AccountId, Digest, EnvironmentId, RuntimeName


class Network(StrEnum):
    """What a sandbox can reach. Only ``none`` (its own loopback) exists so far."""

    NONE = "none"


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """All a driver needs to make one sandbox. Units are in the names.

    Attributes:
        runtime: a runtime this host has (already resolved, never a substitute's original name).
        cpu_millis: thousandths of a CPU the sandbox is entitled to when CPUs are scarce.
        ephemeral_mib: size of its private ``/tmp``.
        code: digest of the package whose unpacked tree appears read-only at ``/var/task``; the
            tree is already in the worker's code cache.
        layers: name of the tree that appears read-only at ``/opt``, in the same cache; None leaves
            ``/opt`` empty.
    """

    id: EnvironmentId
    tenant: AccountId
    runtime: RuntimeName
    memory_mib: int
    cpu_millis: int
    ephemeral_mib: int
    code: Digest
    layers: Digest | None = None
    network: Network = Network.NONE
    pids_max: int = 1024


@dataclass(frozen=True, slots=True)
class SandboxExit:
    """How a sandbox ended.

    Attributes:
        exit_code: exit status of the runtime process, or minus the signal that ended it
            (as `subprocess` does).
        oom_killed: the kernel killed a process of the sandbox for its memory limit.
    """

    exit_code: int
    oom_killed: bool = False


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """``exit`` is None while the sandbox runs."""

    id: EnvironmentId
    exit: SandboxExit | None


@dataclass(frozen=True, slots=True)
class SandboxStart:
    """How a sandbox came to be.

    Attributes:
        how: ``blank`` (claimed from the pool), ``fork`` (from a zygote), ``spawn``.
        phases_us: microseconds by step, for the cold-start breakdown.
    """

    how: str
    phases_us: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SandboxUsage:
    """Resources used so far; a value the driver cannot measure is 0."""

    peak_memory_bytes: int = 0
    cpu_ns: int = 0


class Sandbox(Protocol):
    """One living sandbox. The worker that asked for it owns channel and log descriptor."""

    @property
    def id(self) -> EnvironmentId:
        """Identity given in the spec."""
        ...

    @property
    def start(self) -> SandboxStart:
        """How it came to be."""
        ...

    @property
    def channel(self) -> socket.socket:
        """Stream socket to the runtime, non-blocking. End of file means that it died."""
        ...

    @property
    def log_fd(self) -> int:
        """Read end, non-blocking, of the pipe behind the runtime's stdout and stderr."""
        ...

    def usage(self) -> SandboxUsage:
        """Read counters; costs a few microseconds, never blocks, never raises."""
        ...

    def freeze(self) -> None:
        """Stop all its processes until `thaw`. Idempotent, immediate; a no-op where impossible."""
        ...

    def thaw(self) -> None:
        """Undo `freeze`. Idempotent; on return the processes run or are about to."""
        ...

    async def wait(self) -> SandboxExit:
        """Return once the sandbox is dead, also after `SandboxDriver.destroy`."""
        ...


@runtime_checkable
class SandboxDriver(Protocol):
    """Makes, watches and removes sandboxes on one worker host.

    Every method is idempotent on the id, may be cancelled at any await, and leaves no host
    resource behind when it raises or is cancelled.
    """

    @property
    def isolation(self) -> Isolation:
        """What kind of sandbox this driver makes."""
        ...

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """Return once the sandbox is closed, has its code, and its runtime waits for INIT.

        A second call with the same id returns the same sandbox.

        Raises:
            SandboxError: it could not be made; nothing is left behind.
            IsolationMissing: the host cannot give this isolation.
        """
        ...

    async def poll(self, sandbox: EnvironmentId) -> SandboxStatus | None:
        """Status now; None when the driver has no such sandbox."""
        ...

    async def destroy(self, sandbox: EnvironmentId, *, grace_s: float = 0.0) -> None:
        """Return once all is gone: processes, mounts, cgroups, descriptors.

        The sandbox's channel and log descriptor are closed too. Unknown ids are not an error.
        With a grace the runtime gets SIGTERM first. Works on frozen sandboxes.
        """
        ...

    async def adopt(self) -> tuple[EnvironmentId, ...]:
        """Find what outlived a former worker of this data directory.

        Re-attaches what can be re-attached and returns its ids; destroys and reports the rest.
        """
        ...

    async def aclose(self) -> None:
        """Destroy all sandboxes and end the driver's own processes. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class BlankClass:
    """What blank sandboxes of one pool have in common; a claim fits only its own class."""

    tenant: AccountId
    runtime: RuntimeName
    network: Network = Network.NONE


@runtime_checkable
class KeepsBlanks(Protocol):
    """A driver that keeps sandboxes isolated beforehand, waiting for code."""

    async def keep_blanks(self, kind: BlankClass, count: int) -> None:
        """Set how many blanks of a class are kept ready; refilled in the background after a claim.

        Returns once the class has been filled for the first time. 0 removes them.
        """
        ...

    def blanks(self) -> Mapping[BlankClass, int]:
        """Blanks ready now."""
        ...
