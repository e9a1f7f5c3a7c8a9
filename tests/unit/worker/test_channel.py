"""Frames out of hostile bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilotlight.dataplane.worker.channel import FrameReader
from pilotlight_guest import frames

FRAMES = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.integers(16, 23), st.binary(max_size=200)), max_size=8
)


class Sink:
    def __init__(self) -> None:
        self.frames: list[tuple[int, int, bytes]] = []
        self.lies: list[str] = []

    def frame_received(self, sequence: int, kind: int, body: bytes) -> None:
        self.frames.append((sequence, kind, body))

    def lie_received(self, lie: str) -> None:
        self.lies.append(lie)

    def channel_closed(self) -> None:
        raise AssertionError("not called by the reader")


@given(FRAMES, st.lists(st.integers(1, 60), max_size=80))
def test_frames_survive_any_cutting(sent: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    sink = Sink()
    reader = FrameReader(sink)
    stream = b"".join(frames.frame(*one) for one in sent)
    for cut in cuts:
        reader.feed(stream[:cut])
        stream = stream[cut:]
    reader.feed(stream)
    assert sink.frames == sent
    assert not sink.lies


@given(st.lists(st.binary(max_size=64), max_size=30))
def test_no_bytes_raise_and_nothing_follows_a_lie(chunks: list[bytes]) -> None:
    sink = Sink()
    reader = FrameReader(sink)
    for chunk in chunks:
        reader.feed(chunk)
    assert len(sink.lies) <= 1
    if sink.lies:
        seen = len(sink.frames)
        reader.feed(frames.frame(1, frames.RESULT, b"late"))
        assert len(sink.frames) == seen


def test_a_length_beyond_the_bound_is_a_lie_before_its_body_comes() -> None:
    sink = Sink()
    FrameReader(sink).feed(frames.HEADER.pack(frames.MAX_BODY + 1, 1, frames.RESULT))
    assert "announced" in sink.lies[0]


def test_a_chunk_has_a_bound_of_its_own() -> None:
    sink = Sink()
    reader = FrameReader(sink)
    reader.feed(frames.frame(1, frames.STREAM_CHUNK, b"x" * frames.MAX_CHUNK))
    assert len(sink.frames) == 1
    reader.feed(frames.HEADER.pack(frames.MAX_CHUNK + 1, 1, frames.STREAM_CHUNK))
    assert "announced" in sink.lies[0]


def test_a_kind_that_only_the_worker_may_send_is_a_lie() -> None:
    sink = Sink()
    FrameReader(sink).feed(frames.frame(1, frames.INVOKE, b"x"))
    assert "unknown type 2" in sink.lies[0]


def test_a_header_sent_byte_by_byte_is_waited_for() -> None:
    sink = Sink()
    reader = FrameReader(sink)
    for value in frames.frame(7, frames.RESULT, b"body"):
        reader.feed(bytes([value]))
    assert sink.frames == [(7, frames.RESULT, b"body")]
