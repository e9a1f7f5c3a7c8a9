"""The worker's end of a sandbox's channel: bytes to frames, with the runtime as the enemy.

A frame is accepted only whole and only if its header is possible; what it means is judged by the
environment. After the first impossible header nothing more is read.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from pilotlight_guest.frames import HEADER, MAX_BODY, MAX_CHUNK, READY, STREAM_CHUNK, STREAM_END

_HEADER_BYTES = HEADER.size


class FrameSink(Protocol):
    """Who receives what a runtime says."""

    def frame_received(self, sequence: int, kind: int, body: bytes) -> None:
        """One whole frame came."""
        ...

    def lie_received(self, lie: str) -> None:
        """The runtime sent what can't be a frame; nothing follows."""
        ...

    def channel_closed(self) -> None:
        """The runtime closed its end or died."""
        ...


def _impossible(length: int, kind: int) -> str | None:
    if length > (MAX_CHUNK if kind == STREAM_CHUNK else MAX_BODY):
        return f"it announced a frame of {length} bytes"
    if not READY <= kind <= STREAM_END:
        return f"it sent a frame of unknown type {kind}"
    return None


class FrameReader:
    """Cuts a byte stream into frames; holds at most one incomplete frame and one read."""

    __slots__ = ("_buffer", "_is_over", "_sink", "_wanted")

    def __init__(self, sink: FrameSink) -> None:
        self._sink = sink
        self._buffer = bytearray()
        self._wanted = _HEADER_BYTES
        self._is_over = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes; frames go to the sink at once."""
        if self._is_over:
            return
        if not self._buffer and len(data) >= _HEADER_BYTES:
            length, sequence, kind = HEADER.unpack_from(data)
            if len(data) == _HEADER_BYTES + length and _impossible(length, kind) is None:
                self._sink.frame_received(sequence, kind, data[_HEADER_BYTES:])
                return
        self._buffer += data
        if len(self._buffer) >= self._wanted:
            self._cut()

    def stop(self) -> None:
        """Ignore everything that still comes and free what is held."""
        self._is_over = True
        self._buffer = bytearray()

    def _cut(self) -> None:
        start = 0
        while not self._is_over and len(self._buffer) - start >= _HEADER_BYTES:
            length, sequence, kind = HEADER.unpack_from(self._buffer, start)
            lie = _impossible(length, kind)
            if lie is not None:
                self.stop()
                self._sink.lie_received(lie)
                return
            end = start + _HEADER_BYTES + length
            if len(self._buffer) < end:
                self._wanted = end - start
                del self._buffer[:start]
                return
            body = bytes(memoryview(self._buffer)[start + _HEADER_BYTES : end])
            start = end
            self._sink.frame_received(sequence, kind, body)
        if not self._is_over:
            self._wanted = _HEADER_BYTES
            del self._buffer[:start]


class Channel(asyncio.Protocol):
    """The connection to one runtime."""

    def __init__(self, sink: FrameSink) -> None:
        self._sink = sink
        self._reader = FrameReader(sink)
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.Event()
        self.data_received = self._reader.feed  # type: ignore[method-assign]  # saves a call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; a stream socket always gives one that reads and writes."""
        self._transport = cast(asyncio.Transport, transport)  # asyncio types it as the base

    def eof_received(self) -> bool:
        """The runtime will say nothing more: that ends the channel."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the sink once; errors of a socket pair mean the same as its end."""
        del exc
        self._transport = None
        self.closed.set()
        self._sink.channel_closed()

    def send(self, data: bytes) -> None:
        """Write one frame; lost silently when the channel has ended, which the sink learns."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Close at once; `closed` is set when the socket is free."""
        self._reader.stop()
        if self._transport is not None:
            self._transport.abort()
