"""What callers are told when an invocation is not run. Texts are the service's where known."""

from __future__ import annotations

from pilotlight.model.errors import ApiError, PlatformError, Throttled
from pilotlight.model.function import FunctionVersion

CONCURRENCY = "ConcurrentInvocationLimitExceeded"


class Unavailable(PlatformError):
    """This frontend can't run the invocation now; the same call may be sent again."""

    code = "ServiceException"
    http_status = 503
    retryable = True


RESERVED = "ReservedFunctionConcurrentInvocationLimitExceeded"


def throttled(reason: str = CONCURRENCY) -> Throttled:
    """The account, or what the function has reserved of it, has no concurrency left."""
    return Throttled(reason)


def not_active(function: FunctionVersion) -> ApiError:
    """The function is not in a state in which it can be invoked."""
    return ApiError(
        "ResourceConflictException",
        "The operation cannot be performed at this time. The function is currently in the "
        f"following state: {function.state.value}",
    )


def draining() -> Unavailable:
    """The frontend is going away."""
    return Unavailable("this frontend is shutting down; send the request again")


def waited_too_long(function: FunctionVersion, budget_s: float, why: str) -> Unavailable:
    """No environment came in time."""
    because = f" Last reason: {why}" if why else ""
    return Unavailable(
        f"no execution environment for {function.name} became free within {budget_s:.0f} s."
        f"{because}"
    )
