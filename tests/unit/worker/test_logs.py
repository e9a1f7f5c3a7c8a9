"""Lines out of hostile log bytes, within a budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilotlight.dataplane.worker.logpipe import MAX_LINE_BYTES, LineCutter


def cut(*chunks: bytes, rate: int = 1 << 30, burst: int = 1 << 30) -> list[str]:
    lines: list[str] = []
    cutter = LineCutter(lines.append, rate=rate, burst=burst)
    for number, chunk in enumerate(chunks):
        cutter.feed(chunk, float(number))
    cutter.flush()
    return lines


def test_lines_end_at_newlines_only_and_the_last_needs_none() -> None:
    assert cut(b"one\nano", b"ther\rline\n", b"end") == ["one", "another\rline", "end"]


def test_undecodable_bytes_are_replaced() -> None:
    assert cut(b"\xff\n") == ["�"]


def test_an_endless_line_is_cut_and_never_held_whole() -> None:
    lines = cut(*([b"x" * 65_536] * 9))
    assert [len(line) for line in lines] == [MAX_LINE_BYTES, MAX_LINE_BYTES, 65_536]


def test_a_flood_is_dropped_counted_and_noted_once() -> None:
    lines = cut(b"a\n" * 50, b"b\n" * 500, b"c\n" * 500, rate=10, burst=120)
    assert lines[:50] == ["a"] * 50
    assert len(lines) == 51
    assert "about 1000 log lines (2000 bytes) were dropped" in lines[50]


def test_after_a_flood_lines_are_kept_again() -> None:
    lines: list[str] = []
    cutter = LineCutter(lines.append, rate=100, burst=100)
    cutter.feed(b"x\n" * 200, 0.0)
    cutter.feed(b"back\n", 1.0)
    assert "dropped" in lines[0]
    assert lines[1:] == ["back"]


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_bytes_are_conserved(chunks: list[bytes]) -> None:
    whole = b"".join(chunks).decode("latin-1").encode()
    lines = cut(*[chunk.decode("latin-1").encode() for chunk in chunks])
    assert "\n".join(lines).rstrip("\n") == whole.decode().rstrip("\n")
