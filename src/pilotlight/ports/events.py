"""The queue of asynchronous invocations, and who asks it for what.

Frontends accept events, the dispatcher tries them. Both may run in one process or in several; what
they know of one another is in the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pilotlight.model.errors import PlatformError
from pilotlight.model.events import (
    AsyncConfig,
    Event,
    EventStory,
    EventTotals,
    Lane,
    Lease,
    Receipt,
    Settlement,
    StoredUndelivered,
)

Accepted = Callable[[PlatformError | None], None]
"""Called exactly once, on the loop: None when the event is durable, else it was not accepted."""

Heard = Callable[[Lane, float], None]
"""Called on the loop when a lane has an event that is due at a wall time."""


class EventAcceptor(Protocol):
    """Takes events of callers."""

    def accept(self, event: Event, done: Accepted) -> None:
        """Store an event; never blocks, never raises.

        ``done(None)`` means that the event survives a power cut.
        """
        ...


class AsyncConfigs(Protocol):
    """Lookups in memory; part of the data plane's view of the registry."""

    def async_config(self, account: str, name: str, qualifier: str | None) -> AsyncConfig:
        """How events for this function and qualifier are treated; the default where none is set."""
        ...


@dataclass(frozen=True, slots=True)
class Want:
    """At most ``limit`` due events of a lane."""

    lane: Lane
    limit: int


@dataclass(frozen=True, slots=True)
class Leased:
    """What a lease gave.

    Attributes:
        next_due: for each lane asked for, when it may have more; None when it is empty.
    """

    leases: Sequence[Lease]
    next_due: Mapping[Lane, float | None]


class EventQueue(EventAcceptor, Protocol):
    """Durable; every change is committed before the call returns.

    Invariants: an event is leased to one holder at a time; only the receipt of its last lease
    settles it; it has one terminal state; accepted events are waiting or ended.
    """

    def listen(self, heard: Heard) -> None:
        """Call ``heard`` for events accepted in this process from now on."""
        ...

    async def lanes(self) -> Mapping[Lane, float]:
        """All lanes with events, and when their first is due or its lease ends."""
        ...

    async def lease(
        self, wants: Sequence[Want], *, now_s: float, until_s: float, max_bytes: int
    ) -> Leased:
        """Lease due events until a wall time; stops once their payloads exceed ``max_bytes``."""
        ...

    async def renew(self, receipts: Sequence[Receipt], until_s: float) -> None:
        """Keep leases until a later time; stale receipts are ignored."""
        ...

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Receipt]:
        """Write how attempts ended, all in one commit; return the receipts that were stale.

        A stale receipt changes nothing: the event belongs to another lease, or has ended.
        """
        ...

    async def totals(self) -> EventTotals:
        """Counts for metrics, of one moment."""
        ...


class EventHistory(Protocol):
    """What became of events, for people."""

    async def story(self, account: str, request_id: str) -> EventStory | None:
        """All that is known of one event; None when it is unknown, or was forgotten."""
        ...

    async def waiting(self, account: str, limit: int) -> Sequence[EventStory]:
        """Events of an account that have not ended, without their payloads."""
        ...

    async def failed(self, account: str, limit: int) -> Sequence[EventStory]:
        """Events of an account that did not succeed, the newest first, without their payloads."""
        ...

    async def undelivered(self, account: str, limit: int) -> Sequence[StoredUndelivered]:
        """Records of an account whose target could not be reached, the newest first."""
        ...
