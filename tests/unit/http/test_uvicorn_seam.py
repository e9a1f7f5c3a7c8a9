"""The parts of uvicorn that the connection stands on. A change of any of them must fail here.

Beyond the documented API we use the protocol class, its request cycle and the server's life
cycle (decision D2). When an update of uvicorn fails these tests, read its changes to
``protocols/http/httptools_impl.py`` and ``server.py`` before adapting ours.
"""

from __future__ import annotations

import inspect
from typing import Any

import uvicorn
from uvicorn.protocols.http import flow_control
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from pilotlight.dataplane.frontend.http.protocol import Connection


def names(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_protocol_is_made_with_what_the_server_passes() -> None:
    expected = ["self", "config", "server_state", "app_state", "_loop"]
    assert names(HttpToolsProtocol.__init__) == expected
    assert names(Connection.__init__) == expected
    source = inspect.getsource(uvicorn.Server.startup)
    assert "config.http_protocol_class(" in source
    assert "sockets is not None" in source


def test_every_callback_of_the_protocol_is_ours_or_known() -> None:
    known = {
        # inherited as they are
        "_start_asgi_task",
        # never reached: our own on_header, on_headers_complete and data_received replace them
        "_get_upgrade",
        "_should_upgrade",
        "_should_upgrade_to_ws",
        "_unset_keepalive_if_required",
        "_unsupported_upgrade_warning",
        "handle_websocket_upgrade",
        "send_400_response",
        "timeout_keep_alive_handler",
    }
    theirs = {name for name in vars(HttpToolsProtocol) if not name.startswith("__")}
    ours = {name for name in vars(Connection) if not name.startswith("__")}
    assert theirs - ours == known


def test_cycle_has_the_arguments_and_the_state_we_use() -> None:
    assert names(RequestResponseCycle.__init__) == [
        "self",
        "scope",
        "transport",
        "flow",
        "logger",
        "access_logger",
        "access_log",
        "default_headers",
        "message_event",
        "expect_100_continue",
        "keep_alive",
        "on_response",
    ]
    source = inspect.getsource(RequestResponseCycle)
    for attribute in (
        "self.body = bytearray()",
        "self.more_body = True",
        "self.disconnected = False",
        "self.keep_alive = keep_alive",
        "self.response_started = False",
        "self.response_complete = False",
        "self.on_response()",
    ):
        assert attribute in source


def test_starting_and_losing_a_connection_is_as_we_expect() -> None:
    start = inspect.getsource(HttpToolsProtocol._start_asgi_task)
    assert "self.tasks.add(task)" in start
    made = inspect.getsource(HttpToolsProtocol.connection_made)
    assert "self.connections.add(self)" in made
    assert "self.flow = FlowControl(transport)" in made
    lost = inspect.getsource(HttpToolsProtocol.connection_lost)
    assert "self.connections.discard(self)" in lost
    assert "self.cycle.disconnected = True" in lost


def test_flow_control_and_server_state() -> None:
    for method in ("pause_reading", "resume_reading", "pause_writing", "resume_writing", "drain"):
        assert hasattr(FlowControl, method)
    state = ServerState()
    assert state.connections == set()
    assert state.tasks == set()
    assert state.total_requests == 0
    assert state.default_headers == []
    assert flow_control.HIGH_WATER_LIMIT == 65536


def test_server_stops_by_should_exit_and_asks_each_connection() -> None:
    server = uvicorn.Server(uvicorn.Config(app=lambda: None))
    assert server.should_exit is False
    assert server.started is False
    source = inspect.getsource(uvicorn.Server.shutdown)
    assert "connection.shutdown()" in source
    assert "timeout_graceful_shutdown" in source
    assert hasattr(uvicorn.Server, "capture_signals")
