"""Output and logging of a function: line by line to descriptors 1 and 2.

Source: https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import time
import traceback
from typing import Any

from pilotlight_guest.python import faults
from pilotlight_guest.python.jsontext import Encoder

_TIMESTAMP = "%Y-%m-%dT%H:%M:%SZ"

_OWN_FIELDS = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "aws_request_id",
    "tenant_id",
    "_frame_type",
}
"""Attributes of a record that are not the user's ``extra``."""


def open_streams() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` UTF-8 streams that write each line at once.

    They are made anew: the ones a zygote has were made for other files than its children write to.
    """
    sys.stdout = sys.__stdout__ = _line_stream(1, "strict")  # type: ignore[misc]  # Final in stubs
    sys.stderr = sys.__stderr__ = _line_stream(2, "backslashreplace")  # type: ignore[misc]


def _line_stream(fd: int, errors: str) -> io.TextIOWrapper:
    return open(  # lives as long as the process
        fd, "w", buffering=1, encoding="utf-8", errors=errors, newline="\n", closefd=False
    )


class Current:
    """Which invocation runs now; log records get these."""

    request_id: str | None = None
    tenant_id: str | None = None


class LogSink:
    """Writes texts to standard output as they are."""

    def log(self, msg: str, frame_type: bytes | None = None) -> None:  # noqa: ARG002  # known to libraries
        """Write a text, at once."""
        sys.stdout.write(msg)
        sys.stdout.flush()


class LambdaLoggerHandler(logging.Handler):
    """The root logger's handler. Libraries know it by this name and by its ``log_sink``."""

    def __init__(self, log_sink: LogSink) -> None:
        super().__init__()
        self.log_sink = log_sink

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self.log_sink.log(self.format(record))


class _InvocationFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = Current.request_id or ""
        record.tenant_id = Current.tenant_id
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for the log format ``JSON``."""

    def __init__(self) -> None:
        super().__init__(datefmt=_TIMESTAMP)
        # What JSON cannot hold is written as its text: a log line is never lost for it.
        self._encode = json.JSONEncoder(ensure_ascii=False, default=str).encode

    def format(self, record: logging.LogRecord) -> str:
        """JSON text of a record, with its line end."""
        record.levelno = min(50, max(0, record.levelno)) // 10 * 10
        record.levelname = logging.getLevelName(record.levelno)
        is_object = isinstance(record.msg, dict) and not record.args
        line: dict[str, Any] = {
            "timestamp": self.formatTime(record, self.datefmt),
            "level": record.levelname,
            "message": record.msg if is_object else record.getMessage(),
            "logger": record.name,
            **_exception_fields(record),
            "tenantId": getattr(record, "tenant_id", None),
        }
        for name, value in record.__dict__.items():
            if name not in _OWN_FIELDS and name not in line:
                line[name] = value
        return self._encode({k: v for k, v in line.items() if v is not None}) + "\n"


def _exception_fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = dict.fromkeys(
        ("stackTrace", "errorType", "errorMessage", "requestId", "location")
    )
    fields["requestId"] = getattr(record, "aws_request_id", None)
    if record.exc_info and record.exc_info[0] is not None:
        kind, error, tb = record.exc_info
        fields["stackTrace"] = traceback.format_tb(tb)
        fields["errorType"] = kind.__name__
        fields["errorMessage"] = str(error)
        fields["location"] = f"{record.pathname}:{record.funcName}:{record.lineno}"
    return fields


def set_up_logging(log_format: str, log_level: str | None) -> LogSink:
    """Give the root logger Lambda's handler, format and level."""
    if logging.Formatter.converter is not time.gmtime:  # a change makes all method caches stale
        logging.Formatter.converter = time.gmtime
    root = logging.getLogger()
    sink = LogSink()
    handler = LambdaLoggerHandler(sink)
    handler.setFormatter(JsonFormatter() if _is_json(log_format) else _text_formatter())
    handler.addFilter(_InvocationFilter())
    root.addHandler(handler)
    level = _level(log_level)
    if level is not None:
        root.setLevel(level)
    return sink


def _is_json(log_format: str | None) -> bool:
    return (log_format or "").upper() == "JSON"


def _text_formatter() -> logging.Formatter:
    line = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
    return logging.Formatter(line, "%Y-%m-%dT%H:%M:%S")


def _level(name: str | None) -> int | None:
    """Level of a name, None for an unknown one; Python has no TRACE."""
    upper = (name or "").upper()
    value = logging.getLevelName("DEBUG" if upper == "TRACE" else upper)
    return value if isinstance(value, int) else None


def write_error(payload: faults.ErrorPayload, log_format: str, encoder: Encoder) -> None:
    """Log what an invocation failed with."""
    if _is_json(log_format):
        stamp = time.strftime(_TIMESTAMP, time.gmtime())
        line = encoder.text({"timestamp": stamp, "level": "ERROR", **payload}) + "\n"
    else:
        line = faults.log_line(payload)
    try:
        sys.stdout.write(line)
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        # User code closed or replaced the stream, or the text has lone surrogates.
        with contextlib.suppress(OSError):
            os.write(1, line.encode(errors="backslashreplace"))
