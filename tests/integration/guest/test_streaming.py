"""Handlers that stream, in a runtime that is a process, on every interpreter of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.guest.runtime_process import VERSIONS, Runtime, interpreter

from pilotlight_guest.frames import (
    BYTES_TYPE,
    CREDIT,
    CREDIT_BODY,
    ERROR,
    HTTP_TYPE,
    MAX_CHUNK,
    PRELUDE_END,
    RESULT,
    STREAM_BEGIN,
    STREAM_BYTES_MAX,
    STREAM_CHUNK,
    STREAM_END,
    STREAM_WINDOW,
    frame,
)

CODE = """
def pieces(event, context):
    yield "één"
    yield b"two"
    yield bytearray(b"3")
    yield memoryview(b"four")
    yield ""

def nothing(event, context):
    return
    yield

def response(event, context):
    yield {"statusCode": 201, "headers": {"x-a": "1"}}
    yield "body"

def before(event, context):
    raise ValueError("no piece yet")
    yield

def between(event, context):
    yield "a"
    print("about to fail")
    raise ValueError("too late")

def wrong(event, context):
    yield event["first"]
    try:
        yield 3
    finally:
        print("closed")

def late_head(event, context):
    yield "a"
    yield {"statusCode": 200}

def bulk(event, context):
    for _ in range(event["times"]):
        yield b"x" * event["size"]

def either(event, context):
    return pieces(event, context) if event else {"plain": True}
"""


@pytest.fixture(params=VERSIONS)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    executable = interpreter(request.param)
    if executable is None:
        pytest.skip(f"no Python {request.param} here")
    (tmp_path / "app.py").write_text(CODE)
    with Runtime(executable, tmp_path) as runtime:
        yield runtime


def ask(runtime: Runtime, event: object = None) -> int:
    """Send an invocation; its sequence number."""
    data = runtime.invoke_frame(json.dumps(event).encode())
    runtime.channel.sendall(data)
    return runtime.sequence


def collect(runtime: Runtime, sequence: int) -> tuple[str, bytes, bytes]:
    """Content type, whole body and what the stream ended with."""
    number, kind, began = runtime.receive()
    assert (number, kind) == (sequence, STREAM_BEGIN)
    content_type, body = began.decode(), b""
    while True:
        number, kind, piece = runtime.receive()
        assert number == sequence
        if kind == STREAM_END:
            return content_type, body, piece
        assert kind == STREAM_CHUNK
        assert 0 < len(piece) <= MAX_CHUNK
        body += piece
        runtime.channel.sendall(frame(sequence, CREDIT, CREDIT_BODY.pack(len(piece))))


def test_a_generator_is_streamed_as_it_yields(start: Runtime) -> None:
    start.start("app.pieces")
    for _ in range(2):
        said = collect(start, ask(start))
        assert said == (BYTES_TYPE, "één".encode() + b"two3four", b"")


def test_a_generator_without_pieces_is_an_empty_stream(start: Runtime) -> None:
    start.start("app.nothing")
    assert collect(start, ask(start)) == (BYTES_TYPE, b"", b"")


def test_a_head_comes_first_and_ends_with_eight_nul_bytes(start: Runtime) -> None:
    start.start("app.response")
    content_type, body, end = collect(start, ask(start))
    head, _, rest = body.partition(PRELUDE_END)
    assert (content_type, end, rest) == (HTTP_TYPE, b"", b"body")
    assert json.loads(head) == {"statusCode": 201, "headers": {"x-a": "1"}}


def test_what_fails_before_the_first_piece_is_an_ordinary_error(start: Runtime) -> None:
    start.start("app.before")
    sequence = ask(start)
    number, kind, body = start.receive()
    assert (number, kind) == (sequence, ERROR)
    assert json.loads(body)["errorMessage"] == "no piece yet"


def test_what_fails_between_pieces_ends_the_stream(start: Runtime) -> None:
    start.start("app.between")
    _, body, end = collect(start, ask(start))
    error = json.loads(end)
    assert (body, error["errorType"], error["errorMessage"]) == (b"a", "ValueError", "too late")
    assert "too late" in error["stackTrace"][-1]
    start.shut_down()
    status, output = start.ended()
    assert status == 0
    assert "about to fail" in output
    assert "[ERROR] ValueError: too late" in output


def test_a_piece_of_another_type_ends_the_stream_and_the_generator(start: Runtime) -> None:
    start.start("app.wrong")
    _, body, end = collect(start, ask(start, {"first": "a"}))
    assert body == b"a"
    assert json.loads(end)["errorType"] == "Runtime.MarshalError"
    assert "not of int" in json.loads(end)["errorMessage"]
    start.shut_down()
    assert "closed\n" in start.ended()[1]


def test_a_head_that_comes_late_is_refused(start: Runtime) -> None:
    start.start("app.late_head")
    _, body, end = collect(start, ask(start))
    assert body == b"a"
    assert "may only come first" in json.loads(end)["errorMessage"]


def test_a_handler_may_stream_or_not(start: Runtime) -> None:
    start.start("app.either")
    assert collect(start, ask(start, 1))[0] == BYTES_TYPE
    sequence = ask(start, 0)
    assert start.receive() == (sequence, RESULT, b'{"plain": true}')


def test_the_handler_waits_when_nobody_takes_what_it_sent(start: Runtime) -> None:
    start.start("app.bulk")
    size = 3 * MAX_CHUNK
    sequence = ask(start, {"size": size, "times": 4})
    assert start.receive()[1] == STREAM_BEGIN
    received = 0
    while received < STREAM_WINDOW:
        received += len(start.receive()[2])
    assert received == STREAM_WINDOW
    # It waits: an invocation and a stale credit that come now are for later, and to be ignored.
    start.channel.sendall(frame(sequence + 9, CREDIT, CREDIT_BODY.pack(1 << 20)))
    second = ask(start, {"size": 1, "times": 1})
    start.channel.settimeout(0.3)
    with pytest.raises(TimeoutError):
        start.channel.recv(1)
    start.channel.settimeout(15)
    start.channel.sendall(frame(sequence, CREDIT, CREDIT_BODY.pack(STREAM_WINDOW)))
    while (got := start.receive())[1] == STREAM_CHUNK:
        received += len(got[2])
    assert (got, received) == ((sequence, STREAM_END, b""), 4 * size)
    start.channel.sendall(frame(sequence, CREDIT, CREDIT_BODY.pack(1)))  # late: means nothing
    assert collect(start, second) == (BYTES_TYPE, b"x", b"")


def test_a_stream_has_a_largest_size(start: Runtime) -> None:
    start.start("app.bulk")
    sequence = ask(start, {"size": STREAM_BYTES_MAX + 1, "times": 1})
    assert start.receive()[:2] == (sequence, STREAM_BEGIN)
    _, kind, body = start.receive()
    error = json.loads(body)
    assert (kind, error["errorType"]) == (STREAM_END, "Function.ResponseSizeTooLarge")
    assert f"({STREAM_BYTES_MAX} bytes)" in error["errorMessage"]


def test_a_worker_that_goes_ends_the_runtime(start: Runtime) -> None:
    start.start("app.bulk")
    ask(start, {"size": STREAM_WINDOW * 2, "times": 1})
    assert start.receive()[1] == STREAM_BEGIN
    start.channel.close()
    assert start.process.wait(15) == 0
