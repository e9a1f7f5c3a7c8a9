"""Events and responses of function URLs, as pure functions."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.dataplane.frontend.http.head import RequestHead
from pilotlight.dataplane.frontend.urls.cors import Cors, allowed_origin, read_cors
from pilotlight.dataplane.frontend.urls.event import (
    Origin,
    Template,
    build_event,
    is_text_body,
    join_query,
    read_fields,
)
from pilotlight.dataplane.frontend.urls.response import NotAResponse, map_response, map_stream
from pilotlight.dataplane.frontend.urls.target import by_host, by_path
from pilotlight_guest.frames import BYTES_TYPE, HTTP_TYPE

ORIGIN = Origin(
    "id", "host", b"/p", "rid", "trace", 1583348638.39, "9701", "http", "111122223333", None
)


def event(body: bytes, *headers: tuple[bytes, bytes], query: bytes = b"") -> dict[str, object]:
    head = RequestHead(b"POST", b"/p?" + query if query else b"/p", "1.1", list(headers))
    built: dict[str, object] = json.loads(
        build_event(head, read_fields(head.headers), body, ORIGIN)
    )
    return built


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_body_arrives_as_it_is(text: Any) -> None:
    got = event(text.encode(), (b"content-type", b"text/plain"))
    assert got.get("body", "") == text
    assert got["isBase64Encoded"] is False


@given(st.binary(min_size=1))
def test_any_other_body_arrives_in_base64(body: Any) -> None:
    got = event(body, (b"content-type", b"application/octet-stream"))
    assert base64.b64decode(str(got["body"])) == body
    assert got["isBase64Encoded"] is True


@given(st.lists(st.tuples(st.sampled_from([b"a", b"cookie", b"x-b"]), st.binary(max_size=20))))
def test_any_header_bytes_give_a_valid_event(headers: Any) -> None:
    got = event(b"", *headers)
    assert got["version"] == "2.0"


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"a", b"cookie", b"x-forwarded-for", b"content-type", b"user-agent"]),
            st.binary(max_size=20) | st.just(b"text/plain"),
        )
    ),
    query=st.sampled_from([b"", b"a=1&a=%22", b"x"]),
    body=st.binary(max_size=30),
    request_id=st.uuids().map(str),
    wall_s=st.floats(0, 4e9),
)
def test_a_template_gives_the_same_event(
    headers: Any, query: Any, body: Any, request_id: Any, wall_s: Any
) -> None:
    head = RequestHead(b"POST", b"/p?" + query, "1.1", headers)
    trace = f"Root=1-{int(wall_s):08x}-{'0' * 24};Sampled=0"
    template = Template(head, read_fields(headers), ORIGIN)
    filled = template.fill(body, trace=trace, request_id=request_id, wall_s=wall_s)
    origin = ORIGIN._replace(trace=trace, request_id=request_id, wall_s=wall_s)
    assert json.loads(filled) == json.loads(build_event(head, read_fields(headers), body, origin))


def test_text_that_is_not_utf8_is_base64() -> None:
    got = event(b"\xff", (b"content-type", b"text/plain"))
    assert (got["body"], got["isBase64Encoded"]) == ("/w==", True)


def test_time_of_the_request() -> None:
    context = event(b"")["requestContext"]
    assert isinstance(context, dict)
    assert context["time"] == "04/Mar/2020:19:03:58 +0000"
    assert context["timeEpoch"] == 1583348638390


@pytest.mark.parametrize(
    ("kind", "encoding", "expected"),
    [
        ("text/html; charset=utf-8", "", True),
        ("application/json", "", True),
        ("application/vnd.api+json", "", True),
        ("image/svg+xml", "", True),
        ("application/json", "gzip", False),
        ("application/x-www-form-urlencoded", "", False),
        ("multipart/form-data; boundary=x", "", False),
        ("", "", False),
    ],
)
def test_which_bodies_are_text(kind: Any, encoding: Any, expected: Any) -> None:
    assert is_text_body(kind, encoding) is expected


def test_query_parameters() -> None:
    assert join_query(b"a=1&a=2&b&c=%2C+x&&=y") == {"a": "1,2", "b": "", "c": ", x", "": "y"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/url/abc", ("abc", b"/")),
        (b"/url/ABC/x//y", ("abc", b"/x//y")),
        (b"/url/", None),
        (b"/url/a.b/", None),
        (b"/other/abc", None),
    ],
)
def test_urls_by_path(path: Any, expected: Any) -> None:
    assert by_path(path) == expected


def test_urls_by_host() -> None:
    assert by_host(b"ABC.lambda-url.eu-west-1.on.aws:1")[0] == "abc"
    assert by_host(b"localhost")[0] is None
    assert by_host(b"a.b.lambda-url.x.y")[0] is None


def test_cors_origins() -> None:
    cors = read_cors({"AllowOrigins": ["https://A.example"], "MaxAge": 5})
    assert cors is not None
    assert allowed_origin(cors, "https://a.example") == "https://a.example"
    assert allowed_origin(cors, "https://b.example") is None
    assert allowed_origin(Cors(("*",)), "https://b.example") == "*"
    assert allowed_origin(Cors(("*",), allow_credentials=True), "https://b") == "https://b"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_inferred_responses_are_the_same_json(value: Any) -> None:
    """The fast compaction equals the standard library's, whatever the value."""
    if isinstance(value, dict):
        value.pop("statusCode", None)
    response = map_response(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    if isinstance(value, str):
        assert response.body == value.encode()
    else:
        assert json.loads(response.body) == value


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        (b'{"st\\u0061tusCode": 201, "body": "x"}', b"x"),
        (b'"\\ud800"', b"?"),
        (b'["\\ud800"]', b'["\\ud800"]'),
        (b"[1e999]", b"[1e999]"),
        (b' "x" ', b"x"),
    ],
)
def test_unusual_results(payload: Any, body: Any) -> None:
    assert map_response(payload).body == body


def test_a_collected_stream_is_a_response() -> None:
    assert map_stream(BYTES_TYPE, b"\x00body") == (
        200, (("content-type", "application/octet-stream"),), b"\x00body",
    )  # fmt: skip
    head = {"statusCode": 404, "headers": {"Content-Type": "text/html"}, "cookies": ["a=1"]}
    assert map_stream(HTTP_TYPE, json.dumps(head).encode() + bytes(8) + b"<p>\x00") == (
        404, (("content-type", "text/html"), ("set-cookie", "a=1")), b"<p>\x00",
    )  # fmt: skip
    assert map_stream(HTTP_TYPE, b"{}" + bytes(8)).status == 200
    assert map_stream(HTTP_TYPE, b'{"statusCode":204}' + bytes(8) + b"x").body == b""


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"{}",
        b"{}" + bytes(7),
        b"[]" + bytes(8),
        b"{" + bytes(8),
        b'{"statusCode": 99}' + bytes(8),
        b'{"headers": {"a": "x\\r\\ny: z"}}' + bytes(8),
        b'{"headers": {"a b": "x"}}' + bytes(8),
        b'{"headers": ["a"]}' + bytes(8),
        b'{"cookies": "a=1"}' + bytes(8),
    ],
)
def test_a_prelude_that_is_none_is_no_response(stream: Any) -> None:
    with pytest.raises(NotAResponse):
        map_stream(HTTP_TYPE, stream)


@given(st.binary(max_size=60))
def test_no_prelude_raises_anything_else(prelude: Any) -> None:
    with contextlib.suppress(NotAResponse):
        map_stream(HTTP_TYPE, prelude + bytes(8))
