"""What the launcher accepts from the driver."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.dataplane.sandboxes.container import protocol
from pilotlight.dataplane.sandboxes.container.protocol import (
    Claim,
    Clean,
    Destroy,
    Limits,
    Make,
    ProtocolViolation,
    Reply,
    Terminate,
)

LIMITS = Limits(128, 72, 1024, 512)
DIGEST = "0123456789abcdef" * 4
TENANT = "000000000000"
MAKE = Make(1, 2, TENANT, "python3.11", LIMITS, DIGEST)
REQUESTS = [
    MAKE,
    Make(1, 2, TENANT, "python3.9", LIMITS, None),
    Claim(3, 4, LIMITS, DIGEST),
    Terminate(5, 6),
    Destroy(7, 8),
    Clean(9),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_every_request_survives_the_wire(request_: protocol.Request) -> None:
    assert protocol.decode(protocol.encode(request_)) == request_


@pytest.mark.parametrize(
    ("field", "lie"),
    [
        ("do", "mount"),
        ("do", ["make"]),
        ("n", -1),
        ("n", True),
        ("n", 1.0),
        ("n", 2**60),
        ("key", 0),
        ("key", "1"),
        ("tenant", "0"),
        ("tenant", "../../etc/x/"),
        ("tenant", "0000000000000"),
        ("tenant", TENANT + "\n"),
        ("runtime", "../python"),
        ("runtime", "python3.11/x"),
        ("runtime", "-c"),
        ("runtime", ""),
        ("code", "../" * 20),
        ("code", DIGEST.upper()),
        ("code", DIGEST + "\n"),
        ("code", 7),
        ("limits", [128, 72, 1024]),
        ("limits", [128, 72, 1024, 0]),
        ("limits", [128, 72, 1024, 1 << 40]),
        ("limits", ["128", 72, 1024, 512]),
        ("limits", {"memory_mib": 128}),
        ("path", "/etc"),
    ],
)
def test_a_field_that_is_not_exactly_right_is_refused(field: str, lie: object) -> None:
    fields = json.loads(protocol.encode(MAKE))
    fields[field] = lie
    with pytest.raises(ProtocolViolation):
        protocol.decode(json.dumps(fields).encode())


@pytest.mark.parametrize("field", ["n", "key", "tenant", "runtime", "limits", "code", "do"])
def test_a_missing_field_is_refused(field: str) -> None:
    fields = json.loads(protocol.encode(MAKE))
    del fields[field]
    with pytest.raises(ProtocolViolation):
        protocol.decode(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "message", [b"", b"[]", b"null", b"\xff", b"[" * 4000, b" " * 5000, b"1" * 4000]
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        protocol.decode(message)


@given(st.binary(max_size=300))
def test_decoding_never_fails_otherwise(message: bytes) -> None:
    try:
        protocol.decode(message)
    except ProtocolViolation:
        return


@given(
    st.dictionaries(
        st.sampled_from(["do", "n", "key", "tenant", "runtime", "limits", "code"]),
        st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers(), max_size=5)),
    )
)
def test_no_object_gets_through_but_a_request(fields: dict[str, object]) -> None:
    try:
        request = protocol.decode(json.dumps(fields).encode())
    except ProtocolViolation:
        return
    assert protocol.decode(protocol.encode(request)) == request


def test_a_reply_survives_the_wire() -> None:
    reply = Reply(4, error=None, phases_us={"mount": 7}, names=("pidfd", "log"), count=2)
    assert protocol.decode_reply(protocol.encode_reply(reply)) == reply
    longest = protocol.encode_reply(Reply(2**53, error="x" * 9000))
    assert len(longest) < protocol.MESSAGE_BYTES
