"""Asynchronous invocations as plain data: what is queued, how it is tried, how it ends.

Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

DEFAULT_RETRIES = 2
DEFAULT_AGE_S = 21_600
"""Six hours."""


class AsyncConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the events of a function or of one of its qualifiers are treated.

    Attributes:
        retries: attempts after the first, when the function fails.
        age_s: longest time between acceptance and the beginning of an attempt.
        on_success: ARN of the destination of what succeeded; None for none.
        on_failure: ARN of the destination of what did not; None for none.
    """

    retries: int = DEFAULT_RETRIES
    age_s: float = DEFAULT_AGE_S
    on_success: str | None = None
    on_failure: str | None = None


DEFAULT_CONFIG = AsyncConfig()


class Lane(msgspec.Struct, frozen=True, order=True):
    """The events of one function wait in one lane; lanes take turns."""

    account: str
    function: str


class Event(msgspec.Struct, frozen=True):
    """One accepted request of the invocation type ``Event``.

    Attributes:
        request_id: the same in all attempts; what the caller got as ``x-amzn-RequestId``.
        region: that of the call; ARNs of the event name it.
        qualifier: version or alias as the caller named it, None for ``$LATEST``. An alias is
            resolved anew for each attempt.
        payload: JSON text as received.
        accepted_s: wall time of the acceptance.
        hops: how many destinations handed it on, 0 for an event of a caller.
    """

    request_id: str
    account: str
    region: str
    function: str
    qualifier: str | None
    payload: bytes
    trace_id: str
    accepted_s: float
    hops: int = 0

    @property
    def lane(self) -> Lane:
        """Where it waits."""
        return Lane(self.account, self.function)

    @property
    def arn(self) -> str:
        """The function as the caller named it."""
        arn = f"arn:aws:lambda:{self.region}:{self.account}:function:{self.function}"
        return arn if self.qualifier is None else f"{arn}:{self.qualifier}"


class AttemptOutcome(StrEnum):
    """How one attempt ended."""

    SUCCESS = "success"
    FUNCTION_ERROR = "function_error"
    THROTTLED = "throttled"
    SYSTEM_ERROR = "system_error"
    LOST = "lost"
    """The process died in between: whether the function ran is not known."""


class Attempt(msgspec.Struct, frozen=True):
    """One attempt, for the ledger. Times are wall times; ``detail`` says what went wrong."""

    outcome: AttemptOutcome
    started_s: float
    ended_s: float
    detail: str = ""


class Condition(StrEnum):
    """The one terminal state of an event, as destination records spell it."""

    SUCCESS = "Success"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    EVENT_AGE_EXCEEDED = "EventAgeExceeded"


class Receipt(msgspec.Struct, frozen=True):
    """The right to settle an event. ``epoch`` counts its leases: an older receipt settles nothing."""

    id: int
    epoch: int


class Lease(msgspec.Struct, frozen=True):
    """An event that is being tried, and what happened to it before."""

    receipt: Receipt
    event: Event
    attempts: tuple[Attempt, ...] = ()


class Undelivered(msgspec.Struct, frozen=True):
    """A record for a target that cannot be reached now; it is kept until it can.

    Attributes:
        kind: ``destination`` or ``dead-letter``.
        target: ARN.
        body: what the target is to get.
        attributes: message attributes of a dead letter.
        reason: why it was not delivered, for people.
    """

    kind: str
    target: str
    body: bytes
    reason: str
    attributes: Mapping[str, str] = {}


class StoredUndelivered(msgspec.Struct, frozen=True, kw_only=True):
    """An undelivered record with the event it is about. ``stored_s`` is wall time."""

    id: int
    request_id: str
    function: str
    stored_s: float
    record: Undelivered


class Retry(msgspec.Struct, frozen=True):
    """The event is to be tried again at ``due_s`` (wall time)."""

    lease: Lease
    attempts: tuple[Attempt, ...]
    due_s: float


class End(msgspec.Struct, frozen=True):
    """The event has reached its terminal state.

    Attributes:
        reason: what went wrong last, "" after a success.
        sends: events for functions that are its destination, queued by the same commit.
        undelivered: records for targets that cannot be reached, stored by the same commit.
    """

    lease: Lease
    attempts: tuple[Attempt, ...]
    condition: Condition
    ended_s: float
    reason: str = ""
    sends: tuple[Event, ...] = ()
    undelivered: tuple[Undelivered, ...] = ()


Settlement = Retry | End


class EventTotals(msgspec.Struct, frozen=True):
    """Counts since the queue was made, read in one transaction.

    Attributes:
        waiting: events that have no terminal state yet, counted one by one.
        oldest_s: wall time at which the oldest of them was accepted; None when there is none.
        undelivered: records kept because their target cannot be reached.
    """

    accepted: int = 0
    succeeded: int = 0
    exhausted: int = 0
    expired: int = 0
    waiting: int = 0
    undelivered: int = 0
    oldest_s: float | None = None

    @property
    def drift(self) -> int:
        """Events that are neither waiting nor ended, which must be 0."""
        return self.accepted - self.succeeded - self.exhausted - self.expired - self.waiting


class EventStory(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one event, for people.

    Attributes:
        condition: None while it has not ended.
        due_s: when it is tried next at the earliest; None once it has ended.
        payload: of an event that failed or expired, else None.
    """

    request_id: str
    account: str
    function: str
    qualifier: str | None
    accepted_s: float
    condition: Condition | None
    reason: str
    attempts: tuple[Attempt, ...]
    ended_s: float | None = None
    due_s: float | None = None
    payload: bytes | None = None
