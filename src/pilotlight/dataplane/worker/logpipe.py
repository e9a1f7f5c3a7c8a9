"""What a sandbox writes to stdout and stderr, cut into lines within a budget.

The bytes are hostile: lines may be endless, floods may last. Memory held is one unfinished line
(at most `MAX_LINE_BYTES`) and one read; over the budget lines are counted instead of kept.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

MAX_LINE_BYTES = 256 * 1024
"""Longest log event that CloudWatch Logs takes; longer lines are cut there."""
_READ_BYTES = 64 * 1024
_READS_PER_WAKE = 4
_READS_PER_DRAIN = 32
"""A pipe holds at most 1 MiB for an ordinary user: 16 reads empty what was there before."""


class LineCutter:
    """Bytes to lines with a token bucket: ``burst`` bytes at once, ``rate`` bytes a second."""

    __slots__ = (
        "_burst", "_checked_s", "_dropped_bytes", "_dropped_lines", "_emit", "_partial", "_rate",
        "_tokens",
    )  # fmt: skip

    def __init__(self, emit: Callable[[str], None], *, rate: int, burst: int) -> None:
        self._emit = emit
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._checked_s: float | None = None
        self._partial = b""
        self._dropped_lines = 0
        self._dropped_bytes = 0

    def feed(self, data: bytes, now_s: float) -> None:
        """Take the next bytes; whole lines are emitted, or counted when over the budget."""
        if self._checked_s is not None:
            self._tokens = min(self._burst, self._tokens + (now_s - self._checked_s) * self._rate)
        self._checked_s = now_s
        if self._tokens < len(data):
            self._dropped_bytes += len(data) + len(self._partial)
            self._dropped_lines += max(1, data.count(b"\n"))
            self._partial = b""
            return
        self._tokens -= len(data)
        self._notice()
        self._cut(data)

    def flush(self) -> None:
        """Emit an unfinished line and the notice of dropped ones: an invocation ended."""
        if self._partial:
            partial, self._partial = self._partial, b""
            self._emit(partial.decode("utf-8", "replace"))
        self._notice()

    def _notice(self) -> None:
        if self._dropped_bytes:
            lines, size = self._dropped_lines, self._dropped_bytes
            self._dropped_lines = self._dropped_bytes = 0
            self._emit(
                f"[pilotlight] about {lines} log lines ({size} bytes) were dropped: "
                f"the function wrote faster than {self._rate} bytes/s"
            )

    def _cut(self, data: bytes) -> None:
        *lines, rest = (self._partial + data).split(b"\n")
        for line in lines:
            self._emit_bounded(line)
        while len(rest) > MAX_LINE_BYTES:
            self._emit(rest[:MAX_LINE_BYTES].decode("utf-8", "replace"))
            rest = rest[MAX_LINE_BYTES:]
        self._partial = rest

    def _emit_bounded(self, line: bytes) -> None:
        if len(line) <= MAX_LINE_BYTES:
            self._emit(line.decode("utf-8", "replace"))
            return
        for start in range(0, len(line), MAX_LINE_BYTES):
            self._emit(line[start : start + MAX_LINE_BYTES].decode("utf-8", "replace"))


class LogPipe:
    """Reads a sandbox's log descriptor on the loop; the driver keeps owning the descriptor.

    Attributes:
        has_read: something has come at least once.
    """

    def __init__(
        self,
        descriptor: int,
        cutter: LineCutter,
        now: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._descriptor = descriptor
        self._cutter = cutter
        self._now = now
        self._loop = loop
        self._is_open = True
        self.has_read = False
        loop.add_reader(descriptor, self._readable)

    def drain(self) -> None:
        """Read what is there now and end its last line. Bounded: a flood can't hold it."""
        self._read(_READS_PER_DRAIN)
        self._cutter.flush()

    def close(self) -> None:
        """Stop reading; must come before the driver closes the descriptor. Idempotent."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._descriptor)

    def _readable(self) -> None:
        self._read(_READS_PER_WAKE)

    def _read(self, reads: int) -> None:
        for _ in range(reads):
            if not self._is_open:
                break
            try:
                data = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.close()
                break
            self.has_read = True
            self._cutter.feed(data, self._now())
            if len(data) < _READ_BYTES:
                break
