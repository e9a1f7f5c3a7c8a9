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

_OTHERS = (
    LogEvent(
        "request_failed",
        "error",
        ("request_id",),
        "An API request ended in a fault of ours; the caller got a 500.",
    ),
    LogEvent(
        "invoke_failed",
        "error",
        ("request_id",),
        "An invocation ended in a fault of ours before or after the function ran.",
    ),
    LogEvent(
        "connection_failed",
        "error",
        (),
        "Our code failed on a connection; it was closed.",
    ),
    LogEvent(
        "route_failed",
        "error",
        (),
        "Our code failed to begin a request; the caller got a 500.",
    ),
    LogEvent(
        "call_failed",
        "error",
        (),
        "Our code failed inside a request; the caller got a 500.",
    ),
    LogEvent(
        "answered_twice",
        "error",
        (),
        "A request got a second answer, which was not sent: a bug of ours.",
    ),
    LogEvent(
        "url_response_invalid",
        "info",
        ("request_id", "reason"),
        "A function behind a URL answered something that is no HTTP response (502).",
    ),
    LogEvent(
        "blob_collection_failed_for_now",
        "warning",
        (),
        "Unused packages could not be looked for; tried again later.",
    ),
    LogEvent(
        "packages_removed",
        "info",
        ("count",),
        "Packages that no function uses any more were removed.",
    ),
    LogEvent(
        "transition_sweep_failed",
        "warning",
        (),
        "Pending functions could not be looked for; tried again later.",
    ),
    LogEvent(
        "access_key_unreadable",
        "error",
        ("access_key",),
        "The secret of an access key cannot be decrypted; the key is not accepted.",
    ),
    LogEvent(
        "mapping_not_finished",
        "warning",
        ("mapping",),
        "A change of an event source mapping could not be finished yet; tried again.",
    ),
    LogEvent(
        "transition_failed_for_now",
        "warning",
        ("function",),
        "A function could not be made ready yet; tried again.",
    ),
    LogEvent(
        "blanks_not_kept",
        "warning",
        ("runtime", "why"),
        "Blank sandboxes of a runtime cannot be kept ready; cold starts there are slower.",
    ),
    LogEvent(
        "checkpoint_failed",
        "warning",
        ("path",),
        "A database's write-ahead log could not be folded in; it grows until that works.",
    ),
    LogEvent(
        "transaction_failed",
        "error",
        ("path",),
        "A write to a database failed; its callers were told.",
    ),
    LogEvent(
        "issuer_away",
        "warning",
        ("issuer", "detail"),
        "Keys of a token issuer cannot be fetched; its last ones are used for at most an hour.",
    ),
    LogEvent(
        "tls_renewed",
        "info",
        ("certificate",),
        "New connections get the certificate that is in the files now.",
    ),
    LogEvent(
        "tls_not_renewed",
        "error",
        ("detail",),
        "Certificate or key changed and cannot be used; the old ones stay.",
    ),
    LogEvent(
        "audit_refused",
        "error",
        ("waiting", "detail"),
        "The audit log cannot be written; calls that change something are refused until it can.",
    ),
    LogEvent(
        "audit_lost",
        "error",
        ("entries", "detail"),
        "The platform ended while its audit log could not be written; these entries are gone.",
    ),
    LogEvent(
        "audit_pruned",
        "info",
        ("entries",),
        "Entries of the audit log that were too old or too many were removed.",
    ),
    LogEvent(
        "events_recovered",
        "info",
        ("events",),
        "Events whose attempts an earlier process did not finish; they are tried again.",
    ),
    LogEvent(
        "events_not_stored",
        "error",
        ("events",),
        "The queue's file failed; these asynchronous invocations were refused with 503.",
    ),
    LogEvent(
        "events_not_settled",
        "error",
        ("events",),
        "The platform ended while the queue failed; these events are tried again at its start.",
    ),
    LogEvent(
        "events_forgotten",
        "info",
        ("events",),
        "Ended events and undelivered records that were too old or too many were removed.",
    ),
    LogEvent(
        "events_not_forgotten",
        "warning",
        (),
        "Old events could not be removed; tried again later.",
    ),
    LogEvent(
        "event_not_delivered",
        "warning",
        ("request_id", "kind", "target", "reason"),
        "A destination or dead-letter target of an event cannot be reached; its record is kept.",
    ),
    LogEvent(
        "queue_failed_for_now",
        "error",
        (),
        "The queue's file failed; events wait, nothing is lost, tried again.",
    ),
    LogEvent(
        "stale_receipt",
        "warning",
        ("request_id",),
        "An attempt ended after its lease; the event belongs to a later lease, or has ended.",
    ),
    LogEvent(
        "leftover_sandbox_destroyed",
        "warning",
        ("environment", "pid"),
        "A process of an earlier run was found and ended.",
    ),
    LogEvent(
        "sandboxes_left_over_removed",
        "info",
        ("count",),
        "Sandboxes of an earlier run were found and removed.",
    ),
    LogEvent(
        "sandbox_launcher_ended",
        "error",
        ("sandboxes",),
        "The launcher is gone: no sandbox can be made until Pilotlight starts again.",
    ),
    LogEvent(
        "sandbox_not_removed",
        "error",
        ("environment",),
        "A sandbox could not be removed whole; its remains go at the next start.",
    ),
    LogEvent(
        "leftover_destroyed",
        "info",
        ("environment",),
        "An environment of an earlier run was found and destroyed.",
    ),
    LogEvent(
        "environment_evicted",
        "info",
        ("environment", "why"),
        "An idle environment made room for others.",
    ),
    LogEvent(
        "code_cache_folder_left",
        "warning",
        ("folder",),
        "A folder of the code cache could not be removed; tried again at the next start.",
    ),
    LogEvent(
        "bytecode_incomplete",
        "warning",
        ("tree", "reason"),
        "Not all modules of a package could be compiled; their imports are slower.",
    ),
    LogEvent(
        "runtimes_forgotten",
        "warning",
        ("file", "owner"),
        "Added interpreters were written by another user than root, who runs them: not believed.",
    ),
    LogEvent(
        "unreadable_record",
        "error",
        ("record",),
        "A record of the registry is not understood; what it describes is not served.",
    ),
    LogEvent(
        "view_snapshot_unusable",
        "warning",
        ("fault",),
        "The saved view of the registry cannot be used; it is read anew.",
    ),
    LogEvent(
        "view_not_saved",
        "warning",
        ("fault",),
        "The view of the registry could not be saved; a start without the registry would be stale.",
    ),
    LogEvent(
        "registry_away",
        "warning",
        ("revision",),
        "The registry does not answer; functions are served from the view.",
    ),
    LogEvent(
        "protection_missing",
        "warning",
        ("what",),
        "A limit that the operator allowed to be missing is missing.",
    ),
    LogEvent(
        "on_ready_failed",
        "error",
        ("fault",),
        "What was to run once the platform is ready failed; the platform serves.",
    ),
)

LOG_EVENTS = (LOG_BATCH_LOST, LOG_SEGMENT_DAMAGED, LOG_SEGMENT_REMOVED, *_OTHERS)


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
