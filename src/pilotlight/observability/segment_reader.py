"""How a question is answered from one file of the function-log store. Reads only."""

from __future__ import annotations

import heapq
import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pilotlight.model import loglines
from pilotlight.observability.segments import ID_STEP, micros, pack, unpack
from pilotlight.ports.telemetry import LogLine, LogQuery, StoredLine, StreamFacts

CLOCK_SLACK_US = 300_000_000
"""A line may be stored this long before the time it carries, where clocks disagree."""

_TOKEN = re.compile(r"[^\W_]+")
"""What FTS5's unicode61 takes for a word."""
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PLATFORM_WORDS = frozenset(
    re.findall(
        "[a-z]+",
        "start end report requestid version duration ms billed memory size mb max used init "
        "status error type runtime exiterror outofmemory timeout cold blank fork spawn queue "
        "placement fetch sandbox latest platform record metrics",
    )
)
"""Words of platform lines. Numbers are not searched there: it would mean to read every row."""
_RARE_WORDS = {
    "timeout": "i.outcome = 'timeout'",
    "outofmemory": "i.outcome = 'memory'",
    "exiterror": "i.outcome = 'crash'",
    "cold": "i.cold is not null",
    "init": "i.init_us is not null",
}
"""Words that only few rows can have, with the condition for these rows."""


def read(path: Path, query: LogQuery, limit: int) -> list[StoredLine]:
    """Answer a question from one file: at most ``limit`` lines, in the order asked for.

    Raises:
        sqlite3.Error: the file is gone or damaged.
    """
    with _opened(path) as db:
        found = db.execute(
            "select id from function where account=? and name=?", (query.account, query.function)
        ).fetchone()
        if found is None:
            return []
        sources = (_lines(db, found[0], query, limit), _platform_lines(db, found[0], query))
        return list(islice(_merge(query, sources), limit))


def groups(path: Path, account: str) -> list[str]:
    """Log groups of an account that have lines in one file.

    Raises:
        sqlite3.Error: the file is gone or damaged.
    """
    with _opened(path) as db:
        found = db.execute(
            "select distinct s.log_group from source s join function f on f.id = s.function"
            " where f.account = ?",
            (account,),
        )
        return [name for (name,) in found]


def streams(path: Path, account: str, group: str) -> list[StreamFacts]:
    """Streams of a group in one file, with the times of what the file holds of them.

    Raises:
        sqlite3.Error: the file is gone or damaged.
    """
    with _opened(path) as db:
        found = db.execute(_STREAMS, (account, group))
        return [
            StreamFacts(function, stream, first / 1e6, last / 1e6)
            for function, stream, first, last in found
        ]


_STREAMS = """
with wanted as (
  select s.id as source, s.function as function, f.name as name, s.stream as stream
  from source s join function f on f.id = s.function where f.account = ? and s.log_group = ?),
seen as (
  select l.source as source, l.us as us from line l
  where l.function in (select function from wanted)
  union all select i.source, i.start_us from invocation i
  where i.function in (select function from wanted) and i.start_us is not null
  union all select i.source, i.end_us from invocation i
  where i.function in (select function from wanted) and i.end_us is not null)
select w.name, w.stream, min(seen.us), max(seen.us)
from wanted w join seen on seen.source = w.source group by w.name, w.stream
"""


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as db:
        db.execute("pragma query_only=1")
        yield db


def low_id(query: LogQuery) -> int:
    """No line that matches has an id at or below this."""
    if query.start_s is None:
        return query.after_id
    return max(query.after_id, micros(query.start_s) - CLOCK_SLACK_US)


def _merge(query: LogQuery, sources: Sequence[Iterator[StoredLine]]) -> Iterator[StoredLine]:
    return heapq.merge(*sources, key=lambda stored: stored.id, reverse=query.newest_first)


@dataclass(frozen=True, slots=True)
class _Where:
    """Conditions of a statement with their values, in the same order."""

    conditions: tuple[str, ...]
    values: tuple[object, ...]

    def __add__(self, other: _Where) -> _Where:
        return _Where(self.conditions + other.conditions, self.values + other.values)

    def __str__(self) -> str:
        return "where " + " and ".join(self.conditions)


