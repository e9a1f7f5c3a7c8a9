"""The pure parts of the HTTP listeners."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.dataplane.frontend.http.answers import Answer, render
from pilotlight.dataplane.frontend.http.budget import ByteBudget
from pilotlight.dataplane.frontend.http.deadlines import Phase, Verdict, transfer_is_late, verdict
from pilotlight.dataplane.frontend.http.hosts import HostList, host_name
from pilotlight.dataplane.frontend.http.json_text import check_event
from pilotlight.dataplane.frontend.http.names import FunctionName, parse_function_name
from pilotlight.dataplane.frontend.http.settings import HttpSettings
from pilotlight.dataplane.frontend.http.trace import trace_id
from pilotlight.model.errors import ApiError


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"LocalHost:9700", "localhost"),
        (b"localhost.", "localhost"),
        (b"[::1]:80", "[::1]"),
        (b"", None),
        (b":80", None),
        (b"a:b", None),
        (b"[::1", None),
        (b"a b", None),
        (b"user@localhost", None),
        (b"\xff", None),
    ],
)
def test_host_name(host: Any, name: Any) -> None:
    assert host_name(host) == name


@given(st.binary(max_size=40))
def test_any_host_is_decided(host: Any) -> None:
    assert HostList(["localhost"]).admits(host) in (True, False)


def test_host_patterns() -> None:
    hosts = HostList(["localhost", "*.example.com", "*.lambda-url.*"])
    assert hosts.admits(b"a.b.example.com:1")
    assert hosts.admits(b"x.lambda-url.eu-west-1.on.aws")
    assert not hosts.admits(b"example.com")
    assert not hosts.admits(b"example.com.evil")
    assert HostList(["*"]).admits(b"anything")
    assert not HostList([]).admits(b"localhost")


def test_a_transfer_has_a_grace_and_then_a_rate() -> None:
    assert not transfer_is_late(20.0, 0, 20.0, 1024)
    assert transfer_is_late(20.1, 0, 20.0, 1024)
    assert not transfer_is_late(30.0, 10 * 1024, 20.0, 1024)
    assert transfer_is_late(30.1, 10 * 1024, 20.0, 1024)


@pytest.mark.parametrize(
    ("phase", "elapsed_s", "is_busy", "expected"),
    [
        (Phase.IDLE, 74, False, Verdict.KEEP),
        (Phase.IDLE, 76, False, Verdict.CLOSE),
        (Phase.IDLE, 76, True, Verdict.KEEP),
        (Phase.HEAD, 19, False, Verdict.KEEP),
        (Phase.HEAD, 21, True, Verdict.REFUSE),
        (Phase.BODY, 19, True, Verdict.KEEP),
        (Phase.BODY, 21, True, Verdict.REFUSE),
        (Phase.LINGER, 4, False, Verdict.KEEP),
        (Phase.LINGER, 6, False, Verdict.ABORT),
        (Phase.CLOSING, 999, False, Verdict.KEEP),
    ],
)
def test_verdicts(phase: Any, elapsed_s: Any, is_busy: Any, expected: Any) -> None:
    assert verdict(phase, elapsed_s, 0, HttpSettings(), is_busy=is_busy) is expected


def test_budget_counts_by_key_and_in_all() -> None:
    budget = ByteBudget(100, 60)
    budget.take("a", 60)
    with pytest.raises(ApiError) as caught:
        budget.take("a", 1)
    assert caught.value.code == "TooManyRequestsException"
    with pytest.raises(ApiError) as caught:
        budget.take("b", 41)
    assert caught.value.status == 503
    budget.take("b", 40)
    budget.give("a", 60)
    budget.give("b", 40)
    assert budget.held_bytes == 0


@pytest.mark.parametrize(
    ("status", "is_head", "length", "body"),
    [(200, False, b"Content-Length: 2", b"hi"), (200, True, b"Content-Length: 2", b"")],
)
def test_render_says_the_length_even_where_it_sends_no_body(
    status: Any, is_head: Any, length: Any, body: Any
) -> None:
    head, sent = render(Answer(status, b"", b"hi"), date_line=b"", is_head=is_head, close=False)
    assert length in head
    assert sent == body


@pytest.mark.parametrize("status", [204, 304])
def test_render_without_content(status: Any) -> None:
    head, sent = render(Answer(status, b"", b"hi"), date_line=b"", is_head=False, close=True)
    assert b"Content-Length" not in head
    assert b"Connection: close\r\n\r\n" in head
    assert sent == b""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f", FunctionName("f")),
        ("f:live", FunctionName("f", qualifier="live")),
        ("f:$LATEST", FunctionName("f", qualifier="$LATEST")),
        ("function:f", FunctionName("f")),
        ("000000000000:function:f:1", FunctionName("f", account="000000000000", qualifier="1")),
        (
            "arn:aws:lambda:us-gov-west-1:000000000000:function:f",
            FunctionName("f", region="us-gov-west-1", account="000000000000"),
        ),
    ],
)
def test_names(text: Any, expected: Any) -> None:
    assert parse_function_name(text) == expected


@pytest.mark.parametrize("text", ["", "a b", "f:1:2", "arn:aws:s3:::f", "f:", "é", "f\n"])
def test_bad_names(text: Any) -> None:
    with pytest.raises(ApiError):
        parse_function_name(text)


@given(st.text(max_size=60))
def test_any_name_is_taken_or_refused(text: Any) -> None:
    with contextlib.suppress(ApiError):
        assert parse_function_name(text).name in text


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_every_json_document_is_an_event(value: Any) -> None:
    check_event(json.dumps(value).encode())


@pytest.mark.parametrize("payload", [b'"\\ud800"', b" 1 ", b"[1e999]", b"123456789012345678901"])
def test_unusual_events_are_json(payload: Any) -> None:
    check_event(payload)


@pytest.mark.parametrize("payload", [b"NaN", b"{", b"{}x", b"'a'", b"[" * 100_000, b"\x00", b"  "])
def test_what_is_not_json_is_refused_with_the_services_text(payload: Any) -> None:
    with pytest.raises(ApiError, match="Could not parse request body into json") as caught:
        check_event(payload)
    assert caught.value.code == "InvalidRequestContentException"


def test_trace_ids() -> None:
    request_id = "5759e988-0000-4000-8000-46a994272793"
    assert trace_id(b"Root=1-a-b;Sampled=1", request_id, 0) == "Root=1-a-b;Sampled=1"
    assert trace_id(None, request_id, 0x5759E988).startswith("Root=1-5759e988-")
    assert trace_id(b"x\x80", request_id, 0).endswith(";Sampled=0")
