"""Reads and writes frames on the inherited stream socket; blocking, one thread, no buffering.

The socket is used through its descriptor alone: that is the least CPU for a warm invocation, and
it spares the import of ``socket``.
"""

from __future__ import annotations

import os

from pilotlight_guest.frames import HEADER, MAX_BODY

_CHUNK = 64 * 1024
_COPY_BELOW = 32 * 1024
"""Bodies up to here are joined to their header: a copy is cheaper than a second buffer."""

HEADER_SIZE = HEADER.size


class ChannelClosed(Exception):
    """The worker closed its end, or this process is a fork that does not own the channel."""


class Channel:
    """Frames over one descriptor.

    A process forked by user code loses the channel at once (`disown`): only the runtime answers.

    Attributes:
        held: frames that came while another was awaited, in order: whole, as `receive` gives them.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, True)
        os.set_inheritable(fd, False)  # noqa: FBT003  # the function has no keywords
        self._fd = fd
        self._rest = b""
        self.held: list[tuple[int, int, bytes | bytearray]] = []
        os.register_at_fork(after_in_child=self.disown)

    def disown(self) -> None:
        """Close this process's copy of the descriptor; later calls raise `ChannelClosed`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def receive(self) -> tuple[int, int, bytes | bytearray]:
        """Wait for a frame: sequence, type and the *whole* frame, its body at `HEADER_SIZE`.

        Raises:
            ChannelClosed: end of file.
            ValueError: a length above `MAX_BODY`.
        """
        try:
            data = self._rest or os.read(self._fd, _CHUNK)
            while len(data) < HEADER_SIZE:
                more = os.read(self._fd, _CHUNK)
                if not more:
                    raise ChannelClosed
                data += more
        except OSError as exc:
            raise ChannelClosed from exc
        length, sequence, kind = HEADER.unpack_from(data)
        end = HEADER_SIZE + length
        if len(data) == end:
            self._rest = b""
            return sequence, kind, data
        if length > MAX_BODY:
            raise ValueError(f"frame of {length} bytes, at most {MAX_BODY} are allowed")
        if len(data) > end:
            self._rest = data[end:]
            return sequence, kind, data[:end]
        self._rest = b""
        return sequence, kind, self._fill(data, end)

    def _fill(self, start: bytes, end: int) -> bytearray:
        """Read the rest of a frame of ``end`` bytes straight to where it belongs."""
        whole = bytearray(end)
        whole[: len(start)] = start
        at = len(start)
        with memoryview(whole) as view:
            while at < end:
                try:
                    count = os.readv(self._fd, [view[at:]])
                except OSError as exc:
                    raise ChannelClosed from exc
                if not count:
                    raise ChannelClosed
                at += count
        return whole

    def send(self, sequence: int, kind: int, body: bytes = b"") -> None:
        """Send one frame, whole.

        Raises:
            ChannelClosed: nobody reads any more.
        """
        header = HEADER.pack(len(body), sequence, kind)
        try:
            if len(body) <= _COPY_BELOW:
                data = header + body
                sent = os.write(self._fd, data)
                while sent < len(data):
                    data = data[sent:]
                    sent = os.write(self._fd, data)
            else:
                self._send_large(header, body)
        except OSError as exc:
            raise ChannelClosed from exc

    def _send_large(self, header: bytes, body: bytes) -> None:
        sent = os.writev(self._fd, [header, body]) - HEADER_SIZE
        if sent < 0:
            raise OSError("the header was cut: the channel is not a stream of the worker")
        with memoryview(body) as view:
            while sent < len(body):
                sent += os.write(self._fd, view[sent:])
