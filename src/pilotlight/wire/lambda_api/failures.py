"""From an error to its HTTP answer, and the errors of the protocol layer.

Errors of the service's model answer as the model says: status, ``Type``, ``message`` or
``Message``. Errors that every AWS service has answer as in
https://docs.aws.amazon.com/lambda/latest/api/CommonErrors.html; they have no ``Type``.
"""

from __future__ import annotations

from pilotlight.model.errors import ApiError, InvalidTransition, PlatformError, Throttled
from pilotlight.wire.lambda_api.answers import JSON_TYPE, HttpAnswer, header
from pilotlight.wire.lambda_api.rendering import dump
from pilotlight.wire.lambda_model import model

PROTOCOL_ERRORS: dict[str, tuple[int, str]] = {
    "AccessDeniedException": (403, "Message"),
    "ExpiredTokenException": (403, "message"),
    "IncompleteSignatureException": (403, "message"),
    "InternalFailure": (500, "message"),
    "InvalidSignatureException": (403, "message"),
    "MissingAuthenticationTokenException": (403, "message"),
    "NotImplemented": (501, "message"),
    "RequestEntityTooLargeException": (413, "message"),
    "RequestTimeoutException": (408, "message"),
    "SerializationException": (400, "message"),
    "ServiceUnavailableException": (503, "message"),
    "ThrottlingException": (429, "message"),
    "UnknownOperationException": (404, "message"),
    "UnrecognizedClientException": (403, "message"),
    "ValidationException": (400, "message"),
}
"""Code: status, message member."""

_SERVER_ERROR = 500


def not_implemented(operation: str) -> ApiError:
    """Make the answer to an operation of the service that Pilotlight does not have yet."""
    return ApiError(
        "NotImplemented",
        f"Pilotlight does not implement the operation {operation} yet. "
        "The operations that it has are listed in its documentation of the Lambda API.",
        status=501,
    )


def unknown_operation(method: str, path: str, allowed: tuple[str, ...] = ()) -> ApiError:
    """Make the answer to a request that is no operation of the service.

    Args:
        method: of the request.
        path: of the request, raw; a long one is cut.
        allowed: methods that this path has, from `routing.allowed_methods`.
    """
    hint = f"; this path has {', '.join(allowed)}" if allowed else ""
    text = f"Unknown operation: {method[:16]} {path[:256]}{hint}"
    return ApiError("UnknownOperationException", text, status=404)


def render_error(error: PlatformError, *, request_id: str) -> HttpAnswer:
    """Write the answer of a failed request.

    Fields of an `ApiError` become members of the body, or headers where the model binds them
    there, and they win over what this function would write: ``Type=None`` leaves the type out,
    and ``Message=None`` gives a ``null``.

    Args:
        error: any error of the platform. A bug (`InvalidTransition`) answers without its
            details; they belong in the log.
        request_id: goes into ``x-amzn-RequestId``.
    """
    code, message = error.code, str(error)
    if isinstance(error, InvalidTransition):
        code = "ServiceException"
        message = f"An internal error occurred. Look for request {request_id} in Pilotlight's log."
    shape = model.error(code)
    fields = dict(error.fields) if isinstance(error, ApiError) else {}
    if isinstance(error, Throttled):
        fields.setdefault("Reason", error.reason)
    headers = [
        header("x-amzn-RequestId", request_id),
        header("x-amzn-ErrorType", code),
        (b"Content-Type", JSON_TYPE),
    ]
    bound = {m.name: m for m in shape.members if m.location == "header"} if shape else {}
    headers.extend(
        header(member.wire_name, str(fields.pop(name)))
        for name, member in bound.items()
        if name in fields
    )
    status = _status(error, shape)
    body = _frame(code, status, message, shape) | fields
    if body.get("Type", "") is None:
        del body["Type"]
    return HttpAnswer(status, headers, dump(body))


def _status(error: PlatformError, shape: model.ErrorShape | None) -> int:
    if isinstance(error, ApiError):
        if error.status is not None:
            return error.status
        if shape is not None:
            return shape.status
        return PROTOCOL_ERRORS.get(error.code, (_SERVER_ERROR, ""))[0]
    return error.http_status


def _frame(
    code: str, status: int, message: str, shape: model.ErrorShape | None
) -> dict[str, object]:
    """Members that every error has, before the fields of this one."""
    if shape is not None:
        return {"Type": "User" if shape.sender_fault else "Service", shape.message: message}
    if code in PROTOCOL_ERRORS:
        return {PROTOCOL_ERRORS[code][1]: message}
    return {"Type": "User" if status < _SERVER_ERROR else "Service", "Message": message}
