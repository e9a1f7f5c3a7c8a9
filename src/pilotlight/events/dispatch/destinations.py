"""Where the outcome of an event goes: destinations and dead-letter targets. Pure.

Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from pilotlight.events.dispatch.decisions import Over, error_text, invoke_count
from pilotlight.model import limits
from pilotlight.model.events import (
    AsyncConfig,
    Attempt,
    Condition,
    Event,
    Undelivered,
)
from pilotlight.model.function import LATEST, FunctionVersion
from pilotlight.model.invocation import InvocationResult
from pilotlight.ports.functions import FunctionView

MAX_HOPS = 16
"""Destinations in a row; Lambda ends a recursive loop after about 16 invocations."""

_DESTINATION, _DEAD_LETTER = "destination", "dead-letter"
_ERROR_LENGTH = 1024
_FUNCTION_ARN = re.compile(
    r"arn:aws[a-zA-Z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):function:"
    r"(?P<name>[a-zA-Z0-9-_]{1,64})(?::(?P<qualifier>\$LATEST|[a-zA-Z0-9-_]{1,128}))?"
)
_json = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True)
class Outcome:
    """An event that has ended, with all that its destinations are told.

    Attributes:
        function: what the event's name meant last; None when it meant nothing.
        result: what the last attempt answered; None when there was no attempt or no answer.
    """

    event: Event
    attempts: Sequence[Attempt]
    over: Over
    ended_s: float
    function: FunctionVersion | None = None
    result: InvocationResult | None = None


@dataclass(slots=True)
class Deliveries:
    """What an outcome leads to."""

    sends: list[Event] = field(default_factory=list)
    undelivered: list[Undelivered] = field(default_factory=list)


def deliveries(
    outcome: Outcome, config: AsyncConfig, view: FunctionView, new_id: Callable[[], str]
) -> Deliveries:
    """Decide what goes where; ``new_id`` makes the request ids of events for destinations."""
    made = Deliveries()
    is_success = outcome.over.condition is Condition.SUCCESS
    target = config.on_success if is_success else config.on_failure
    if target:
        _to_destination(made, outcome, target, view, new_id)
    dead_letters = None if is_success else dead_letter_target(outcome.function)
    if dead_letters:
        made.undelivered.append(_dead_letter(outcome, dead_letters))
    return made


def dead_letter_target(function: FunctionVersion | None) -> str | None:
    """``DeadLetterConfig.TargetArn`` of a version; None where it has none."""
    config = None if function is None else function.passive.get("DeadLetterConfig")
    target = config.get("TargetArn") if isinstance(config, dict) else None
    return target if isinstance(target, str) and target else None


def _to_destination(
    made: Deliveries,
    outcome: Outcome,
    target: str,
    view: FunctionView,
    new_id: Callable[[], str],
) -> None:
    body = record(outcome)
    found = _FUNCTION_ARN.fullmatch(target)
    reason = _why_not(outcome.event, found, body, view)
    if reason or found is None:
        made.undelivered.append(Undelivered(_DESTINATION, target, body, reason))
        return
    made.sends.append(
        Event(
            request_id=new_id(),
            account=found["account"],
            region=found["region"],
            function=found["name"],
            qualifier=found["qualifier"],
            payload=body,
            trace_id=outcome.event.trace_id,
            accepted_s=outcome.ended_s,
            hops=outcome.event.hops + 1,
        )
    )


def _why_not(event: Event, target: re.Match[str] | None, body: bytes, view: FunctionView) -> str:
    """Why a record cannot be sent to its target; "" when it can."""
    if target is None:
        return "Pilotlight cannot send to services outside yet."
    if target["account"] != event.account:
        return "The destination belongs to another account."
    if view.resolve(target["account"], target["name"], target["qualifier"]) is None:
        return "The destination does not exist."
    if len(body) > limits.ASYNC_PAYLOAD_BYTES:
        return f"The record has {len(body)} bytes; a function takes {limits.ASYNC_PAYLOAD_BYTES}."
    if event.hops >= MAX_HOPS:
        return f"The event has passed {MAX_HOPS} destinations: they form a loop."
    return ""


def _dead_letter(outcome: Outcome, target: str) -> Undelivered:
    result = outcome.result
    message = outcome.over.reason if result is None else error_text(result.payload)
    attributes = {
        "RequestID": outcome.event.request_id,
        "ErrorCode": "200" if result is not None else "500",
        "ErrorMessage": message.encode()[:_ERROR_LENGTH].decode("utf-8", "ignore"),
    }
    reason = "Pilotlight cannot send to services outside yet."
    return Undelivered(_DEAD_LETTER, target, outcome.event.payload, reason, attributes)


def record(outcome: Outcome) -> bytes:
    """The record that a destination gets; payloads go into it as they are."""
    event, result = outcome.event, outcome.result
    arn = event.arn if event.qualifier is not None else f"{event.arn}:{LATEST}"
    members = [
        ("version", b'"1.0"'),
        ("timestamp", _text(_timestamp(outcome.ended_s))),
        (
            "requestContext",
            _text(
                {
                    "requestId": event.request_id,
                    "functionArn": arn,
                    "condition": outcome.over.condition.value,
                    "approximateInvokeCount": invoke_count(outcome.attempts),
                }
            ),
        ),
        ("requestPayload", event.payload),
    ]
    if result is not None:
        context: dict[str, object] = {
            "statusCode": 200,
            "executedVersion": result.executed_version,
        }
        if result.function_error is not None:
            context["functionError"] = result.function_error
        members += [
            ("responseContext", _text(context)),
            ("responsePayload", _json_or_text(result.payload)),
        ]
    return b"{%b}" % b",".join(b'"%b":%b' % (name.encode(), value) for name, value in members)


def _text(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _timestamp(wall_s: float) -> str:
    at = datetime.fromtimestamp(wall_s, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def _json_or_text(payload: bytes) -> bytes:
    """A function's answer inside a document: runtimes of users may answer what is no JSON."""
    if not payload:
        return b"null"
    try:
        _json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return json.dumps(payload.decode("utf-8", "replace")).encode()
    return payload
