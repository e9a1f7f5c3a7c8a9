"""The platform's own lines in a function's log, with Lambda's exact text.

Pure functions, used twice: by the worker for the tail that a caller asked for, and by the log
store, which keeps one compact row for each invocation and makes its lines when they are read.

Source: https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html (text) and
https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html (JSON).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pilotlight.model.invocation import InvocationReport

OUTCOMES = ("success", "error", "timeout", "crash", "memory")
"""Values of `InvocationReport.outcome`, in the order of the numbers the log store keeps."""

_STATUS = {
    "timeout": ("timeout", None),
    "crash": ("error", "Runtime.ExitError"),
    "memory": ("error", "Runtime.OutOfMemory"),
}
"""Outcome to (Status, Error Type). Where the handler answers, even with an error, the text has
no status."""

_PHASE_ORDER = ("queue", "placement", "fetch", "sandbox", "runtime", "init")


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """What a REPORT line says; the part of `InvocationReport` that the log store keeps.

    Attributes:
        init_ms: None on a warm invocation.
    """

    request_id: str
    outcome: str
    duration_ms: float
    billed_ms: int
    memory_mib: int
    peak_memory_mib: int
    init_ms: float | None


def facts_of(report: InvocationReport) -> ReportFacts:
    """Reduce a report to what its line says."""
    return ReportFacts(
        request_id=report.request_id,
        outcome=report.outcome,
        duration_ms=report.duration_ms,
        billed_ms=report.billed_ms,
        memory_mib=report.function.memory_mib,
        peak_memory_mib=report.peak_memory_mib,
        init_ms=report.init_ms,
    )


def init_start_line(runtime: str, *, wanted: str | None = None) -> str:
    """Line at the begin of the init phase.

    Args:
        runtime: the runtime that really runs, for example ``python3.11 (3.11.7)``.
        wanted: the runtime the function names, where another one stands in for it.
    """
    line = f"INIT_START Runtime Version: {runtime}"
    return line if wanted is None else f"{line}\tSubstituted For: {wanted}"


def start_line(request_id: str, version: str) -> str:
    """``START`` of an invocation."""
    return f"START RequestId: {request_id} Version: {version}"


def end_line(request_id: str) -> str:
    """``END`` of an invocation."""
    return f"END RequestId: {request_id}"


def report_line(report: InvocationReport) -> str:
    """``REPORT`` of an invocation; it ends with a tabulator, as Lambda's does."""
    return report_text(facts_of(report))


def report_text(facts: ReportFacts) -> str:
    """``REPORT`` from the facts alone."""
    parts = [
        f"REPORT RequestId: {facts.request_id}",
        f"Duration: {facts.duration_ms:.2f} ms",
        f"Billed Duration: {facts.billed_ms} ms",
        f"Memory Size: {facts.memory_mib} MB",
        f"Max Memory Used: {facts.peak_memory_mib} MB",
    ]
    if facts.init_ms is not None:
        parts.append(f"Init Duration: {facts.init_ms:.2f} ms")
    status, error_type = _STATUS.get(facts.outcome, (None, None))
    if status is not None:
        parts.append(f"Status: {status}")
    if error_type is not None:
        parts.append(f"Error Type: {error_type}")
    return "\t".join(parts) + "\t"


def cold_start_text(request_id: str, how: str, phases_us: Mapping[str, int]) -> str:
    """Where a cold start's time went, phase by phase; a line of ours that follows REPORT."""
    known = [name for name in _PHASE_ORDER if name in phases_us]
    others = sorted(set(phases_us) - set(known))
    parts = [f"COLD_START RequestId: {request_id} Start: {how}"]
    parts += [f"{name.title()}: {phases_us[name] / 1000:.2f} ms" for name in known + others]
    return "\t".join(parts)


def start_json(request_id: str, version: str, wall_s: float) -> str:
    """``platform.start`` for functions whose log format is JSON."""
    return _event(wall_s, "platform.start", {"requestId": request_id, "version": version})


def report_json(facts: ReportFacts, wall_s: float) -> str:
    """``platform.report`` for functions whose log format is JSON."""
    metrics: dict[str, float | int] = {
        "durationMs": round(facts.duration_ms, 3),
        "billedDurationMs": facts.billed_ms,
        "memorySizeMB": facts.memory_mib,
        "maxMemoryUsedMB": facts.peak_memory_mib,
    }
    if facts.init_ms is not None:
        metrics["initDurationMs"] = round(facts.init_ms, 3)
    status, error_type = _STATUS.get(facts.outcome, (facts.outcome, None))
    record: dict[str, object] = {"requestId": facts.request_id, "status": status}
    if error_type is not None:
        record["errorType"] = error_type
    return _event(wall_s, "platform.report", record | {"metrics": metrics})


def _event(wall_s: float, kind: str, record: Mapping[str, object]) -> str:
    moment = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
    time = moment.replace("+00:00", "Z")
    return json.dumps({"time": time, "type": kind, "record": record}, separators=(",", ":"))
