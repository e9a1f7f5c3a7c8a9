"""The life of an execution environment, as a table: what may happen, and what to do then.

Pure: no clock, no I/O. The shell (`hosted`) turns frames, exits and timers into events and carries
out the instructions. States and events are few, so the table is compiled as it is used into `Node`s
that know where each event leads: a warm invocation costs two look-ups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pilotlight.kernel.fsm import Handler, Machine, Step
from pilotlight.model.environment import EnvironmentState as S

MAX_IN_FLIGHT = 4
"""One running invocation and at most three frames queued behind it (design, section 4)."""


@dataclass(frozen=True, slots=True)
class Life:
    """Where an environment stands.

    Attributes:
        in_flight: invocations sent and not answered; the first of them runs.
        is_frozen: its processes are stopped; only ever true when idle.
    """

    phase: S = S.CREATING
    in_flight: int = 0
    is_frozen: bool = False


# Events.
@dataclass(frozen=True, slots=True)
class SandboxReady:
    """The driver made the sandbox and its channel is open."""


@dataclass(frozen=True, slots=True)
class CreateFailed:
    """The driver could not make the sandbox, or there is no code or runtime for it."""


@dataclass(frozen=True, slots=True)
class InitDone:
    """The runtime answered INIT_DONE."""


@dataclass(frozen=True, slots=True)
class InitFailed:
    """The runtime answered INIT_ERROR, or the init phase took too long."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """The owner sends an invocation."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The runtime answered the running invocation."""


@dataclass(frozen=True, slots=True)
class IdleLong:
    """It has been idle for the time after which environments are frozen."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The running invocation reached its deadline."""


@dataclass(frozen=True, slots=True)
class Lied:
    """The runtime broke the protocol."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The sandbox is dead."""


@dataclass(frozen=True, slots=True)
class Retired:
    """It must end: keep-alive over, function updated, evicted, or the worker leaves."""


Event = (
    SandboxReady
    | CreateFailed
    | InitDone
    | InitFailed
    | Assigned
    | Answered
    | IdleLong
    | TimedOut
    | Lied
    | Exited
    | Retired
)
EVENTS: tuple[type[Event], ...] = (
    SandboxReady,
    CreateFailed,
    InitDone,
    InitFailed,
    Assigned,
    Answered,
    IdleLong,
    TimedOut,
    Lied,
    Exited,
    Retired,
)


# Instructions.
@dataclass(frozen=True, slots=True)
class SendInit:
    """Write the INIT frame and start the init limit."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Tell the owner that the environment is ready."""


@dataclass(frozen=True, slots=True)
class FailStart:
    """Tell the owner that the environment will never be ready."""


@dataclass(frozen=True, slots=True)
class Thaw:
    """Let the processes run."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """Stop the processes."""


@dataclass(frozen=True, slots=True)
class SendInvoke:
    """Write the INVOKE frame."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Give the owner the answer to the running invocation."""


@dataclass(frozen=True, slots=True)
class FailRunning:
    """Answer the running invocation with the reason of the death."""


@dataclass(frozen=True, slots=True)
class Rest:
    """Note the moment from which the environment is idle."""


@dataclass(frozen=True, slots=True)
class Destroy:
    """Tell the owner that the environment is lost and remove its sandbox."""


Instruction = (
    SendInit
    | Offer
    | FailStart
    | Thaw
    | Freeze
    | SendInvoke
    | Deliver
    | FailRunning
    | Rest
    | Destroy
)

_DEAD = Life(S.DEAD)


def _to(phase: S, *instructions: Instruction) -> Handler[Life, Any, Instruction]:
    step = Step(Life(phase), instructions)
    return lambda _life, _event: step


def _assign(life: Life, _: object) -> Step[Life, Instruction]:
    after = Life(S.BUSY, life.in_flight + 1)
    return Step(after, (Thaw(), SendInvoke()) if life.is_frozen else (SendInvoke(),))


def _answer(life: Life, _: object) -> Step[Life, Instruction]:
    left = life.in_flight - 1
    if left:
        return Step(Life(S.BUSY, left), (Deliver(),))
    return Step(Life(S.IDLE), (Rest(), Deliver()))


