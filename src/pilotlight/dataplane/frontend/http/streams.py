"""Answers whose body comes in pieces: from a function's stream to a connection.

A `Relay` stands between the two. It gives the function credit for what the connection took, so a client that
reads slowly holds back the function and not memory; and for everything once the client has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from typing import Protocol

from pilotlight.dataplane.frontend.http.answers import NO_BODY_STATUSES, STATUS_LINES
from pilotlight.ports.invoke import StreamFlow

_NO_LINGER = struct.pack("ii", 1, 0)


class BodyWriter(Protocol):
    """Where the body of a streamed answer goes. Calls after its end do nothing."""

    def write(self, data: bytes) -> bool:
        """Send a piece; False when the client is behind: `StreamSource.resumed` is called later."""
        ...

    def finish(self) -> None:
        """The body is complete."""
        ...

    def abort(self) -> None:
        """The body will never be complete: cut the connection, so that nobody takes it for whole."""
        ...


class StreamSource(Protocol):
    """Who writes the body of a streamed answer."""

    def opened(self, writer: BodyWriter) -> None:
        """The head is on its way. Called once, unless `gone` is called instead."""
        ...

    def resumed(self) -> None:
        """The client has caught up."""
        ...

    def gone(self) -> None:
        """The client has gone: nothing can be written any more."""
        ...


class StreamAnswer:
    """An answer on our own path whose body is not there yet.

    Attributes:
        status: 200 to 599.
        headers: as in `Answer`.
        source: writes the body.
    """

    __slots__ = ("headers", "source", "status")

    def __init__(self, status: int, headers: bytes, source: StreamSource) -> None:
        self.status = status
        self.headers = headers
        self.source = source


class Flow(Protocol):
    """What a body asks of uvicorn's flow control."""

    write_paused: bool


class StreamBody:
    """The body of one streamed answer on a connection; a `BodyWriter`.

    Chunked for HTTP/1.1; for HTTP/1.0 it ends with the connection.

    Args:
        transport: of the connection.
        flow: its flow control.
        source: who writes.
        is_chunked: the client knows chunks.
        is_silent: the answer has no body (HEAD, 204, 304): pieces are thrown away.
        ended: called once with True when the body is complete, False when it never will be.
    """

    __slots__ = (
        "_ended",
        "_flow",
        "_is_chunked",
        "_is_over",
        "_is_silent",
        "_source",
        "_transport",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        flow: Flow,
        source: StreamSource,
        *,
        is_chunked: bool,
        is_silent: bool,
        ended: Callable[[bool], None],
    ) -> None:
        self._transport = transport
        self._flow = flow
        self._source = source
        self._is_chunked = is_chunked
        self._is_silent = is_silent
        self._ended = ended
        self._is_over = False

    def write(self, data: bytes) -> bool:
        """See `BodyWriter`."""
        if self._is_over or self._is_silent or not data:
            return True
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)
        return not self._flow.write_paused

    def finish(self) -> None:
        """See `BodyWriter`."""
        if self._is_over:
            return
        self._is_over = True
        if self._is_chunked and not self._is_silent:
            self._transport.write(b"0\r\n\r\n")
        self._ended(True)  # noqa: FBT003  # a callback has no keywords

    def abort(self) -> None:
        """See `BodyWriter`."""
        if self._is_over:
            return
        self._is_over = True
        self._ended(False)  # noqa: FBT003

    def resumed(self) -> None:
        """The transport's buffer has been emptied."""
        if not self._is_over:
            self._source.resumed()

    def lost(self) -> None:
        """The connection is gone."""
        if not self._is_over:
            self._is_over = True
            self._source.gone()


def render_stream(
    answer: StreamAnswer, *, date_line: bytes, is_chunked: bool, close: bool
) -> bytes:
    """Head of a streamed answer as it goes on the wire."""
    coding = b"Transfer-Encoding: chunked\r\n" if is_chunked else b""
    if answer.status in NO_BODY_STATUSES:
        coding = b""
    ending = b"Connection: close\r\n\r\n" if close else b"\r\n"
    return b"".join((STATUS_LINES[answer.status], date_line, answer.headers, coding, ending))


def reset(transport: asyncio.Transport) -> None:
    """Close a connection so that its other end learns of a failure, not of an end."""
    known = transport.get_extra_info("socket")
    if known is not None:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(known.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class Relay:
    """Takes a function's stream and writes it as a body; a `StreamTaker` but for its end.

    Subclasses say what a piece becomes (`take`), and when the answer begins.
    """

    def __init__(self) -> None:
        self._flow: StreamFlow | None = None
        self._writer: BodyWriter | None = None
        self._owed = 0
        self._is_full = False
        self._is_gone = False

    def began(self, content_type: str, flow: StreamFlow) -> None:
        """See `StreamTaker`."""
        self._flow = flow
        self.begin(content_type)

    def chunk(self, data: bytes) -> None:
        """See `StreamTaker`."""
        self._owed += len(data)
        if not self._is_gone:
            self.take(data)
        if not self._is_full:
            self._pay()

    def begin(self, content_type: str) -> None:
        """The function answers with a stream of this type."""
        raise NotImplementedError

    def take(self, data: bytes) -> None:
        """A piece came, and the client is still there."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Send what a piece became."""
        if self._writer is not None and not self._is_gone:
            self._is_full = not self._writer.write(data)

    def opened(self, writer: BodyWriter) -> None:
        """See `StreamSource`."""
        self._writer = writer

    def resumed(self) -> None:
        """See `StreamSource`."""
        self._is_full = False
        self._pay()

    def gone(self) -> None:
        """See `StreamSource`."""
        self._is_gone = True
        self.resumed()

    @property
    def has_begun(self) -> bool:
        """The function answered with a stream."""
        return self._flow is not None

    def _pay(self) -> None:
        owed, self._owed = self._owed, 0
        if owed and self._flow is not None:
            self._flow.taken(owed)
