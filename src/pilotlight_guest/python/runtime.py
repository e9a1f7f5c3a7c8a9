"""The runtime's loop: INIT once, then one invocation after the other.

No event loop and no threads of its own: a blocking read is the least CPU for a warm invocation.
What Lambda's runtime lets escape (``SystemExit``, interrupts, other exceptions that are no
``Exception``) ends this process too; the worker words the answer.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from types import GeneratorType
from typing import Any, Callable, NoReturn

from pilotlight_guest.frames import (
    CREDIT,
    ERROR,
    INIT,
    INIT_DONE,
    INIT_ERROR,
    INVOKE,
    INVOKE_HEAD,
    READY,
    RESULT,
    SHUTDOWN,
    STREAM_END,
)
from pilotlight_guest.python import faults, handlers, logs, process
from pilotlight_guest.python.channel import HEADER_SIZE, Channel, ChannelClosed
from pilotlight_guest.python.context import Facts, LambdaContext
from pilotlight_guest.python.jsontext import Encoder, decode, encoder_for
from pilotlight_guest.python.streaming import ResponseStream, send_all

RESPONSE_BYTES_MAX = 6 * 1024 * 1024 + 100
"""Largest answer to an invocation, as Lambda's own message states it."""

_TRACE_ID = "_X_AMZN_TRACE_ID"
_HEAD_AT = HEADER_SIZE + INVOKE_HEAD.size
_UNHANDLED = (
    "LAMBDA_WARNING: Unhandled exception. The most likely cause is an issue in the function code.\r"
)


def main(channel_fd: int, *, before_ready: Callable[[], None] | None = None) -> NoReturn:
    """Serve the worker at the other end of a connected stream socket until the process ends.

    Call it in a fresh interpreter or in a fork of one that is single-threaded; it never returns
    and never lets an exception out. Exit status: 0 on SHUTDOWN or when the worker has gone,
    1 after a failed INIT, else what the user's code makes of it.

    Args:
        channel_fd: the socket.
        before_ready: called when all is set up, before READY is sent.
    """
    try:
        process.start_afresh()
        logs.open_streams()
        channel = Channel(channel_fd)
        if before_ready is not None:
            before_ready()
        channel.send(0, READY)
        _serve(channel)
    except ChannelClosed:
        process.leave(0)
    except BaseException as exc:
        process.end_like_python(exc)
    process.end_like_python(SystemExit(0))


def _serve(channel: Channel) -> None:
    """Answer frames until SHUTDOWN."""
    sequence, kind, frame = channel.receive()
    if kind == SHUTDOWN:
        return
    if kind != INIT:
        raise ValueError(f"the first frame must be INIT, not type {kind}")
    invoke = _initialize(channel, sequence, json.loads(frame[HEADER_SIZE:]))
    held = channel.held
    while True:
        sequence, kind, frame = held.pop(0) if held else channel.receive()
        if kind == INVOKE:
            answer, body = invoke(frame, channel, sequence)
            _flush()
            channel.send(sequence, answer, body)
        elif kind == SHUTDOWN:
            return
        elif kind != CREDIT:  # of a stream that has ended
            raise ValueError(f"unexpected frame of type {kind}")


def _initialize(channel: Channel, sequence: int, init: dict[str, Any]) -> Invoke:
    """Load the handler; answers INIT_DONE, or INIT_ERROR and raises ``SystemExit(1)``."""
    encoder = encoder_for(init["environment"].get("AWS_EXECUTION_ENV", ""))
    log_format = init["log_format"]
    sink = logs.set_up_logging(log_format, init["log_level"])
    try:
        process.enter(init["environment"], init["task_root"])
        handler = handlers.resolve(init["handler"])
    except Exception as exc:
        payload = faults.describe(exc)
        logging.warning(_UNHANDLED)  # noqa: LOG015  # the user's log, as on Lambda
        logs.write_error(payload, log_format, encoder)
        _flush()
        channel.send(sequence, INIT_ERROR, encoder.text(payload).encode())
        raise SystemExit(1) from None
    _flush()
    invoke = Invoke(handler, Facts(init, sink.log), encoder, log_format)
    channel.send(sequence, INIT_DONE)
    return invoke


class Invoke:
    """Runs the handler for one INVOKE frame."""

    def __init__(
        self, handler: handlers.Handler, facts: Facts, encoder: Encoder, log_format: str
    ) -> None:
        self._handler = handler
        self._facts = facts
        self._encoder = encoder
        self._log_format = log_format
        self._trace_id = ""

    def __call__(
        self, frame: bytes | bytearray, channel: Channel | None = None, sequence: int = 0
    ) -> tuple[int, bytes]:
        """Type and body of the answer's last frame; a stream's other frames were sent then.

        Raises:
            BaseException: what is no ``Exception``, or an exception that has no text.
            ChannelClosed: the worker has gone while an answer was streamed.
        """
        deadline_ms, head_length = INVOKE_HEAD.unpack_from(frame, HEADER_SIZE)
        payload_at = _HEAD_AT + head_length
        request_id, arn, trace_id, client, cognito, tenant = (
            frame[_HEAD_AT:payload_at].decode().split("\0")
        )
        logs.Current.request_id = request_id
        logs.Current.tenant_id = tenant or None
        if trace_id != self._trace_id:
            self._set_trace_id(trace_id)
        stream = None
        try:
            context = LambdaContext(
                self._facts, request_id, arn, deadline_ms, client, cognito, tenant or None
            )
            event = decode(_after(frame, payload_at))
            response = self._handler(event, context)
            if isinstance(response, GeneratorType) and channel is not None:
                stream = ResponseStream(channel, sequence)
                send_all(response, stream, self._encoder)
                return STREAM_END, b""
            result = self._encoder.result(response)
        except ChannelClosed:
            raise
        except Exception as exc:
            kind = STREAM_END if stream is not None and stream.has_begun else ERROR
            return kind, self._failed(exc, request_id)
        if len(result) > RESPONSE_BYTES_MAX:
            return ERROR, self._too_large()
        return RESULT, result

    def _set_trace_id(self, trace_id: str) -> None:
        self._trace_id = trace_id
        if trace_id:
            os.environ[_TRACE_ID] = trace_id
        else:
            os.environ.pop(_TRACE_ID, None)

    def _failed(self, error: Exception, request_id: str) -> bytes:
        payload = faults.describe(error, request_id)
        logs.write_error(payload, self._log_format, self._encoder)
        return self._encoder.text(payload).encode()

    def _too_large(self) -> bytes:
        payload = {
            "errorMessage": "Response payload size exceeded maximum allowed payload size "
            f"({RESPONSE_BYTES_MAX} bytes).",
            "errorType": "Function.ResponseSizeTooLarge",
        }
        return self._encoder.text(payload).encode()


def _after(frame: bytes | bytearray, start: int) -> bytes | memoryview:
    """The end of a frame: a copy is cheaper for a small one, a view for a large one."""
    return frame[start:] if isinstance(frame, bytes) else memoryview(frame)[start:]


def _flush() -> None:
    """Push out what was printed without a line end."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # user code closed or replaced a stream; its output is its own affair