def _lines(
    db: sqlite3.Connection, function: int, query: LogQuery, limit: int
) -> Iterator[StoredLine]:
    """What the function wrote."""
    match = None if query.text is None else _match(query.text)
    tables, order, where = "line l", "l.id", _Where((), ())
    if match:
        # The cross join makes SQLite look for the words first: 5 ms instead of 300.
        tables, order = "words cross join line l on l.id = words.rowid", "words.rowid"
        where = _Where(("words match ?",), (match,))
    elif query.text:
        where = _Where(("instr(l.text, ?) > 0",), (query.text,))
    where += _of_function("l", function, query, has_better=bool(match))
    where += _window(query, order, "l.us", low_id(query))
    sql = (
        "select l.id, l.us, s.version, s.log_group, s.stream, l.request, l.text"  # noqa: S608
        f" from {tables} join source s on s.id = l.source {where}"
        f" order by {order} {'desc' if query.newest_first else 'asc'} limit ?"
    )
    for id_, us, version, group, stream, request, text in db.execute(sql, (*where.values, limit)):
        yield StoredLine(id_, _line(query, us, version, group, stream, unpack(request), text))


def _platform_lines(db: sqlite3.Connection, function: int, query: LogQuery) -> Iterator[StoredLine]:
    """START, END, REPORT and COLD_START, made from the rows of invocations."""
    if query.text is not None and not _may_be_platform(query.text):
        return iter(())
    starts = (_start(query, row) for row in _rows(db, function, query, "i.id", "i.start_us"))
    ends = (
        line
        for row in _rows(db, function, query, "i.end_id", "i.end_us")
        for line in _end(query, row)
    )
    return (
        stored
        for stored in _merge(query, (starts, ends))
        if stored.id > query.after_id
        and (query.before_id is None or stored.id < query.before_id)
        and _has(query.text, stored.line.text)
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of invocations, in the order of the columns; see the schema."""

    id: int
    start_us: int
    version: str
    log_group: str
    stream: str
    request: object
    end_id: int
    end_us: int
    is_json: int
    outcome: str
    duration_us: int
    billed_ms: int
    memory_mib: int
    peak_mib: int
    init_us: int | None
    cold: str | None


def _rows(
    db: sqlite3.Connection, function: int, query: LogQuery, order: str, us: str
) -> Iterator[_Row]:
    """Rows that have the moment ``us``, ordered by the id column ``order``."""
    where = _Where((f"{us} is not null",), ())
    is_named = query.text is not None and bool(_UUID.search(query.text.lower()))
    where += _of_function("i", function, query, has_better=is_named)
    where += _of_words(query.text or "")
    where += _window(query, order, us, low_id(query) - ID_STEP)
    sql = (
        "select i.id, i.start_us, s.version, s.log_group, s.stream, i.request, i.end_id,"  # noqa: S608
        " i.end_us, i.is_json, i.outcome, i.duration_us, i.billed_ms, i.memory_mib, i.peak_mib,"
        f" i.init_us, i.cold from invocation i join source s on s.id = i.source {where}"
        f" order by {order} {'desc' if query.newest_first else 'asc'}"
    )
    for row in db.execute(sql, where.values):
        yield _Row(*row)


def _of_function(table: str, function: int, query: LogQuery, *, has_better: bool = False) -> _Where:
    """Only this function, and only this request where one is named.

    A plus before a column keeps SQLite from using its index, where another one selects better.
    """
    plus = "+" if has_better or query.request_id is not None else ""
    where = _Where((f"{plus}{table}.function = ?",), (function,))
    if query.request_id is None:
        return where
    plus = "+" if has_better else ""
    return where + _Where((f"{plus}{table}.request = ?",), (pack(query.request_id),))


def _window(query: LogQuery, id_column: str, us_column: str, low: int) -> _Where:
    where = _Where((f"{id_column} > ?",), (low,))
    if query.before_id is not None:
        where += _Where((f"{id_column} < ?",), (query.before_id,))
    if query.log_group is not None:
        where += _Where(("s.log_group = ?",), (query.log_group,))
    if query.streams:
        places = ", ".join("?" * len(query.streams))
        where += _Where((f"s.stream in ({places})",), query.streams)
    if query.start_s is not None:
        where += _Where((f"{us_column} >= ?",), (micros(query.start_s),))
    if query.end_s is not None:
        where += _Where((f"{us_column} < ?",), (micros(query.end_s),))
    return where


def _start(query: LogQuery, row: _Row) -> StoredLine:
    request = unpack(row.request)
    if row.is_json:
        text = loglines.start_json(request, row.version, row.start_us / 1e6)
    else:
        text = loglines.start_line(request, row.version)
    return StoredLine(row.id, _of_row(query, row, row.start_us, text))


def _end(query: LogQuery, row: _Row) -> list[StoredLine]:
    """END, REPORT and, after a cold start, COLD_START; JSON has no END."""
    request = unpack(row.request)
    facts = loglines.ReportFacts(
        request_id=request,
        outcome=row.outcome,
        duration_ms=row.duration_us / 1000,
        billed_ms=row.billed_ms,
        memory_mib=row.memory_mib,
        peak_memory_mib=row.peak_mib,
        init_ms=None if row.init_us is None else row.init_us / 1000,
    )
    if row.is_json:
        return [
            StoredLine(
                row.end_id + 1,
                _of_row(query, row, row.end_us, loglines.report_json(facts, row.end_us / 1e6)),
            )
        ]
    texts = [loglines.end_line(request), loglines.report_text(facts)]
    if row.cold is not None:
        how, phases = json.loads(row.cold)
        texts.append(loglines.cold_start_text(request, how, phases))
    lines = [
        StoredLine(row.end_id + offset, _of_row(query, row, row.end_us, text))
        for offset, text in enumerate(texts)
    ]
    return lines[::-1] if query.newest_first else lines


def _of_row(query: LogQuery, row: _Row, us: int, text: str) -> LogLine:
    return _line(query, us, row.version, row.log_group, row.stream, unpack(row.request), text)


def _line(
    query: LogQuery, us: int, version: str, log_group: str, stream: str, request_id: str, text: str
) -> LogLine:
    return LogLine(
        wall_s=us / 1e6,
        account=query.account,
        function=query.function,
        version=version,
        log_group=log_group,
        stream=stream,
        request_id=request_id,
        text=text,
    )


def _match(text: str) -> str:
    """An FTS5 expression for all words of a text; "" where it has none to index."""
    words = [word for word in text.split() if _TOKEN.search(word)]
    return " ".join('"' + word.replace('"', '""') + '"' for word in words)


def _may_be_platform(text: str) -> bool:
    """Whether platform lines can hold these words at all; spares reading all invocations."""
    return all(
        _UUID.fullmatch(word) or _PLATFORM_WORDS.issuperset(_TOKEN.findall(word))
        for word in text.lower().split()
    )


def _of_words(text: str) -> _Where:
    """Conditions that spare most rows; `_has` then decides for each line."""
    where = _Where((), ())
    for word in text.lower().split():
        if _UUID.fullmatch(word):
            where += _Where(("i.request = ?",), (pack(word),))
        for token in _TOKEN.findall(word):
            if token in _RARE_WORDS:
                where += _Where((_RARE_WORDS[token],), ())
    return where


def _has(wanted: str | None, text: str) -> bool:
    """The same question as FTS5 answers, for one line: each word as a run of tokens."""
    if wanted is None:
        return True
    words = [tokens for word in wanted.split() if (tokens := _TOKEN.findall(word.lower()))]
    if not words:
        return wanted in text
    have = _TOKEN.findall(text.lower())
    return all(_runs_in(word, have) for word in words)


def _runs_in(word: Sequence[str], have: Sequence[str]) -> bool:
    return any(have[i : i + len(word)] == word for i in range(len(have) - len(word) + 1))
