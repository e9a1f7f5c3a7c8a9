"""Functions, reports and lines that tests of logs and metrics are made of."""

from __future__ import annotations

import dataclasses

from pilotlight.model.function import Code, FunctionVersion, LogFormat, Logging
from pilotlight.model.ids import AccountId, Digest, RequestId, RuntimeName
from pilotlight.model.invocation import ColdStart, InvocationReport
from pilotlight.ports.telemetry import LogLine

NOON = 1_795_521_600.0
"""2026-11-24T12:00Z."""


class FakeClock:
    """A clock that stands where it is put."""

    def __init__(self, wall_s: float = NOON) -> None:
        self.wall_s = wall_s

    def monotonic(self) -> float:
        """Where it was put."""
        return self.wall_s

    def wall(self) -> float:
        """Where it was put."""
        return self.wall_s


def function(name: str = "hello", **changes: object) -> FunctionVersion:
    """A version with the given changes."""
    made = FunctionVersion(
        account=AccountId("000000000000"),
        region="us-east-1",
        name=name,
        version="$LATEST",
        runtime=RuntimeName("python3.11"),
        handler="app.handler",
        role="arn:aws:iam::000000000000:role/r",
        code=Code("", 0, Digest("0" * 64)),
        logging=Logging(f"/aws/lambda/{name}"),
        last_modified="",
        revision_id="1",
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]  # changes by name


def json_function(level: str = "INFO") -> FunctionVersion:
    """A version that logs JSON, with this system level."""
    return function(logging=Logging("/aws/lambda/hello", LogFormat.JSON, "INFO", level))


def request(number: int) -> str:
    """The request id with this number."""
    return f"00000000-0000-4000-8000-{number:012d}"


def report(
    number: int = 1,
    *,
    of: FunctionVersion | None = None,
    at_s: float = NOON,
    outcome: str = "success",
    init_ms: float | None = None,
    cold: ColdStart | None = None,
    duration_ms: float = 1.234,
) -> InvocationReport:
    """The report of a request."""
    return InvocationReport(
        request_id=RequestId(request(number)),
        environment="env-1",
        function=of or function(),
        ended_wall_s=at_s,
        outcome=outcome,
        duration_ms=duration_ms,
        billed_ms=2,
        init_ms=init_ms,
        peak_memory_mib=30,
        cold=cold,
    )


def line(text: str, number: int = 1, *, at_s: float = NOON, name: str = "hello") -> LogLine:
    """A line of a request; of none for the number 0."""
    return LogLine(
        wall_s=at_s,
        account="000000000000",
        function=name,
        version="$LATEST",
        log_group=f"/aws/lambda/{name}",
        stream="2026/11/24/[$LATEST]abc",
        request_id=request(number) if number else "",
        text=text,
    )
