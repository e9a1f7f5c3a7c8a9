"""The floor of the warm path: a raw HTTP protocol that hands each body to one echo process.

No signature, limits, logs, metrics, deadlines or sandbox: what is left is the cost of parsing,
of one hop over a socket to another process, and of decoding and encoding JSON there.

Usage: python -m benchmarks.floor serve        prints its port, serves until killed
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
from collections import deque
from typing import cast

import httptools
import uvloop

_HEADER = struct.Struct("<I")


def echo(sock: socket.socket) -> None:
    """The process behind the hop."""
    encode = json.JSONEncoder(separators=(",", ":")).encode
    rest = b""
    while data := sock.recv(256 * 1024):
        rest += data
        while len(rest) >= 4:
            (length,) = _HEADER.unpack_from(rest)
            if len(rest) < 4 + length:
                break
            body = encode(json.loads(rest[4 : 4 + length])).encode()
            rest = rest[4 + length :]
            sock.sendall(_HEADER.pack(len(body)) + body)


class Hop(asyncio.Protocol):
    """One request in flight, the others wait in a queue."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[bytes, HttpConnection]] = deque()
        self.current: HttpConnection | None = None
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)  # uvloop's own do not inherit it

    def submit(self, body: bytes, connection: HttpConnection) -> None:
        if self.current is not None:
            self.waiting.append((body, connection))
            return
        self.current = connection
        self.transport.write(_HEADER.pack(len(body)) + body)

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while len(self.rest) >= 4:
            (length,) = _HEADER.unpack_from(self.rest)
            if len(self.rest) < 4 + length:
                return
            body, self.rest = self.rest[4 : 4 + length], self.rest[4 + length :]
            done, self.current = self.current, None
            if self.waiting:
                self.submit(*self.waiting.popleft())
            if done is not None:
                done.answer(body)


class HttpConnection(asyncio.Protocol):
    """Parses requests and answers them, nothing more."""

    def __init__(self, hop: Hop) -> None:
        self.hop, self.body = hop, b""
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)  # uvloop's own do not inherit it

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        body, self.body = self.body, b""
        self.hop.submit(body, self)

    def answer(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        if not self.transport.is_closing():
            self.transport.write(head % len(body) + body)


async def _serve() -> None:
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        echo(theirs)
        os._exit(0)
    theirs.close()
    loop = asyncio.get_running_loop()
    _, hop = await loop.create_connection(Hop, sock=ours)
    server = await loop.create_server(lambda: HttpConnection(hop), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(uvloop.run(_serve()))
