"""Log Aggregator: stores function logs and finds them by function, request, time and words.

The invoke path appends to a buffer in memory; a thread writes the buffer to SQLite files five times
a second. A crash loses at most what that buffer held. When the buffer is full, the disk nearly full
or the store broken, entries are dropped and counted: logs never slow or fail an invocation.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import structlog

from pilotlight.model.function import FunctionVersion, LogFormat
from pilotlight.model.invocation import InvocationReport
from pilotlight.observability import catalog, segment_reader
from pilotlight.observability.retention import SegmentFile, expired, list_segments
from pilotlight.observability.segment_reader import low_id, read
from pilotlight.observability.segments import (
    DAY_US,
    ID_STEP,
    Ended,
    Entry,
    Segment,
    Started,
    Written,
)
from pilotlight.ports.clock import Clock
from pilotlight.ports.telemetry import GroupFacts, LogLine, LogQuery, StoredLine, StreamFacts

log = structlog.get_logger(__name__)

T = TypeVar("T")

_JSON = LogFormat.JSON  # a name of our own: an enumeration looks its members up slowly
_QUIET_LEVELS = frozenset({"WARN", "ERROR", "FATAL"})
_READERS = 2
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LogStoreLimits:
    """Bounds of the store.

    Attributes:
        retention_days: older files are removed.
        max_bytes: the oldest files are removed beyond this.
        segment_bytes: a file that has grown to this is followed by a new one; also one a day.
        disk_floor_bytes: with less free space nothing is written.
        buffer_entries: entries held in memory; beyond, they are dropped and counted.
        buffer_bytes: the same for the text of lines.
        flush_s: how often the buffer is written.
        lines_max: most lines that one read returns.
    """

    retention_days: int = 14
    max_bytes: int = 1024 * _MIB
    segment_bytes: int = 128 * _MIB
    disk_floor_bytes: int = 256 * _MIB
    buffer_entries: int = 200_000
    buffer_bytes: int = 64 * _MIB
    flush_s: float = 0.2
    lines_max: int = 10_000


class LogStore:
    """Implements `LogSink` and `LogReader`, and is a `Part` of the role that runs workers.

    ``line``, ``start`` and ``report`` are to be called on one thread, the event loop's; they cost
    about a microsecond, never block and never raise. Everything else is safe on any thread.

    Args:
        directory: made if need be; one store at a time.
        clock: for retention.
        limits: bounds.
    """

    name = "logs"

    def __init__(self, directory: Path, clock: Clock, limits: LogStoreLimits | None = None) -> None:
        self._directory = directory
        self._clock = clock
        self._limits = limits or LogStoreLimits()
        self._buffer: deque[Entry] = deque()
        self._bytes_in = 0
        self._bytes_out = 0
        self._last_id = 0
        self._lock = threading.Lock()
        self._segment: Segment | None = None
        self._segment_day = 0
        self._stored = 0
        self._dropped: dict[str, int] = {"buffer": 0, "disk": 0, "store": 0}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="log-reader")
        self._last_complaint_s = float("-inf")

    # The invoke path.

    def line(self, line: LogLine) -> None:
        """Store one line."""
        buffer = self._buffer
        size = self._bytes_in + len(line.text)
        if (
            len(buffer) >= self._limits.buffer_entries
            or size - self._bytes_out > self._limits.buffer_bytes
        ):
            self._dropped["buffer"] += 1
            return
        self._bytes_in = size
        buffer.append(Written(self._id(line.wall_s), line))

    def start(
        self, report_of: FunctionVersion, stream: str, request_id: str, wall_s: float
    ) -> None:
        """Store the begin of an invocation."""
        if len(self._buffer) >= self._limits.buffer_entries:
            self._dropped["buffer"] += 1
        elif not _is_quiet(report_of):
            self._buffer.append(Started(self._id(wall_s), report_of, stream, request_id, wall_s))

    def report(self, report: InvocationReport, stream: str) -> None:
        """Store the end of an invocation."""
        if len(self._buffer) >= self._limits.buffer_entries:
            self._dropped["buffer"] += 1
        elif not _is_quiet(report.function) or report.outcome != "success":
            self._buffer.append(Ended(self._id(report.ended_wall_s), report, stream))

    def _id(self, wall_s: float) -> int:
        fresh, least = int(wall_s * 1_000_000), self._last_id + ID_STEP
        fresh = max(fresh, least)
        self._last_id = fresh
        return fresh

    # Reading.

    async def read(self, query: LogQuery) -> tuple[StoredLine, ...]:
        """Lines that match, ordered by id; includes what is still in the buffer.

        A file that cannot be read is left out and reported in our own log.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self.read_now, query)

    def read_now(self, query: LogQuery) -> tuple[StoredLine, ...]:
        """The same, blocking."""
        self.flush()
        limit = max(0, min(query.limit, self._limits.lines_max))
        files = _overlapping(list_segments(self._directory), low_id(query))
        found: list[StoredLine] = []
        for file in reversed(files) if query.newest_first else files:
            if len(found) >= limit:
                break
            try:
                found += read(file.path, query, limit - len(found))
            except sqlite3.Error as exc:
                if file.path.exists():  # else retention was faster
                    log.exception(
                        catalog.LOG_SEGMENT_DAMAGED.name, segment=file.path.name, detail=str(exc)
                    )
        return tuple(found)

    async def groups(self, account: str) -> tuple[GroupFacts, ...]:
        """See the port; the age of a group is that of the oldest file that has lines of it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._groups, account)

    def _groups(self, account: str) -> tuple[GroupFacts, ...]:
        since: dict[str, float] = {}
        for file, names in self._of_files(lambda path: segment_reader.groups(path, account)):
            for name in names:
                since.setdefault(name, file.first_id / 1e6)
        return tuple(GroupFacts(name, since[name]) for name in sorted(since))

    async def streams(self, account: str, group: str) -> tuple[StreamFacts, ...]:
        """See the port."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._streams, account, group)

    def _streams(self, account: str, group: str) -> tuple[StreamFacts, ...]:
        known: dict[tuple[str, str], StreamFacts] = {}
        for _, found in self._of_files(lambda path: segment_reader.streams(path, account, group)):
            for facts in found:
                key = (facts.function, facts.stream)
                former = known.get(key, facts)
                known[key] = replace(
                    facts,
                    first_s=min(former.first_s, facts.first_s),
                    last_s=max(former.last_s, facts.last_s),
                )
        return tuple(known[key] for key in sorted(known))

    def _of_files(self, ask: Callable[[Path], list[T]]) -> Iterator[tuple[SegmentFile, list[T]]]:
        """What each file answers, the oldest first; one that cannot be read is left out."""
        self.flush()
        for file in list_segments(self._directory):
            try:
                yield file, ask(file.path)
            except sqlite3.Error as exc:
                if file.path.exists():  # else retention was faster
                    log.exception(
                        catalog.LOG_SEGMENT_DAMAGED.name, segment=file.path.name, detail=str(exc)
                    )

    def counts(self) -> tuple[int, Mapping[str, int], int]:
        """Entries stored, entries dropped by reason, bytes on disk; for metrics."""
        size = sum(file.size_bytes for file in list_segments(self._directory))
        return self._stored, dict(self._dropped), size

    # Life.

    async def run(self, ready: Callable[[], None]) -> None:
        """Be a part: write in the background until cancelled, then write the rest.

        Raises:
            RuntimeError: the writing thread ended, which it never does by itself.
        """
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        self.open(when_ended=lambda: loop.call_soon_threadsafe(ended.set))
        try:
            ready()
            await ended.wait()
            raise RuntimeError("the log writer ended") from self._failure
        finally:
            self.close()

    def open(self, *, when_ended: Callable[[], object] = lambda: None) -> None:
        """Continue after the newest stored line and start writing in the background."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._resume()
            self._retain()
        self._stop.clear()
        self._thread = threading.Thread(
            target=self._work, args=(when_ended,), name="log-writer", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Write what is in the buffer and close the files. Idempotent; takes one batch's time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.flush()
        with self._lock:
            self._leave_segment()
        self._readers.shutdown()

    def flush(self) -> None:
        """Write what is in the buffer now."""
        with self._lock:
            if self._buffer:
                self._write([self._buffer.popleft() for _ in range(len(self._buffer))])

    def _work(self, when_ended: Callable[[], object]) -> None:
        next_retention_s = self._clock.monotonic() + 60
        try:
            while not self._stop.wait(self._limits.flush_s):
                self.flush()
                if self._clock.monotonic() >= next_retention_s:
                    next_retention_s = self._clock.monotonic() + 60
                    with self._lock:
                        self._retain()
        except BaseException as exc:
            self._failure = exc
            raise
        finally:
            if not self._stop.is_set():
                when_ended()

    def _write(self, batch: Sequence[Entry]) -> None:
        """Store a batch, or drop it, count it and say so."""
        self._bytes_out += sum(len(e.line.text) for e in batch if isinstance(e, Written))
        try:
            if self._free_bytes() < self._limits.disk_floor_bytes:
                self._lose(batch, "disk", "less free space than the floor")
                return
            self._segment_for(batch[0].id).write(batch)
            self._stored += len(batch)
        except (sqlite3.Error, OSError) as exc:
            self._leave_segment()
            self._lose(batch, "store", str(exc))

    def _lose(self, batch: Sequence[Entry], reason: str, detail: str) -> None:
        self._dropped[reason] += len(batch)
        if self._clock.monotonic() - self._last_complaint_s >= 10:  # noqa: PLR2004  (seconds)
            self._last_complaint_s = self._clock.monotonic()
            log.error(catalog.LOG_BATCH_LOST.name, reason=reason, entries=len(batch), detail=detail)

    def _free_bytes(self) -> int:
        room = os.statvfs(self._directory)
        return room.f_bavail * room.f_frsize

    def _segment_for(self, first_id: int) -> Segment:
        """The open file, or a new one after midnight (UTC) and when the old one is full."""
        day = first_id // DAY_US
        if self._segment is not None and (
            day != self._segment_day
            or self._segment.path.stat().st_size >= self._limits.segment_bytes
        ):
            self._leave_segment()
            self._retain()
        if self._segment is None:
            self._segment = Segment(SegmentFile.path_for(self._directory, first_id))
            self._segment_day = day
        return self._segment

    def _leave_segment(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _resume(self) -> None:
        """Take up the newest file; set aside one that is damaged."""
        for file in reversed(list_segments(self._directory)):
            try:
                self._segment = Segment(file.path)
                self._last_id = max(self._last_id, self._segment.last_id())
            except sqlite3.Error as exc:
                self._leave_segment()
                file.set_aside()
                log.exception(
                    catalog.LOG_SEGMENT_DAMAGED.name, segment=file.path.name, detail=str(exc)
                )
            else:
                self._segment_day = file.first_id // DAY_US
                return

    def _retain(self) -> None:
        """Remove what is too old or too much."""
        files = list_segments(self._directory)
        current = self._segment.path if self._segment is not None else None
        for file, reason in expired(
            files,
            now_us=int(self._clock.wall() * 1_000_000),
            retention_us=self._limits.retention_days * DAY_US,
            max_bytes=self._limits.max_bytes,
        ):
            if file.path == current:
                self._leave_segment()
            file.remove()
            log.info(catalog.LOG_SEGMENT_REMOVED.name, segment=file.path.name, reason=reason)


def _overlapping(files: Sequence[SegmentFile], low: int) -> list[SegmentFile]:
    """Files that can hold an id above ``low``: those whose successor does not begin below it."""
    return [
        file
        for file, successor in zip_longest(files, files[1:])
        if successor is None or successor.first_id > low
    ]


def _is_quiet(function: FunctionVersion) -> bool:
    """The function asked for no platform lines of successful invocations."""
    logging = function.logging
    return logging.log_format is _JSON and logging.system_level in _QUIET_LEVELS
