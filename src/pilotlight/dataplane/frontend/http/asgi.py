"""The seam to uvicorn: how a request is handed to the ASGI application.

Everything this package uses of uvicorn beyond its documented API is in this module, in
`protocol` and in `server`, and `tests/unit/http/test_uvicorn_seam.py` fails when any of it changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pilotlight.dataplane.frontend.http.head import RequestHead

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope


def scope_of(connection: HttpToolsProtocol, head: RequestHead) -> HTTPScope:
    """The ASGI scope of a request (ASGI HTTP specification 2.3)."""
    return {
        "type": "http",
        "asgi": {"version": connection.asgi_version, "spec_version": "2.3"},
        "http_version": head.version,
        "server": connection.server,
        "client": connection.client,
        "scheme": connection.scheme or "http",
        "root_path": connection.root_path,
        "headers": head.headers,
        "state": connection.app_state.copy(),
        "method": head.method.decode("ascii"),
        "path": unquote(head.path.decode("ascii")),
        "raw_path": head.path,
        "query_string": head.query,
        "extensions": {},
    }


def new_cycle(
    connection: HttpToolsProtocol, head: RequestHead, *, keep_alive: bool, done: Callable[[], None]
) -> RequestResponseCycle:
    """A cycle that runs the application for one request and writes its answer."""
    return RequestResponseCycle(
        scope=scope_of(connection, head),
        transport=connection.transport,
        flow=connection.flow,
        logger=connection.logger,
        access_logger=connection.access_logger,
        access_log=False,
        default_headers=connection.server_state.default_headers,
        message_event=asyncio.Event(),
        expect_100_continue=head.expects_continue,
        keep_alive=keep_alive,
        on_response=done,
    )
