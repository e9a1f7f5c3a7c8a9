"""Rules for how asynchronous invocations are treated, as pure functions.

Source: https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from pilotlight.control.registry.references import Reference
from pilotlight.model.errors import ApiError
from pilotlight.wire.records import EventInvokeConfig

_SETTINGS = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
_FOR_BOTH = frozenset({"lambda", "sqs", "sns", "events"})
_FOR_FAILURES = _FOR_BOTH | {"s3"}
_SERVICE = re.compile(r"arn:[^:]*:(?P<service>[^:]*):")
_FUNCTION = re.compile(
    r"arn:aws[a-zA-Z-]*:lambda:[a-z0-9-]+:(?P<account>\d{12}):function:"
    r"(?P<name>[a-zA-Z0-9-_]+)(?::(?:\$LATEST|[a-zA-Z0-9-_]+))?"
)


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValueException", message)


def check_given(params: Mapping[str, Any]) -> None:
    """Refuse a call that sets nothing.

    Raises:
        ApiError: InvalidParameterValueException.
    """
    if all(params.get(member) is None for member in _SETTINGS):
        raise _invalid("You must specify at least one of error handling or destination setting.")


def checked_functions(params: Mapping[str, Any], reference: Reference) -> list[tuple[str, str]]:
    """Check the destinations; return ARN and name of those that are functions of the account.

    Raises:
        ApiError: InvalidParameterValueException, a destination no event may go to.
    """
    on_success, on_failure = _destinations(params)
    if (on_success and _service(on_success) not in _FOR_BOTH) or (
        on_failure and _service(on_failure) not in _FOR_FAILURES
    ):
        success = f"OnSuccess(destination={on_success})" if on_success else "null"
        failure = f"OnFailure(destination={on_failure})" if on_failure else "null"
        raise _invalid(
            f"The provided destination config DestinationConfig(onSuccess={success}, "
            f"onFailure={failure}) is invalid."
        )
    found: list[tuple[str, str]] = []
    for arn in (on_failure, on_success):
        if not arn or _service(arn) != "lambda":
            continue
        function = _FUNCTION.fullmatch(arn)
        if function is None or function["account"] != reference.scope.account:
            raise unknown_destination(arn)
        if function["name"] == reference.name:
            raise _invalid("You can't specify the function as a destination for itself.")
        found.append((arn, function["name"]))
    return found


def unknown_destination(arn: str) -> ApiError:
    """The service's answer to a function that does not exist."""
    return _invalid(f"The destination ARN {arn} is invalid.")


def _service(arn: str) -> str:
    found = _SERVICE.match(arn)
    return "" if found is None else found["service"]


def _destinations(params: Mapping[str, Any]) -> tuple[str | None, str | None]:
    given = params.get("DestinationConfig") or {}
    on_success = (given.get("OnSuccess") or {}).get("Destination")
    on_failure = (given.get("OnFailure") or {}).get("Destination")
    return on_success or None, on_failure or None


def made(params: Mapping[str, Any], *, now_s: float) -> EventInvokeConfig:
    """A configuration of what was given."""
    on_success, on_failure = _destinations(params)
    return EventInvokeConfig(
        retries=params.get("MaximumRetryAttempts"),
        age_s=params.get("MaximumEventAgeInSeconds"),
        on_success=on_success,
        on_failure=on_failure,
        last_modified_s=round(now_s, 3),
    )


def changed(
    old: EventInvokeConfig, params: Mapping[str, Any], *, now_s: float
) -> EventInvokeConfig:
    """A configuration in which what was given has changed; destinations change together."""
    new = made(params, now_s=now_s)
    has_destinations = params.get("DestinationConfig") is not None
    return msgspec.structs.replace(
        old,
        retries=old.retries if new.retries is None else new.retries,
        age_s=old.age_s if new.age_s is None else new.age_s,
        on_success=new.on_success if has_destinations else old.on_success,
        on_failure=new.on_failure if has_destinations else old.on_failure,
        last_modified_s=new.last_modified_s,
    )
