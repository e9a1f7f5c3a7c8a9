"""Every metric and every log event of the platform: name, unit, labels, meaning.

What is not declared here does not exist: the exporter makes its metrics from this list, and the
tables of ``docs/metrics.md`` are made from it (`document`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """Kinds of metrics, as Prometheus knows them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Counters are exported with ``_total`` at the end of the name.

    Attributes:
        unit: ``seconds, bytes, milliseconds`` or "" for a plain count.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event of Pilotlight's own log."""

    name: str
    level: str
    fields: tuple[str, ...]
    meaning: str


_FUNCTION = ("account", "function")

INVOCATIONS = Metric(
    "pilotlight_invocations", Kind.COUNTER, "", (*_FUNCTION, "outcome"),
    "Finished invocations; outcome: success, error (the handler raised), timeout, crash, memory.",
)  # fmt: skip
DURATION = Metric(
    "pilotlight_invocation_duration_seconds", Kind.HISTOGRAM, "seconds", _FUNCTION,
    "Handler time as the host measured it, without init and without waiting.",
)  # fmt: skip
BILLED = Metric(
    "pilotlight_billed_milliseconds", Kind.COUNTER, "milliseconds", _FUNCTION,
    "Billed duration, rounded up for each invocation.",
)  # fmt: skip
PEAK_MEMORY = Metric(
    "pilotlight_peak_memory_bytes", Kind.GAUGE, "bytes", _FUNCTION,
    "Highest memory use of any environment of the function since start.",
)  # fmt: skip
THROTTLES = Metric(
    "pilotlight_throttles", Kind.COUNTER, "", (*_FUNCTION, "reason"),
    "Invocations refused by admission (429), by the Reason that the caller got.",
)  # fmt: skip
COLD_STARTS = Metric(
    "pilotlight_cold_starts", Kind.COUNTER, "", (*_FUNCTION, "how"),
    "Invocations that waited for a new environment; how: blank (pool), fork (zygote), spawn.",
)  # fmt: skip
COLD_PHASES = Metric(
    "pilotlight_cold_start_phase_seconds", Kind.HISTOGRAM, "seconds", ("how", "phase"),
    "Time of a cold start by phase: queue, placement, fetch, sandbox, runtime, init.",
)  # fmt: skip
PLATFORM_FAILURES = Metric(
    "pilotlight_platform_failures", Kind.COUNTER, "", ("component", "reason"),
    "Invocations that failed through our fault: the caller got a 5xx.",
)  # fmt: skip
ENVIRONMENTS = Metric(
    "pilotlight_environments", Kind.GAUGE, "", ("state",),
    "Execution environments by state.",
)  # fmt: skip
WAITERS = Metric(
    "pilotlight_waiting_invocations", Kind.GAUGE, "", (),
    "Invocations that wait for an environment.",
)  # fmt: skip
FUNCTIONS_FOLDED = Metric(
    "pilotlight_functions_without_own_series", Kind.GAUGE, "", (),
    "Functions beyond the bound on label values; they are counted together as (other).",
)  # fmt: skip
LOG_LINES = Metric(
    "pilotlight_log_lines", Kind.COUNTER, "", (),
    "Entries of function logs stored; START, END and REPORT of an invocation are one.",
)  # fmt: skip
LOG_DROPPED = Metric(
    "pilotlight_log_lines_dropped", Kind.COUNTER, "", ("reason",),
    "Entries of function logs lost; reason: buffer (full), disk (nearly full), store (an error).",
)  # fmt: skip
LOG_BYTES = Metric(
    "pilotlight_log_store_bytes", Kind.GAUGE, "bytes", (),
    "Size of the log store on disk.",
)  # fmt: skip
BUILD = Metric(
    "pilotlight_build", Kind.GAUGE, "", ("version", "python"), "Always 1; the labels say what runs."
)

METRICS = (
    INVOCATIONS, DURATION, BILLED, PEAK_MEMORY, THROTTLES, COLD_STARTS, COLD_PHASES,
    PLATFORM_FAILURES, ENVIRONMENTS, WAITERS, FUNCTIONS_FOLDED, LOG_LINES, LOG_DROPPED, LOG_BYTES,
    BUILD,
)  # fmt: skip

LOG_BATCH_LOST = LogEvent(
    "log_batch_lost", "error", ("reason", "entries", "detail"),
    "Function log entries could not be written and are gone.",
)  # fmt: skip
LOG_SEGMENT_DAMAGED = LogEvent(
    "log_segment_damaged", "error", ("segment", "detail"),
    "A file of the log store is not readable; it was set aside, the rest is served.",
)  # fmt: skip
LOG_SEGMENT_REMOVED = LogEvent(
    "log_segment_removed", "info", ("segment", "reason"),
    "A file of the log store was removed by retention; reason: age or size.",
)  # fmt: skip

LOG_EVENTS = (LOG_BATCH_LOST, LOG_SEGMENT_DAMAGED, LOG_SEGMENT_REMOVED)


def document() -> str:
    """The content of ``docs/metrics.md``."""
    lines = [
        "# Metrics and log events",
        "",
        "This page is made from `pilotlight.observability.catalog`; a test keeps it fresh.",
        "",
        "## Metrics, at `/metrics`",
        "",
        "| name | kind | unit | labels | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| `{exported_name(metric)}` | {metric.kind} | {metric.unit or 'count'} "
        f"| {_codes(metric.labels)} | {metric.meaning} |"
        for metric in METRICS
    ]
    lines += [
        "",
        "## Events of Pilotlight's own log, on standard error",
        "",
        "| event | level | fields | meaning |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| `{event.name}` | {event.level} | {_codes(event.fields)} | {event.meaning} |"
        for event in LOG_EVENTS
    ]
    return "\n".join(lines) + "\n"


def exported_name(metric: Metric) -> str:
    """The name as a scrape shows it."""
    return metric.name + "_total" if metric.kind is Kind.COUNTER else metric.name


def _codes(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"
