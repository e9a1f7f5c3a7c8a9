"""HTTP Server: one listening socket and the connections on it, as a part of a role."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import uvicorn

from pilotlight.dataplane.frontend.http.listener import Listener, ListenerConfig
from pilotlight.dataplane.frontend.http.protocol import Connection
from pilotlight.model.errors import ConfigurationError


class _EmbeddedServer(uvicorn.Server):
    """uvicorn's server without its signal handlers: the role decides when to stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class HttpServer:
    """Serves one listener; a `Part`.

    The socket is bound when the object is made, so the address is known before anything runs.

    Args:
        name: of the part.
        host: address or name to bind.
        port: 0 for any free one, see `address`.
        listener: what its connections share.
        app: the ASGI application for what the listener's route leaves alone.
        tls: of its connections; None: they are not encrypted.

    Raises:
        ConfigurationError: the address is in use, not ours, or not an address.
    """

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        listener: Listener,
        app: Any,  # noqa: ANN401 - any ASGI application
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self._listener = listener
        self._scheme = "http" if tls is None else "https"
        self._socket = _bind(host, port, listener.settings.backlog)
        bound = self._socket.getsockname()
        self._address = (str(bound[0]), int(bound[1]))
        self._stopped = asyncio.Event()
        self._stopped.set()
        self._server = _EmbeddedServer(
            ListenerConfig(
                app,
                listener,
                tls=tls,
                http=Connection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                loop="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(listener.settings.drain_timeout_s)),
            )
        )

    @property
    def address(self) -> tuple[str, int]:
        """The bound address, with the real port."""
        return self._address

    @property
    def url(self) -> str:
        """The origin of this listener, such as ``http://127.0.0.1:9700``."""
        host, port = self._address
        return (
            f"{self._scheme}://[{host}]:{port}"
            if ":" in host
            else f"{self._scheme}://{host}:{port}"
        )

    @property
    def connections(self) -> int:
        """Connections that are open at the moment."""
        return len(self._server.server_state.connections)

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until cancelled; after `drain` it only waits for that.

        Cancellation closes the socket and all connections at once.
        """
        self._stopped.clear()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sweep(), name=f"{self.name}-sweeper")
                serving = self._server.serve(sockets=[self._socket])
                group.create_task(self._serve(serving), name=f"{self.name}-server")
                await self._server.listening.wait()
                ready()
        finally:
            self.close()
            self._stopped.set()

    async def drain(self) -> None:
        """Stop accepting, finish running requests, close their connections, and return then.

        What still runs after `HttpSettings.drain_timeout_s` is cut off. May be called repeatedly.
        """
        self._server.should_exit = True
        await self._stopped.wait()

    def close(self) -> None:
        """Close the socket and all connections at once; running functions are not stopped."""
        for server in getattr(self._server, "servers", ()):
            server.close()
        state = self._server.server_state
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        self._socket.close()

    async def _serve(self, serving: Coroutine[Any, Any, None]) -> None:
        await serving
        self.close()
        self._stopped.set()

    async def _sweep(self) -> None:
        """Advance the listener's coarse time and judge every connection's deadlines."""
        while True:
            self._listener.tick()
            for connection in list(self._server.server_state.connections):
                if isinstance(connection, Connection):
                    connection.sweep(self._listener.now)
            await asyncio.sleep(self._listener.settings.sweep_period_s)


def _bind(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigurationError: the address is in use, not ours, or not an address.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(where)
            bound.listen(backlog)
            bound.setblocking(False)  # noqa: FBT003 - positional only
        except OSError:
            bound.close()
            raise
    except OSError as exc:
        raise ConfigurationError(
            f"Cannot listen on {host}:{port}: {exc.strerror or exc}. Choose another address with"
            " --listen or --url-listen, or stop what uses this one."
        ) from exc
    return bound
