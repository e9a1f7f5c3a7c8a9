"""One file of the function-log store: its tables, and how a batch gets in.

Ids are microseconds since the epoch at the time of storing, made strictly increasing: they order
lines across files and restarts, and a start time becomes a bound on ids. An invocation's START, END
and REPORT are one row (two where it outlives a batch); its lines are made when they are read.
The id of its end is followed by those of REPORT (+1) and COLD_START (+2): `ID_STEP` leaves room.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pilotlight.model.function import FunctionVersion, LogFormat
from pilotlight.model.invocation import InvocationReport
from pilotlight.ports.telemetry import LogLine

ID_STEP = 4
DAY_US = 86_400_000_000
TEXT_LIMIT = 256 * 1024
_UUID_LENGTH, _UUID_DASHES = 36, 4
CLOCK_SLACK_US = 300_000_000
"""A line may be stored this long before the time it carries, where clocks disagree."""

_SCHEMA = """
create table if not exists function(
  id integer primary key, account text not null, name text not null, unique(account, name));
create table if not exists source(
  id integer primary key, function integer not null, version text not null,
  log_group text not null, stream text not null, unique(function, version, log_group, stream));
create table if not exists line(
  id integer primary key, us integer not null, function integer not null,
  source integer not null, request, text text not null);
create index if not exists line_function on line(function);
create index if not exists line_request on line(request) where request is not null;
create virtual table if not exists words using fts5(
  text, content='line', content_rowid='id', tokenize='unicode61 remove_diacritics 0');
create table if not exists invocation(
  id integer primary key, function integer not null, source integer not null, request not null,
  start_us integer, end_id integer, end_us integer, is_json integer not null, outcome text,
  duration_us integer, billed_ms integer, memory_mib integer, peak_mib integer, init_us integer,
  cold text);
