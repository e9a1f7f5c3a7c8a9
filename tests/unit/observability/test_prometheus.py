"""Metrics: what is counted appears at the scrape, and labels stay bounded."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pilotlight.model.invocation import ColdStart
from pilotlight.observability import catalog
from pilotlight.observability import prometheus as module
from pilotlight.observability.prometheus import PrometheusTelemetry
from pilotlight.testing.log_facts import function, report

OF_HELLO = {"account": "000000000000", "function": "hello"}


def samples(telemetry: PrometheusTelemetry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    body, content_type = telemetry.exposition()
    assert content_type.startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(telemetry: PrometheusTelemetry, name: str, **labels: str) -> float:
    return samples(telemetry)[name, frozenset(labels.items())]


def test_invocations_are_counted_by_outcome_with_their_durations() -> None:
    telemetry = PrometheusTelemetry()
    telemetry.finished(report(duration_ms=3))
    telemetry.finished(report(duration_ms=30))
    telemetry.finished(report(outcome="timeout", duration_ms=3000))
    name = "pilotlight_invocations_total"
    assert value(telemetry, name, **OF_HELLO, outcome="success") == 2
    assert value(telemetry, name, **OF_HELLO, outcome="timeout") == 1
    duration = "pilotlight_invocation_duration_seconds"
    assert value(telemetry, duration + "_count", **OF_HELLO) == 3
    assert value(telemetry, duration + "_sum", **OF_HELLO) == pytest.approx(3.033)
    assert value(telemetry, duration + "_bucket", **OF_HELLO, le="0.005") == 1
    assert value(telemetry, duration + "_bucket", **OF_HELLO, le="0.05") == 2
    assert value(telemetry, duration + "_bucket", **OF_HELLO, le="+Inf") == 3
    assert value(telemetry, "pilotlight_billed_milliseconds_total", **OF_HELLO) == 6
    assert value(telemetry, "pilotlight_peak_memory_bytes", **OF_HELLO) == 30 * 1024 * 1024


def test_cold_starts_are_counted_and_timed_by_phase() -> None:
    telemetry = PrometheusTelemetry()
    telemetry.finished(report(cold=ColdStart("fork", {"init": 2_000, "queue": 100})))
    assert value(telemetry, "pilotlight_cold_starts_total", **OF_HELLO, how="fork") == 1
    phase = "pilotlight_cold_start_phase_seconds_sum"
    assert value(telemetry, phase, how="fork", phase="init") == pytest.approx(0.002)


def test_refusals_failures_environments_and_waiters() -> None:
    telemetry = PrometheusTelemetry(states=lambda: {"idle": 1})
    telemetry.throttled(function(), "ConcurrentInvocationLimitExceeded")
    telemetry.platform_failure("frontend", "no-worker")
    telemetry.waiters(3)
    assert (
        value(
            telemetry,
            "pilotlight_throttles_total",
            **OF_HELLO,
            reason="ConcurrentInvocationLimitExceeded",
        )
        == 1
    )
    failed = {"component": "frontend", "reason": "no-worker"}
    assert value(telemetry, "pilotlight_platform_failures_total", **failed) == 1
    assert value(telemetry, "pilotlight_environments", state="idle") == 1
    assert value(telemetry, "pilotlight_waiting_invocations") == 3


def test_functions_beyond_the_bound_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FUNCTIONS", 2)
    telemetry = PrometheusTelemetry()
    for number in range(5):
        telemetry.finished(report(of=function(f"f{number}")))
        telemetry.throttled(function(f"f{number}"), "r")
    other = {"account": "(other)", "function": "(other)"}
    assert value(telemetry, "pilotlight_invocations_total", **other, outcome="success") == 3
    assert value(telemetry, "pilotlight_functions_without_own_series") == 3


def test_the_log_store_s_counters_are_read_at_the_scrape() -> None:
    telemetry = PrometheusTelemetry(log_counts=lambda: (7, {"disk": 2}, 4096))
    assert value(telemetry, "pilotlight_log_lines_total") == 7
    assert value(telemetry, "pilotlight_log_lines_dropped_total", reason="disk") == 2
    assert value(telemetry, "pilotlight_log_store_bytes") == 4096


def test_every_exported_metric_is_in_the_catalogue_and_the_reverse() -> None:
    families = {family.name for family in PrometheusTelemetry().registry.collect()}
    declared = {metric.name for metric in catalog.METRICS}
    assert {name for name in families if name.startswith("pilotlight_")} == declared


def test_open_metrics_is_served_where_it_is_asked_for() -> None:
    _, content_type = PrometheusTelemetry().exposition("application/openmetrics-text")
    assert content_type.startswith("application/openmetrics-text")
