"""The worker's account of one streamed answer: what may come, and what is kept. Pure.

A runtime that sends more than it was given credit for lies, so a worker and a frontend together
hold at most `STREAM_WINDOW` bytes of a stream, however slow its caller is.
"""

from __future__ import annotations

from pilotlight.model.limits import SYNC_RESPONSE_BYTES
from pilotlight_guest.frames import BYTES_TYPE, HTTP_TYPE, STREAM_BYTES_MAX, STREAM_WINDOW

_TYPES = {BYTES_TYPE.encode(): BYTES_TYPE, HTTP_TYPE.encode(): HTTP_TYPE}


def content_type_of(body: bytes) -> str | None:
    """Content type that a STREAM_BEGIN frame names, None for one that there is not."""
    return _TYPES.get(body)


class Stream:
    """One streamed answer.

    Attributes:
        content_type: as the runtime said it.
        is_whole: nobody takes the pieces as they come: they are kept, up to the limit of an
            answer that is given at once.
    """

    __slots__ = ("_kept", "_on_the_way", "_total", "content_type", "is_whole")

    def __init__(self, content_type: str, *, is_whole: bool) -> None:
        self.content_type = content_type
        self.is_whole = is_whole
        self._kept = bytearray()
        self._on_the_way = 0
        self._total = 0

    def take(self, chunk: bytes) -> str | None:
        """Count one chunk; returns the lie if it may not have come."""
        self._on_the_way += len(chunk)
        self._total += len(chunk)
        if not chunk:
            return "it sent an empty chunk"
        if self._on_the_way > STREAM_WINDOW:
            return f"it sent more than {STREAM_WINDOW} bytes of a stream ahead"
        if self._total > STREAM_BYTES_MAX:
            return f"it streamed more than {STREAM_BYTES_MAX} bytes"
        if self.is_whole and len(self._kept) <= SYNC_RESPONSE_BYTES:
            self._kept += chunk
        return None

    def give(self, count: int) -> int:
        """Bytes of credit to return to the runtime, when ``count`` were taken by the caller."""
        given = min(count, self._on_the_way)
        self._on_the_way -= given
        return given

    def whole(self) -> bytes | None:
        """All that was kept; None when it is more than may be given at once."""
        return bytes(self._kept) if len(self._kept) <= SYNC_RESPONSE_BYTES else None
