"""Our own log: one JSON object a line, secrets hidden, the standard library's loggers included."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from pilotlight.observability.logging import configure


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    target = io.StringIO()
    yield target
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_events_are_json_with_level_time_and_fields(stream: io.StringIO) -> None:
    configure(output="json", level="info", stream=stream)
    structlog.get_logger("pilotlight.x").info("state_changed", function="hello")
    structlog.get_logger("pilotlight.x").debug("not_shown")
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event["event"] == "state_changed"
    assert event["level"] == "info"
    assert event["function"] == "hello"
    assert event["timestamp"].endswith("Z")


@pytest.mark.parametrize("output", ["json", "console"])
def test_secrets_are_hidden(stream: io.StringIO, output: str) -> None:
    configure(output=output, level="info", stream=stream)
    structlog.get_logger().info("e", client_secret="hunter2", Authorization="hunter2")  # noqa: S106
    assert "hunter2" not in stream.getvalue()


def test_the_standard_library_s_loggers_come_in_the_same_form(stream: io.StringIO) -> None:
    configure(output="json", level="warning", stream=stream)
    try:
        int("boom")
    except ValueError:
        logging.getLogger("uvicorn").exception(
            "it_failed", extra={"path": "/x", "api_token": "hunter2"}
        )
    event = json.loads(stream.getvalue())
    assert event["event"] == "it_failed"
    assert event["path"] == "/x"
    assert "hunter2" not in stream.getvalue()
    assert "ValueError: invalid" in event["exception"]


def test_a_library_that_set_up_a_stream_of_its_own_is_brought_back(stream: io.StringIO) -> None:
    library = logging.getLogger("uvicorn")
    own = io.StringIO()
    library.addHandler(logging.StreamHandler(own))
    library.propagate = False
    configure(output="json", level="warning", stream=stream)
    library.warning("it_failed")
    assert json.loads(stream.getvalue())["event"] == "it_failed"
    assert own.getvalue() == ""


def test_setting_up_twice_does_not_double_lines(stream: io.StringIO) -> None:
    configure(output="auto", level="info", stream=stream)
    configure(output="auto", level="info", stream=stream)
    structlog.get_logger().info("once")
    assert len(stream.getvalue().splitlines()) == 1
