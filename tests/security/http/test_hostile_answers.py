"""A hostile function's answer never ends a header line, frames the body or starts a response."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.dataplane.frontend.urls.response import NotAResponse, map_response

pytestmark = pytest.mark.anyio

ATTACKS = [
    {"headers": {"X": "a\r\nSet-Cookie: b"}},
    {"headers": {"X": "a\nb"}},
    {"headers": {"X": "a\rb"}},
    {"headers": {"X": "a\x00b"}},
    {"headers": {"X: y\r\nZ": "a"}},
    {"headers": {"": "a"}},
    {"headers": {"X Y": "a"}},
    {"headers": {"X": ["a"]}},
    {"headers": ["X"]},
    {"cookies": ["a=1\r\nX: y"]},
    {"cookies": "a=1"},
    {"statusCode": 101},
    {"statusCode": "200 OK\r\nX: y"},
    {"statusCode": True},
    {"statusCode": 1e300},
    {"body": "x", "isBase64Encoded": True},
    {"headers": {str(n): "x" for n in range(1000)}},
    {"headers": {"X": "y" * 100_000}},
]


@pytest.mark.parametrize("attack", ATTACKS)
async def test_hostile_answer_is_a_502(urls: Any, kit: Any, attack: Any) -> None:
    payload = json.dumps({"statusCode": 200} | attack).encode()
    urls.invoker.behave = lambda _: kit.result(payload)
    client = await urls.connect()
    ask = f"GET /url/{kit.url_id}/ HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    for _ in range(2):
        await client.send(ask)
        status, fields, body = await client.response()
        assert (status, body) == (502, b"Internal Server Error")
        assert "set-cookie" not in dict(fields)


async def test_functions_framing_headers_are_dropped(urls: Any, kit: Any) -> None:
    headers = {"Transfer-Encoding": "chunked", "Content-Length": "0", "Connection": "close"}
    payload = json.dumps({"statusCode": 200, "headers": headers, "body": "body"}).encode()
    urls.invoker.behave = lambda _: kit.result(payload)
    ask = f"GET /url/{kit.url_id}/ HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    _, fields, body = await urls.ask(ask)
    assert body == b"body"
    assert not {"transfer-encoding", "connection"} & set(dict(fields))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ANSWERS = st.fixed_dictionaries(
    {"statusCode": st.integers(-10, 700) | JSON},
    optional={
        "headers": st.dictionaries(st.text(), JSON) | JSON,
        "cookies": st.lists(st.text()) | JSON,
        "body": st.text() | JSON,
        "isBase64Encoded": st.booleans() | JSON,
    },
)


@given(ANSWERS | JSON)
def test_mapped_responses_are_always_safe(answer: Any) -> None:
    try:
        response = map_response(json.dumps(answer).encode())
    except NotAResponse:
        return
    assert 200 <= response.status < 600
    for name, value in response.headers:
        assert not set(name + value) & {"\r", "\n", "\x00"}
        assert ":" not in name
        assert name not in {"content-length", "transfer-encoding", "connection"}


@given(st.binary(max_size=64))
def test_any_bytes_are_mapped_or_refused(payload: Any) -> None:
    with contextlib.suppress(NotAResponse):
        map_response(payload)