def _answer_draining(life: Life, _: object) -> Step[Life, Instruction]:
    left = life.in_flight - 1
    if left:
        return Step(Life(S.DRAINING, left), (Deliver(),))
    return Step(_DEAD, (Deliver(), Destroy()))


def _freeze(life: Life, _: object) -> Step[Life, Instruction]:
    if life.is_frozen:
        return Step(life)
    return Step(Life(S.IDLE, is_frozen=True), (Freeze(),))


def _drain(life: Life, _: object) -> Step[Life, Instruction]:
    return Step(Life(S.DRAINING, life.in_flight))


def _stay(life: Life, _: object) -> Step[Life, Instruction]:
    return Step(life)


_fail_start = _to(S.DEAD, FailStart(), Destroy())
_fail_running = _to(S.DEAD, FailRunning(), Destroy())
_end = _to(S.DEAD, Destroy())

_TABLE: Mapping[tuple[str, type[Event]], Handler[Life, Event, Instruction]] = {
    (S.CREATING, SandboxReady): _to(S.INITIALIZING, SendInit()),
    (S.CREATING, CreateFailed): _fail_start,
    (S.CREATING, Retired): _fail_start,
    (S.INITIALIZING, InitDone): _to(S.IDLE, Rest(), Offer()),
    (S.INITIALIZING, InitFailed): _fail_start,
    (S.INITIALIZING, Lied): _fail_start,
    (S.INITIALIZING, Exited): _fail_start,
    (S.INITIALIZING, Retired): _fail_start,
    (S.IDLE, Assigned): _assign,
    (S.IDLE, IdleLong): _freeze,
    (S.IDLE, Lied): _end,
    (S.IDLE, Exited): _end,
    (S.IDLE, Retired): _end,
    (S.BUSY, Assigned): _assign,
    (S.BUSY, Answered): _answer,
    (S.BUSY, TimedOut): _fail_running,
    (S.BUSY, Lied): _fail_running,
    (S.BUSY, Exited): _fail_running,
    (S.BUSY, Retired): _drain,
    (S.DRAINING, Answered): _answer_draining,
    (S.DRAINING, TimedOut): _fail_running,
    (S.DRAINING, Lied): _fail_running,
    (S.DRAINING, Exited): _fail_running,
    (S.DRAINING, Retired): _stay,
    (S.DEAD, Exited): _stay,
    (S.DEAD, Retired): _stay,
}

MACHINE: Machine[Life, Event, Instruction] = Machine("environment", lambda life: life.phase, _TABLE)


def can_assign(life: Life) -> bool:
    """Whether an invocation may be sent: idle, or busy with room behind what runs."""
    return life.phase is S.IDLE or (life.phase is S.BUSY and life.in_flight < MAX_IN_FLIGHT)


class Move:
    """Where one event leads: the next node, and what the shell must do."""

    __slots__ = ("instructions", "node")

    def __init__(self, node: Node, instructions: tuple[Instruction, ...]) -> None:
        self.node = node
        self.instructions = instructions


class Node:
    """One state of the compiled table; there is one node for each `Life`.

    Attributes:
        takes_more: `can_assign`.
        moves: by type of event, those that were asked for so far; use `after`.
    """

    __slots__ = ("life", "moves", "takes_more")

    def __init__(self, life: Life) -> None:
        self.life = life
        self.takes_more = can_assign(life)
        self.moves: dict[type[Event], Move] = {}

    def after(self, event: Event) -> Move:
        """Apply one event. Events carry nothing but their type.

        Raises:
            InvalidTransition: the table has no row for this state and event.
        """
        kind = type(event)
        move = self.moves.get(kind)
        if move is None:
            step = MACHINE.step(self.life, event)
            move = self.moves[kind] = Move(node_of(step.state), step.instructions)
        return move


@cache
def node_of(life: Life) -> Node:
    """The node of a state; the same one each time."""
    return Node(life)


BEGIN = node_of(Life())
