"""Every error the platform raises on purpose.

* PlatformError
  + ApiError             an answer with one of the API's own error codes
  + SandboxError         a sandbox could not be made, run or removed
    - IsolationMissing   the host cannot give the isolation asked for, never downgraded
  + Throttled            admission refused the invocation (429)
  + PackageRejected      an uploaded package is not acceptable
  + RevisionConflict     a compare-and-set lost
  + FeedCompacted        the change feed no longer reaches back that far
  + StorageFull          the disk is nearly full: refused before anything breaks
  + ConfigurationError   settings that cannot be used; all faults at once
  + InvalidTransition    a bug: never caught, always logged with its story
"""

from __future__ import annotations

from typing import ClassVar


class PlatformError(Exception):
    """Base of all errors raised on purpose.

    Attributes:
        code: stable name on the wire, in metrics and in logs.
        http_status: status code that the API answers with.
        retryable: whether the same call may be sent again unchanged.
    """

    code: str = "ServiceException"
    http_status: int = 500
    retryable: ClassVar[bool] = False


class ApiError(PlatformError):
    """An answer with an error code of the API.

    The wire adds HTTP status and the case of the ``message`` member from the service's model.

    Args:
        code: name of the exception shape, or a code of the protocol layer.
        message: text for the user, exactly as the service gives it where that is known.
        status: HTTP status, only for codes that are not in the service's model.
        fields: further members of the error's shape (``Reason``, ``retryAfterSeconds``, …).
    """

    def __init__(
        self, code: str, message: str, *, status: int | None = None, **fields: object
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.fields = fields


class SandboxError(PlatformError):
    """A sandbox could not be made, run or removed."""

    code = "SandboxException"
    retryable = True


class IsolationMissing(SandboxError):
    """The host cannot give the isolation asked for; the message says what is missing."""

    code = "IsolationMissing"
    retryable = False


class Throttled(PlatformError):
    """Admission refused an invocation.

    Args:
        reason: ``Reason`` of TooManyRequestsException, for example
            ``ConcurrentInvocationLimitExceeded``.
    """

    code = "TooManyRequestsException"
    http_status = 429
    retryable = True

    def __init__(self, reason: str, message: str = "Rate Exceeded.") -> None:
        super().__init__(message)
        self.reason = reason


class PackageRejected(PlatformError):
    """An uploaded package is not acceptable; nothing of it is kept.

    Args:
        reason: one of ``absolute-path, parent-path, link, device, duplicate, ratio, count, size,
            encrypted, corrupt, name``: stable, for metrics and tests.
    """

    code = "InvalidParameterValueException"
    http_status = 400

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RevisionConflict(PlatformError):
    """A write was conditional on a revision that is no longer current."""

    code = "PreconditionFailedException"
    http_status = 412


class FeedCompacted(PlatformError):
    """Removals after the revision asked for are no longer in the feed: read it again from 0."""

    code = "FeedCompacted"
    http_status = 410


class StorageFull(PlatformError):
    """The disk is nearly full; the write was refused and nothing was changed."""

    code = "ServiceException"
    http_status = 503


class ConfigurationError(PlatformError):
    """The settings cannot be used; the message lists every fault."""

    code = "ConfigurationError"


class InvalidTransition(PlatformError):
    """An event arrived that the state does not accept."""

    code = "InternalInvariantViolated"

    def __init__(self, machine: str, state: str, event: str, story: tuple[str, ...] = ()) -> None:
        super().__init__(f"{machine}: {event!r} is not accepted in {state!r}; story: {story}")
        self.state = state
        self.event = event
        self.story = story
