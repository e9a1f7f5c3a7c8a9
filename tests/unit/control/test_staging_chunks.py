from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.control.staging.chunks import ChunkDecoder, unchunked
from pilotlight.control.staging.objects import Refused


def encoded(chunks: list[bytes], trailers: bytes = b"x-amz-checksum-crc32:AAAAAA==\r\n") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return body + b"0\r\n" + trailers + b"\r\n"


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.integers(1, 50))
def test_pieces_of_any_size_give_the_chunks(chunks: list[bytes], step: int) -> None:
    wire, decoder = encoded(chunks), ChunkDecoder()
    got = b"".join(decoder.feed(wire[at : at + step]) for at in range(0, len(wire), step))
    assert got == b"".join(chunks)
    assert decoder.is_done
    assert decoder.trailers == {"x-amz-checksum-crc32": "AAAAAA=="}


@given(st.binary(max_size=200))
def test_anything_else_is_refused_or_unfinished(wire: bytes) -> None:
    decoder = ChunkDecoder()
    with suppress(Refused):
        assert len(decoder.feed(wire)) <= len(wire)


@pytest.mark.parametrize(
    "wire",
    [b"zz\r\n", b"2\r\nabc\r\n", b"0\r\n\r\nmore\r\n", b"f" * 2000, b"0\r\nno colon\r\n"],
)
def test_broken_chunks_are_refused(wire: bytes) -> None:
    with pytest.raises(Refused):
        ChunkDecoder().feed(wire)


def test_a_body_without_its_end_is_refused() -> None:
    with pytest.raises(Refused):
        unchunked(b"3\r\nabc\r\n")
    assert unchunked(encoded([b"abc"]))[0] == b"abc"
