"""Errors as Lambda words them: the payload a caller gets and the line the log gets.

Source: https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html and the behaviour of
``awslambdaric``, which the tests hold against this module.
"""

from __future__ import annotations

import os
import tokenize  # noqa: F401  # traceback imports it late, when user code could shadow it
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

MARSHAL = "Runtime.MarshalError"
UNMARSHAL = "Runtime.UnmarshalError"
SYNTAX = "Runtime.UserCodeSyntaxError"
HANDLER_NOT_FOUND = "Runtime.HandlerNotFound"
IMPORT_MODULE = "Runtime.ImportModuleError"
BUILT_IN_MODULE = "Runtime.BuiltInModuleConflict"
MALFORMED_HANDLER = "Runtime.MalformedHandlerName"
CONTEXT_UNMARSHAL = "Runtime.LambdaContextUnmarshalError"

_LINE_END = "\r"
"""Keeps an error with its traceback one line of the log."""
_INDENT = "\u00a0"
"""No-break space: log viewers eat leading plain ones."""

_OWN_FOLDER = os.path.dirname(__file__) + os.sep  # noqa: PTH120  # pathlib would be one import more

ErrorPayload = dict[str, Any]


class Fault(Exception):
    """An error that the runtime itself finds, with Lambda's name for it."""

    def __init__(self, kind: str, message: str, trace: list[str] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.trace = trace


def error_payload(
    message: str, kind: str, trace: list[str] | None, request_id: str = ""
) -> ErrorPayload:
    """The members of an error payload, in Lambda's order."""
    return {
        "errorMessage": message,
        "errorType": kind,
        "requestId": request_id,
        "stackTrace": trace or [],
    }


def describe(error: BaseException, request_id: str = "") -> ErrorPayload:
    """Payload for whatever was raised while user code ran.

    The runtime's own frames at the start are left out, unless there is nothing else: then they
    show which call failed (a handler that takes no arguments, for example).

    Raises:
        Exception: what the error's own ``__str__`` raises; as on Lambda that ends the process.
    """
    if isinstance(error, Fault):
        return error_payload(error.message, error.kind, error.trace, request_id)
    trace = _stack_trace(error.__traceback__)
    return error_payload(str(error), type(error).__name__, trace, request_id)


def _stack_trace(tb: TracebackType | None) -> list[str]:
    frames = [(f.filename, f.lineno, f.name, f.line) for f in traceback.extract_tb(tb)]
    for index, frame in enumerate(frames):
        if not frame[0].startswith(_OWN_FOLDER):
            frames = frames[index:]
            break
    return traceback.format_list(frames)  # type: ignore[arg-type]  # a line number may be None


def log_line(payload: ErrorPayload) -> str:
    """The text-format log line of an error, with its end."""
    head = "[ERROR]"
    if payload["errorType"]:
        head += " " + payload["errorType"]
    if payload["errorMessage"]:
        head += (": " if payload["errorType"] else " ") + payload["errorMessage"]
    lines = [head, "Traceback (most recent call last):"]
    for entry in payload["stackTrace"]:
        lines += [_indented(line) for line in entry.splitlines()] or [""]
    return _LINE_END.join(lines) + "\n"


def _indented(line: str) -> str:
    text = line.lstrip(" ")
    return _INDENT * (len(line) - len(text)) + text
