"""The link between a frontend and a worker (decision D7).

A frontend owns environments: it alone sends them invocations, and every call carries the epoch
under which it was granted the environment. A worker refuses an older epoch. The direct
implementation is the worker's own objects; a network implementation speaks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pilotlight.model.environment import EnvironmentState
from pilotlight.model.errors import PlatformError
from pilotlight.model.function import FunctionVersion, Isolation
from pilotlight.model.ids import Digest, EnvironmentId
from pilotlight.model.invocation import Invocation, InvocationResult
from pilotlight.model.limits import INIT_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class EnvironmentOrder:
    """What a frontend asks a worker to start.

    Attributes:
        frontend: identity of the frontend that will own the environment.
        epoch: the frontend's epoch, as placement granted it.
        init_limit_s: longest init phase.
        invocation: set when init is repeated inside this invocation: the function's timeout then
            covers init and handler together, and a failure of init is the invocation's answer.
        placement_us: what the choice of the worker cost, for the cold-start breakdown.
    """

    id: EnvironmentId
    function: FunctionVersion
    frontend: str
    epoch: int
    init_limit_s: float = INIT_TIMEOUT_S
    invocation: Invocation | None = None
    placement_us: int = 0


class StartFault(StrEnum):
    """Why an environment did not start."""

    INIT = "init"
    """The function's init phase failed, ended the process or took too long."""
    SANDBOX = "sandbox"
    CODE = "code"
    RUNTIME = "runtime"
    ISOLATION = "isolation"
    CAPACITY = "capacity"
    STALE = "stale"
    """The epoch is over, or the worker is leaving."""


@dataclass(frozen=True, slots=True)
class StartFailure:
    """An environment that did not start; nothing is left of it.

    Attributes:
        error: what a caller is told when no other attempt is made.
        is_retryable: whether another attempt may end differently.
    """

    fault: StartFault
    error: PlatformError
    is_retryable: bool = False


class EnvironmentHandle(Protocol):
    """A started environment, for the frontend that owns it."""

    @property
    def id(self) -> EnvironmentId:
        """Identity given in the order."""
        ...

    def invoke(self, epoch: int, invocation: Invocation, waited_us: int) -> bool:
        """Send one invocation; its answer comes to the owner. Never blocks, never raises.

        Args:
            epoch: the owner's epoch.
            invocation: what to run.
            waited_us: how long it waited for this environment; > 0 makes it a cold start when it
                is the environment's first.

        Returns:
            False when the worker refused (old epoch, environment gone): nothing has started.
        """
        ...

    def credit(self, epoch: int, count: int) -> None:
        """Let the running invocation stream as many bytes more. Never blocks, never raises.

        To be called for every byte that `EnvironmentOwner.streamed` gave, once it was passed on or
        thrown away; a runtime stands still while nothing is.
        """
        ...

    def retire(self, epoch: int) -> None:
        """End the environment once its running invocations have ended. Idempotent."""
        ...


class EnvironmentOwner(Protocol):
    """What a frontend is told about one environment; every call comes on the loop."""

    def ready(self, environment: EnvironmentHandle) -> None:
        """Init is done. Not called for an order with an invocation that failed in init."""
        ...

    def start_failed(self, failure: StartFailure) -> None:
        """It will never be ready. The last call for this environment."""
        ...

    def answered(self, result: InvocationResult, *, has_logged: bool) -> None:
        """The oldest unanswered invocation ended, whatever its outcome."""
        ...

    def stream_began(self, content_type: str) -> None:
        """The oldest invocation wants a stream and answers with one.

        Its pieces follow by `streamed`, then `answered`, which says how it ended.
        """
        ...

    def streamed(self, chunk: bytes) -> None:
        """The next piece of that stream."""
        ...

    def lost(self) -> None:
        """The environment is gone: ended, killed or evicted. The last call for it.

        Invocations still unanswered were never begun and are safe to send elsewhere.
        """
        ...


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """What placement knows of a worker. Memory is what environments are charged with.

    Attributes:
        evictable_mib: part of ``charged_mib`` that idle environments hold.
        is_open: takes new environments (not draining).
    """

    worker: str
    zone: str
    isolations: frozenset[Isolation]
    budget_mib: int
    charged_mib: int
    evictable_mib: int
    environments: int
    is_open: bool


@dataclass(frozen=True, slots=True)
class EnvironmentStatus:
    """One environment, for people: ``GET environments`` and the console.

    Attributes:
        age_s: since its start was asked for.
        idle_s: since its last invocation ended; None while busy or starting.
    """

    id: EnvironmentId
    worker: str
    account: str
    function: str
    version: str
    runtime: str
    isolation: Isolation
    state: EnvironmentState
    is_frozen: bool
    frontend: str
    epoch: int
    memory_mib: int
    peak_memory_mib: int
    invocations: int
    in_flight: int
    age_s: float
    idle_s: float | None
    start: str
    log_stream: str


class WorkerLink(Protocol):
    """One worker, as frontends and placement reach it."""

    @property
    def worker(self) -> str:
        """Identity of the worker."""
        ...

    def start(self, order: EnvironmentOrder, owner: EnvironmentOwner) -> None:
        """Begin an environment; never blocks, never raises: the owner is told how it went."""
        ...

    def load(self) -> WorkerLoad:
        """Load as last heard."""
        ...

    def has_code(self, code: Digest) -> bool:
        """Whether the worker's cache holds the package."""
        ...

    async def fence(self, frontend: str, epoch: int) -> None:
        """Refuse everything of ``frontend`` below ``epoch``; return when none of it still runs."""
        ...

    def environments(self) -> tuple[EnvironmentStatus, ...]:
        """All environments of the worker."""
        ...
