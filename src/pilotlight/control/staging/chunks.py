"""Bodies in the encoding ``aws-chunked``, taken apart as they come.

Each chunk is its length in hexadecimal, CR LF, the bytes, CR LF; one of length 0 ends them, and
trailing fields up to an empty line follow.
Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
"""

from __future__ import annotations

import re
from typing import Final

from pilotlight.control.staging.objects import Refused

_LENGTH: Final = re.compile(rb"([0-9a-fA-F]{1,8})(?:;[!-~]*)?")
_LINE_MAX: Final = 1024
_TRAILERS_MAX: Final = 8


class ChunkDecoder:
    """Takes pieces as they come and gives the bytes that they carry.

    Attributes:
        trailers: fields after the last chunk, by lower-case name.
        is_done: the empty line after them was seen.
    """

    def __init__(self) -> None:
        self.trailers: dict[str, str] = {}
        self.is_done = False
        self._buffer = bytearray()
        self._left = 0
        self._in_trailers = False
        self._needs_break = False

    def feed(self, piece: bytes) -> bytes:
        """Decode a piece.

        Raises:
            Refused: IncompleteBody, this is not the encoding.
        """
        self._buffer += piece
        out = bytearray()
        while self._step(out):
            pass
        return bytes(out)

    def _step(self, out: bytearray) -> bool:
        if self._left:
            taken = bytes(self._buffer[: self._left])
            del self._buffer[: len(taken)]
            self._left -= len(taken)
            self._needs_break = True
            out += taken
            return bool(taken)
        line = self._line()
        if line is None:
            return False
        if self.is_done or (self._needs_break and line):
            raise malformed()
        if self._needs_break:
            self._needs_break = False
        elif self._in_trailers:
            self._trailer(line)
        else:
            self._begin(line)
        return True

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", 0, _LINE_MAX)
        if end < 0:
            if len(self._buffer) >= _LINE_MAX:
                raise malformed()
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _begin(self, line: bytes) -> None:
        found = _LENGTH.fullmatch(line)
        if found is None:
            raise malformed()
        self._left = int(found[1], 16)
        self._in_trailers = self._left == 0

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.is_done = True
            return
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or len(self.trailers) >= _TRAILERS_MAX:
            raise malformed()
        self.trailers[name.strip().lower()] = value.strip()


def malformed() -> Refused:
    """The body is not in the encoding that its head promised."""
    return Refused(
        "IncompleteBody", "The request body is not a whole one in the encoding aws-chunked."
    )


def unchunked(body: bytes) -> tuple[bytes, dict[str, str]]:
    """The bytes that a whole body carries, and the fields after them.

    Raises:
        Refused: IncompleteBody.
    """
    decoder = ChunkDecoder()
    data = decoder.feed(body)
    if not decoder.is_done:
        raise malformed()
    return data, decoder.trailers
