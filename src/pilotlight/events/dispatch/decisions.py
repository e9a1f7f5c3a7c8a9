"""What follows from an attempt: success, another attempt and when, or the end. Pure.

Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html

* The function failed: tried again after one minute, then after two, as often as its configuration
  says.
* Anything else (throttles, our own faults): tried again after 1 s, 2 s, 4 s … at most 5 minutes,
  until the event is too old. The wait is shortened by up to half at random, so that events that
  were refused together do not come back together.
* An attempt that could only begin after the event's maximum age is not waited for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pilotlight.model.errors import PlatformError, Throttled
from pilotlight.model.events import (
    AsyncConfig,
    Attempt,
    AttemptOutcome,
    Condition,
    Lease,
)
from pilotlight.model.invocation import InvocationResult

_DETAIL_LENGTH = 300
_THROTTLE = "TooManyRequestsException"
_REFUSALS = frozenset({AttemptOutcome.THROTTLED, AttemptOutcome.SYSTEM_ERROR})


@dataclass(frozen=True, slots=True)
class Waits:
    """Waits before the next attempt, in seconds.

    Attributes:
        function_error_s: after the function's first failure; the n-th waits n times as long.
        refusal_s: after a throttle or a fault of ours; doubled each time.
        refusal_max_s: longest of these.
    """

    function_error_s: float = 60.0
    refusal_s: float = 1.0
    refusal_max_s: float = 300.0


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Try again at ``due_s`` (wall time)."""

    due_s: float


@dataclass(frozen=True, slots=True)
class Over:
    """The event has ended."""

    condition: Condition
    reason: str = ""


def attempt_of(
    result: InvocationResult | PlatformError, started_s: float, ended_s: float
) -> Attempt:
    """What the ledger says of a finished attempt."""
    if isinstance(result, PlatformError):
        is_throttle = isinstance(result, Throttled) or result.code == _THROTTLE
        outcome = AttemptOutcome.THROTTLED if is_throttle else AttemptOutcome.SYSTEM_ERROR
        detail = f"{result.code}: {result}"
    elif result.function_error is None:
        outcome, detail = AttemptOutcome.SUCCESS, ""
    else:
        outcome, detail = AttemptOutcome.FUNCTION_ERROR, error_text(result.payload)
    return Attempt(outcome, started_s, ended_s, detail[:_DETAIL_LENGTH])


def error_text(payload: bytes) -> str:
    """The error that a function answered, in one line."""
    try:
        content = json.loads(payload)
        return f"{content['errorType']}: {content['errorMessage']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return payload[:_DETAIL_LENGTH].decode("utf-8", "replace")


def is_too_old(lease: Lease, config: AsyncConfig, now_s: float) -> bool:
    """Whether no attempt may begin any more."""
    return now_s - lease.event.accepted_s >= config.age_s


def decide(
    lease: Lease,
    attempts: Sequence[Attempt],
    config: AsyncConfig,
    waits: Waits,
    *,
    now_s: float,
    chance: float,
) -> TryAgain | Over:
    """Decide what follows from the last of ``attempts``; ``chance`` is random, from 0 up to 1."""
    last = attempts[-1]
    if last.outcome is AttemptOutcome.SUCCESS:
        return Over(Condition.SUCCESS)
    if last.outcome is AttemptOutcome.FUNCTION_ERROR:
        failures = sum(a.outcome is AttemptOutcome.FUNCTION_ERROR for a in attempts)
        if failures > config.retries:
            return Over(Condition.RETRIES_EXHAUSTED, last.detail)
        wait_s = waits.function_error_s * failures
    else:
        wait_s = _refusal_wait(attempts, waits) * (1 - chance / 2)
    due_s = now_s + wait_s
    if due_s - lease.event.accepted_s >= config.age_s:
        return Over(Condition.EVENT_AGE_EXCEEDED, last.detail)
    return TryAgain(due_s)


def _refusal_wait(attempts: Sequence[Attempt], waits: Waits) -> float:
    wait_s = waits.refusal_s
    for attempt in reversed(attempts[:-1]):
        if attempt.outcome not in _REFUSALS or wait_s >= waits.refusal_max_s:
            break
        wait_s *= 2
    return min(wait_s, waits.refusal_max_s)


def invoke_count(attempts: Sequence[Attempt]) -> int:
    """How often the function was run, as far as is known (``approximateInvokeCount``)."""
    return sum(attempt.outcome not in _REFUSALS for attempt in attempts)
