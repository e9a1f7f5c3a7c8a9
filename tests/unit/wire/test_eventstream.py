"""Messages of the event stream encoding, as botocore's own parser reads them."""

from __future__ import annotations

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.wire import eventstream


@given(
    st.lists(st.tuples(st.text(max_size=40), st.binary(max_size=300)), min_size=1, max_size=6),
    st.integers(1, 50),
)
def test_botocore_reads_what_was_written(events: list[tuple[str, bytes]], cut: int) -> None:
    data = b"".join(eventstream.event("PayloadChunk", kind, body) for kind, body in events)
    buffer = EventStreamBuffer()
    for start in range(0, len(data), cut):
        buffer.add_data(data[start : start + cut])
    read = list(buffer)
    assert [one.payload for one in read] == [body for _, body in events]
    assert [one.headers[":content-type"] for one in read] == [kind for kind, _ in events]
    assert all(one.headers[":message-type"] == "event" for one in read)
    assert all(one.headers[":event-type"] == "PayloadChunk" for one in read)


def test_a_flipped_bit_is_seen() -> None:
    data = bytearray(eventstream.event("PayloadChunk", "a/b", b"payload"))
    data[-6] ^= 1
    buffer = EventStreamBuffer()
    buffer.add_data(bytes(data))
    with pytest.raises(ChecksumMismatch):
        next(buffer)
