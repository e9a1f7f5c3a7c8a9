"""Where facts about running functions go: logs, reports, counters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pilotlight.model.function import FunctionVersion
from pilotlight.model.invocation import InvocationReport


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line a function wrote, or a platform line (START, END, REPORT, INIT_START).

    Attributes:
        wall_s: seconds since the epoch.
        stream: CloudWatch-style log stream, one for each execution environment.
        request_id: "" for lines outside an invocation (init, frozen background threads).
        text: without the line's end; at most 256 KiB, undecodable bytes replaced.
    """

    wall_s: float
    account: str
    function: str
    version: str
    log_group: str
    stream: str
    request_id: str
    text: str


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What to read. Times are seconds since the epoch, inclusive start, exclusive end.

    Attributes:
        text: words that must occur, all of them; None for any line.
        after_id: only lines stored after this one, for following; 0 from the start.
        before_id: only lines stored before this one; None to the end.
        log_group: only lines of this group; None for any.
        streams: only lines of these streams; empty for any.
        newest_first: order of the answer.
    """

    account: str
    function: str
    request_id: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None
    after_id: int = 0
    limit: int = 1000
    newest_first: bool = False
    before_id: int | None = None
    log_group: str | None = None
    streams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """A log group that has lines. ``since_s``: nothing of it is older, in seconds of the epoch."""

    name: str
    since_s: float


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """A stream that has lines, and the times of its first and last one."""

    function: str
    stream: str
    first_s: float
    last_s: float


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A line with the id that orders it."""

    id: int
    line: LogLine


class LogSink(Protocol):
    """Takes lines from workers; never blocks, drops and counts when its buffer is full."""

    def line(self, line: LogLine) -> None:
        """Store one line."""
        ...

    def start(
        self, report_of: FunctionVersion, stream: str, request_id: str, wall_s: float
    ) -> None:
        """Store a START line (made when read, so that the invoke path stays cheap)."""
        ...

    def report(self, report: InvocationReport, stream: str) -> None:
        """Store END and REPORT of a finished invocation (made when read)."""
        ...


class LogReader(Protocol):
    """Reads what a `LogSink` stored."""

    async def read(self, query: LogQuery) -> tuple[StoredLine, ...]:
        """Lines that match, ordered by id. Includes what the sink still holds in its buffer."""
        ...

    async def groups(self, account: str) -> tuple[GroupFacts, ...]:
        """Log groups of an account that have lines, by name."""
        ...

    async def streams(self, account: str, group: str) -> tuple[StreamFacts, ...]:
        """Streams of a group that have lines, by function and name."""
        ...


class Telemetry(Protocol):
    """Counters of the invoke path. Every call costs about a microsecond and never raises."""

    def finished(self, report: InvocationReport) -> None:
        """An invocation ended, whatever its outcome; a cold start carries its phases."""
        ...

    def throttled(self, function: FunctionVersion, reason: str) -> None:
        """An invocation was refused by admission."""
        ...

    def platform_failure(self, component: str, reason: str) -> None:
        """We failed: the caller got a 5xx that is not the function's fault."""
        ...

    def waiters(self, delta: int) -> None:
        """The number of invocations that wait for an environment changed."""
        ...