create index if not exists invocation_function on invocation(function);
create index if not exists invocation_end on invocation(function, end_id);
create index if not exists invocation_request on invocation(request);
"""


# Not frozen: these three are made for each invocation, and freezing triples what making one costs.


@dataclass(slots=True)
class Written:
    """The function wrote a line."""

    id: int
    line: LogLine


@dataclass(slots=True)
class Started:
    """An invocation began."""

    id: int
    function: FunctionVersion
    stream: str
    request_id: str
    wall_s: float


@dataclass(slots=True)
class Ended:
    """An invocation ended."""

    id: int
    report: InvocationReport
    stream: str


Entry = Written | Started | Ended
Row = tuple[object, ...]


@dataclass(slots=True)
class _Rows:
    """What one batch adds to the tables."""

    lines: list[Row]
    invocations: list[Row]


class Segment:
    """A file open for writing. One thread at a time.

    Raises:
        sqlite3.Error: from any method; the batch in hand is then not stored.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._functions: dict[tuple[str, str], int] = {}
        self._sources: dict[tuple[int, str, str, str], int] = {}
        self._by_stream: dict[str, tuple[FunctionVersion, tuple[int, int]]] = {}
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("pragma journal_mode=wal")
            # NORMAL: a crash of ours loses nothing committed; a power cut may lose the last
            # seconds of logs, which is the price of not syncing the disk five times a second.
            self._db.execute("pragma synchronous=normal")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error:
            self._db.close()
            raise

    def close(self) -> None:
        """Fold the write-ahead log in and close."""
        self._db.close()

    def last_id(self) -> int:
        """Highest id in use, 0 where there is none."""
        row = self._db.execute(
            "select max((select coalesce(max(id), 0) from line),"
            " (select coalesce(max(id), 0) from invocation),"
            " (select coalesce(max(end_id), 0) + 3 from invocation))"
        ).fetchone()
        return int(row[0])

    def write(self, entries: Iterable[Entry]) -> None:
        """Store a batch in one transaction."""
        self._db.execute("begin immediate")
        try:
            rows = self._rows(entries)
            self._db.executemany("insert into line values(?,?,?,?,?,?)", rows.lines)
            self._db.executemany(
                "insert into words(rowid, text) values(?,?)", ((r[0], r[5]) for r in rows.lines)
            )
            self._db.executemany(
                "insert into invocation values(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rows.invocations
            )
            self._db.execute("commit")
        except BaseException:
            self._functions.clear()  # ids of this batch are rolled back with it
            self._sources.clear()
            self._by_stream.clear()
            self._db.execute("rollback")
            raise

    def _rows(self, entries: Iterable[Entry]) -> _Rows:
        rows = _Rows([], [])
        open_starts: dict[str, Started] = {}
        for entry in entries:
            if isinstance(entry, Written):
                rows.lines.append(self._line(entry))
            elif isinstance(entry, Started):
                open_starts[entry.request_id] = entry
            else:
                begun = open_starts.pop(entry.report.request_id, None)
                rows.invocations.append(self._ended(entry, begun))
        rows.invocations += map(self._started, open_starts.values())
        return rows

    def _line(self, entry: Written) -> Row:
        line = entry.line
        function, source = self._place(
            line.account, line.function, line.version, line.log_group, line.stream
        )
        request = pack(line.request_id) if line.request_id else None
        return (entry.id, micros(line.wall_s), function, source, request, _clean(line.text))

    def _started(self, entry: Started) -> Row:
        version = entry.function
        function, source = self._place_of(version, entry.stream)
        head = (entry.id, function, source, pack(entry.request_id), micros(entry.wall_s))
        rest = (None, None, None, None, None, None, None)
        return (*head, None, None, _is_json(version), *rest)

    def _ended(self, entry: Ended, begun: Started | None) -> Row:
        report = entry.report
        function, source = self._place_of(report.function, entry.stream)
        cold = report.cold
        return (
            begun.id if begun else entry.id,
            function,
            source,
            pack(report.request_id),
            micros(begun.wall_s) if begun else None,
            entry.id,
            micros(report.ended_wall_s),
            _is_json(report.function),
            report.outcome,
            round(report.duration_ms * 1000),
            report.billed_ms,
            report.function.memory_mib,
            report.peak_memory_mib,
            None if report.init_ms is None else round(report.init_ms * 1000),
            json.dumps([cold.how, cold.phases_us]) if cold else None,
        )

    def _place_of(self, function: FunctionVersion, stream: str) -> tuple[int, int]:
        known = self._by_stream.get(stream)
        if known is not None and known[0] is function:
            return known[1]
        place = self._place(
            function.account, function.name, function.version, function.logging.log_group, stream
        )
        if len(self._by_stream) > 1000:  # noqa: PLR2004  (only a cache)
            self._by_stream.clear()
        self._by_stream[stream] = (function, place)
        return place

    def _place(
        self, account: str, name: str, version: str, log_group: str, stream: str
    ) -> tuple[int, int]:
        """Small numbers for a function and for an environment of it."""
        function = self._functions.get((account, name))
        if function is None:
            function = self._number("function", "account, name", (account, name))
            self._functions[account, name] = function
        key = (function, version, log_group, stream)
        source = self._sources.get(key)
        if source is None:
            if len(self._sources) > 10_000:  # noqa: PLR2004  (only a cache: 3 MB at most)
                self._sources.clear()
            source = self._number("source", "function, version, log_group, stream", key)
            self._sources[key] = source
        return function, source

    def _number(self, table: str, columns: str, key: Row) -> int:
        marks = ",".join("?" * len(key))
        self._db.execute(
            f"insert or ignore into {table}({columns}) values({marks})",
            key,
        )
        found = self._db.execute(
            f"select id from {table} where ({columns}) = ({marks})",  # noqa: S608  (our names)
            key,
        ).fetchone()
        return int(found[0])


def micros(seconds: float) -> int:
    """Microseconds of seconds since the epoch."""
    return int(seconds * 1_000_000)


def pack(request_id: str) -> bytes | str:
    """A UUID in lower case in 16 bytes; anything else as it is."""
    if len(request_id) == _UUID_LENGTH and request_id.count("-") == _UUID_DASHES:
        try:
            packed = bytes.fromhex(request_id.replace("-", ""))
        except ValueError:
            return _clean(request_id)
        if request_id == request_id.lower():
            return packed
    return _clean(request_id)


def unpack(stored: object) -> str:
    """The reverse of `pack`; "" for None."""
    if not isinstance(stored, bytes):
        return "" if stored is None else str(stored)
    text = stored.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _clean(text: str) -> str:
    """Text that SQLite takes: bounded, without lone surrogates."""
    if len(text) > TEXT_LIMIT:
        text = text[:TEXT_LIMIT]
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


_JSON = LogFormat.JSON  # a name of our own: an enumeration looks its members up slowly


def _is_json(function: FunctionVersion) -> bool:
    return function.logging.log_format is _JSON
