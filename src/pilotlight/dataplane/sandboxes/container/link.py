"""The driver's end of the socket to the launcher: requests out, replies in, by number."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pilotlight.dataplane.sandboxes.container import protocol
from pilotlight.model.errors import SandboxError

_GONE = (
    "the sandbox launcher has ended, and every sandbox with it; restart Pilotlight "
    "(its log says why it ended)"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply with the descriptors that came beside it, by name; the receiver owns them."""

    reply: protocol.Reply
    fds: Mapping[str, int]


class LauncherLink:
    """Carries requests; no task of its own, only callbacks of the running loop.

    Args:
        on_end: called once when the launcher has gone.
    """

    def __init__(self, channel: socket.socket, on_end: Callable[[], None]) -> None:
        self._socket = channel
        self._socket.settimeout(0)
        self._on_end = on_end
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._outgoing: deque[bytes] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._last = 0
        self.is_over = False

    def request(self, build: Callable[[int], protocol.Request]) -> asyncio.Future[Answer]:
        """Send ``build(n)``; the future gets the reply, or SandboxError.

        A future that was cancelled loses its reply; descriptors in it are closed.
        """
        loop = self._attached()
        future: asyncio.Future[Answer] = loop.create_future()
        if self.is_over:
            future.set_exception(SandboxError(_GONE))
            return future
        self._last += 1
        self._waiting[self._last] = future
        self._outgoing.append(protocol.encode(build(self._last)))
        self._flush()
        return future

    def detach(self) -> None:
        """Stop listening, so that the socket may be closed; `close` must follow."""
        if self._loop is not None and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())

    def close(self) -> None:
        """Stop; whoever still waits gets SandboxError. The socket stays open."""
        self._end()

    def _attached(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            if not self.is_over:
                self._loop.add_reader(self._socket.fileno(), self._readable)
        return self._loop

    def _flush(self) -> None:
        while self._outgoing and not self.is_over:
            try:
                self._socket.send(self._outgoing[0])
            except BlockingIOError:
                self._attached().add_writer(self._socket.fileno(), self._writable)
                return
            except OSError:
                self._end()
                return
            self._outgoing.popleft()

    def _writable(self) -> None:
        self._attached().remove_writer(self._socket.fileno())
        self._flush()

    def _readable(self) -> None:
        while not self.is_over:
            try:
                message, fds, _, _ = socket.recv_fds(
                    self._socket, protocol.MESSAGE_BYTES, protocol.DESCRIPTORS_MAX
                )
            except BlockingIOError:
                return
            except OSError:
                message, fds = b"", []
            if not message:
                self._end()
                return
            self._take(message, fds)

    def _take(self, message: bytes, fds: list[int]) -> None:
        reply = protocol.decode_reply(message)
        future = self._waiting.pop(reply.n, None)
        if future is None or future.done() or reply.error is not None:
            for fd in fds:
                os.close(fd)
        if future is None or future.done():
            return
        if reply.error is not None:
            future.set_exception(SandboxError(reply.error))
        else:
            future.set_result(Answer(reply, dict(zip(reply.names, fds, strict=True))))

    def _end(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        self.detach()
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(SandboxError(_GONE))
        self._on_end()
