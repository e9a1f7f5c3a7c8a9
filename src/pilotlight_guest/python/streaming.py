"""Answers in pieces: a handler that is a generator streams what it yields.

Lambda's own Python runtime has no streams; its Node.js runtime and the Runtime API have, and their
wire format is kept (https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html):
bytes and text are chunks of the body; a dictionary that comes first is the head of an HTTP
response, as ``awslambda.HttpResponseStream.from`` writes it.
"""

from __future__ import annotations

from types import GeneratorType
from typing import Any

from pilotlight_guest.frames import (
    BYTES_TYPE,
    CREDIT,
    CREDIT_BODY,
    HTTP_TYPE,
    MAX_CHUNK,
    PRELUDE_END,
    STREAM_BEGIN,
    STREAM_BYTES_MAX,
    STREAM_CHUNK,
    STREAM_WINDOW,
)
from pilotlight_guest.python import faults
from pilotlight_guest.python.channel import HEADER_SIZE, Channel
from pilotlight_guest.python.faults import Fault
from pilotlight_guest.python.jsontext import Encoder

TOO_LARGE = "Function.ResponseSizeTooLarge"


class ResponseStream:
    """The stream of one invocation.

    Attributes:
        has_begun: a frame of it was sent, so the answer can't be anything else any more.
    """

    def __init__(self, channel: Channel, sequence: int) -> None:
        self.has_begun = False
        self._channel = channel
        self._sequence = sequence
        self._window = STREAM_WINDOW
        self._left = STREAM_BYTES_MAX

    def begin(self, content_type: str) -> None:
        """Say what the body is; before the first chunk."""
        self.has_begun = True
        self._channel.send(self._sequence, STREAM_BEGIN, content_type.encode())

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; waits while the caller has not taken those before.

        Raises:
            Fault: the answer is larger than a stream may be; nothing of ``data`` was sent.
            ChannelClosed: the worker has gone.
        """
        with memoryview(data) as given, given.cast("B") as view:
            if len(view) > self._left:
                message = (
                    "Response payload size exceeded maximum allowed payload size "
                    f"({STREAM_BYTES_MAX} bytes)."
                )
                raise Fault(TOO_LARGE, message)
            self._left -= len(view)
            for start in range(0, len(view), MAX_CHUNK):
                self._send(bytes(view[start : start + MAX_CHUNK]))

    def _send(self, chunk: bytes) -> None:
        while self._window < len(chunk):
            self._wait()
        self._window -= len(chunk)
        self._channel.send(self._sequence, STREAM_CHUNK, chunk)

    def _wait(self) -> None:
        """Take the next frame: credit, or something for later."""
        sequence, kind, frame = self._channel.receive()
        if kind != CREDIT:
            self._channel.held.append((sequence, kind, frame))
        elif sequence == self._sequence:
            self._window += CREDIT_BODY.unpack_from(frame, HEADER_SIZE)[0]


def send_all(items: GeneratorType[Any, Any, Any], stream: ResponseStream, encoder: Encoder) -> None:
    """Send what a handler yields, each piece as it comes.

    Raises:
        Exception: what the handler raises, or for a piece that cannot be sent; the generator is
            closed then.
    """
    try:
        for item in items:
            data = _bytes_of(item, stream, encoder)
            if not stream.has_begun:
                stream.begin(BYTES_TYPE)
            stream.write(data)
    finally:
        items.close()
    if not stream.has_begun:
        stream.begin(BYTES_TYPE)


def _bytes_of(
    item: object, stream: ResponseStream, encoder: Encoder
) -> bytes | bytearray | memoryview:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, (bytes, bytearray, memoryview)):
        return item
    if isinstance(item, dict) and not stream.has_begun:
        prelude = encoder.text(item).encode() + PRELUDE_END
        stream.begin(HTTP_TYPE)
        return prelude
    name = type(item).__name__
    message = f"A streamed answer is made of bytes and str, not of {name}"
    if isinstance(item, dict):
        message += "; a dict with statusCode, headers and cookies may only come first"
    raise Fault(faults.MARSHAL, message)
