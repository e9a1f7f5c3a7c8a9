"""Metrics for Prometheus: plain slots on the invoke path, metric families at the scrape.

A counter of prometheus-client costs about a microsecond and a histogram two; an invocation touches
six of them. So the path only adds to slots of its function, and a collector turns slots into
families when somebody asks (decision D15).
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from pilotlight.model.function import FunctionVersion
from pilotlight.model.invocation import ColdStart, InvocationReport
from pilotlight.observability import catalog

MAX_FUNCTIONS = 1000
"""Functions with series of their own: 1,000 make about 20,000 series, which a scrape bears."""
MAX_REASONS = 64
"""Reasons, states and components come from our own code and are few; this only bounds a bug."""
OTHER = "(other)"

DURATION_BUCKETS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
)  # fmt: skip
PHASE_BUCKETS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip

_MIB = 1024 * 1024

K = TypeVar("K")
F = TypeVar("F", CounterMetricFamily, GaugeMetricFamily)


@dataclass(slots=True)
class _Histogram:
    """Observations by bucket; the last slot is beyond all bounds."""

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    @classmethod
    def over(cls, bounds: tuple[float, ...]) -> _Histogram:
        return cls(bounds, [0] * (len(bounds) + 1))

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as the exposition format wants them."""
        seen = 0
        rows: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            seen += count
            rows.append((bound, seen))
        return rows


@dataclass(slots=True)
class _Slots:
    """Everything counted for one function."""

    duration: _Histogram = field(default_factory=lambda: _Histogram.over(DURATION_BUCKETS_S))
    outcomes: dict[str, int] = field(default_factory=dict)
    cold: dict[str, int] = field(default_factory=dict)
    throttles: dict[str, int] = field(default_factory=dict)
    billed_ms: int = 0
    peak_mib: int = 0


class PrometheusTelemetry(Collector):
    """Implements `pilotlight.ports.telemetry.Telemetry` and renders ``/metrics``.

    All methods are to be called on one thread, the event loop's. Nothing here raises.

    Args:
        log_counts: reads the log store's counters at a scrape: entries stored, entries dropped by
            reason, bytes on disk.
        states: reads at a scrape how many execution environments are in which state.
    """

    def __init__(
        self,
        *,
        log_counts: Callable[[], tuple[int, Mapping[str, int], int]] | None = None,
        states: Callable[[], Mapping[str, int]] | None = None,
    ) -> None:
        self._log_counts = log_counts
        self._functions: dict[tuple[str, str], _Slots] = {}
        self._folded: set[tuple[str, str]] = set()
        self._phases: dict[tuple[str, str], _Histogram] = {}
        self._failures: dict[tuple[str, str], int] = {}
        self._states = states or dict
        self._waiters = 0
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def finished(self, report: InvocationReport) -> None:
        """Count a finished invocation."""
        function = report.function
        slots = self._functions.get((function.account, function.name)) or self._slots(function)
        outcome = report.outcome
        slots.outcomes[outcome] = slots.outcomes.get(outcome, 0) + 1
        slots.duration.observe(report.duration_ms / 1000)
        slots.billed_ms += report.billed_ms
        slots.peak_mib = max(slots.peak_mib, report.peak_memory_mib)
        if report.cold is not None:
            self._cold(slots, report.cold)

    def throttled(self, function: FunctionVersion, reason: str) -> None:
        """Count a refusal."""
        _add(self._slots(function).throttles, reason, OTHER)

    def platform_failure(self, component: str, reason: str) -> None:
        """Count a failure of ours."""
        _add(self._failures, (component, reason), (OTHER, OTHER))

    def waiters(self, delta: int) -> None:
        """Move the number of waiting invocations."""
        self._waiters += delta

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Body and content type of ``/metrics``; OpenMetrics where the client asks for it."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def collect(self) -> Iterator[Family]:
        """Make the families of everything counted so far."""
        yield from self._of_functions()
        phases = _histogram(catalog.COLD_PHASES)
        for labels, histogram in self._phases.items():
            phases.add_metric(labels, histogram.buckets(), histogram.total)
        yield phases
        failures = _counter(catalog.PLATFORM_FAILURES)
        for labels, count in self._failures.items():
            failures.add_metric(labels, count)
        yield failures
        environments = _gauge(catalog.ENVIRONMENTS)
        for state, count in self._states().items():
            environments.add_metric((state,), count)
        yield environments
        yield from self._plain()

    def _slots(self, function: FunctionVersion) -> _Slots:
        key = (str(function.account), function.name)
        slots = self._functions.get(key)
        if slots is None:
            if len(self._functions) >= MAX_FUNCTIONS:
                if len(self._folded) < MAX_FUNCTIONS * 10:
                    self._folded.add(key)
                key = (OTHER, OTHER)
            slots = self._functions.setdefault(key, _Slots())
        return slots

    def _cold(self, slots: _Slots, cold: ColdStart) -> None:
        _add(slots.cold, cold.how, OTHER)
        for phase, microseconds in cold.phases_us.items():
            key = (cold.how, phase)
            if key not in self._phases and len(self._phases) >= MAX_REASONS:
                key = (OTHER, OTHER)
            histogram = self._phases.setdefault(key, _Histogram.over(PHASE_BUCKETS_S))
            histogram.observe(microseconds / 1_000_000)

    def _of_functions(self) -> Iterator[Family]:
        outcomes = _counter(catalog.INVOCATIONS)
        throttles, cold = _counter(catalog.THROTTLES), _counter(catalog.COLD_STARTS)
        for labels, slots in self._functions.items():
            for family, counts in (
                (outcomes, slots.outcomes),
                (throttles, slots.throttles),
                (cold, slots.cold),
            ):
                for value, count in counts.items():
                    family.add_metric((*labels, value), count)
        yield from (outcomes, throttles, cold)
        duration = _histogram(catalog.DURATION)
        billed, peak = _counter(catalog.BILLED), _gauge(catalog.PEAK_MEMORY)
        for labels, slots in self._functions.items():
            duration.add_metric(labels, slots.duration.buckets(), slots.duration.total)
            billed.add_metric(labels, slots.billed_ms)
            peak.add_metric(labels, slots.peak_mib * _MIB)
        yield from (duration, billed, peak)

    def _plain(self) -> Iterator[Family]:
        yield _single(_gauge(catalog.WAITERS), self._waiters)
        yield _single(_gauge(catalog.FUNCTIONS_FOLDED), len(self._folded))
        build = _gauge(catalog.BUILD)
        build.add_metric((version("pilotlight"), platform.python_version()), 1)
        yield build
        stored, dropped, size = self._log_counts() if self._log_counts else (0, {}, 0)
        yield _single(_counter(catalog.LOG_LINES), stored)
        lost = _counter(catalog.LOG_DROPPED)
        for reason, count in dropped.items():
            lost.add_metric((reason,), count)
        yield lost
        yield _single(_gauge(catalog.LOG_BYTES), size)


def _add(counts: dict[K, int], key: K, beyond: K) -> None:
    """Count one, under ``beyond`` where the keys have become too many."""
    if key not in counts and len(counts) >= MAX_REASONS:
        key = beyond
    counts[key] = counts.get(key, 0) + 1


def _counter(metric: catalog.Metric) -> CounterMetricFamily:
    return CounterMetricFamily(metric.name, metric.meaning, labels=metric.labels)


def _gauge(metric: catalog.Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)


def _histogram(metric: catalog.Metric) -> HistogramMetricFamily:
    return HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)


def _single(family: F, value: float) -> F:
    family.add_metric((), value)
    return family
