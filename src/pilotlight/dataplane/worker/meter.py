"""The facts of an environment's invocations: durations, what is billed, memory, the cold start."""

from __future__ import annotations

import math

from pilotlight.dataplane.worker.settings import WorkerSettings
from pilotlight.model.invocation import ColdStart, Invocation, InvocationReport
from pilotlight.ports.clock import Clock
from pilotlight.ports.sandbox import Sandbox
from pilotlight.ports.worker import EnvironmentOrder

_MIB = 1024 * 1024
_LONG_MS = 5.0
"""After a run this long the memory counters are always read: it does not feel it."""


class Meter:
    """Measures one environment.

    Attributes:
        phases_us: of its start, microseconds by phase.
        start: how its sandbox came to be.
        init_ms: how long its init phase took.
        invocations: how many have ended.
        peak_mib: highest memory use seen.
    """

    __slots__ = (
        "_clock", "_is_bound", "_order", "_period_s", "_read_s", "_sandbox", "init_ms",
        "invocations", "peak_mib", "phases_us", "start",
    )  # fmt: skip

    def __init__(self, order: EnvironmentOrder, settings: WorkerSettings, clock: Clock) -> None:
        self.phases_us: dict[str, int] = {}
        self.start = "-"
        self.init_ms = 0.0
        self.invocations = 0
        self.peak_mib = 0
        self._order = order
        self._is_bound = order.invocation is not None
        self._clock = clock
        self._period_s = settings.usage_period_s
        self._read_s = -math.inf
        self._sandbox: Sandbox | None = None

    def made(self, sandbox: Sandbox) -> None:
        """The sandbox to measure is there."""
        self._sandbox = sandbox
        self.start = sandbox.start.how

    def init_took(self, seconds: float) -> None:
        """The init phase ended well."""
        self.init_ms = seconds * 1000
        self.phases_us["init"] = int(seconds * 1e6)

    def report(
        self, invocation: Invocation, *, outcome: str, began_s: float, waited_us: int
    ) -> InvocationReport:
        """The facts of an invocation that ends now.

        Init is billed with the first invocation, as the service does since August 2025; where
        init was repeated inside the invocation it is part of its duration instead.
        """
        function = invocation.function
        now_s = self._clock.monotonic()
        duration_ms = (now_s - began_s) * 1000
        if outcome == "timeout":
            duration_ms = function.timeout_s * 1000.0
        is_first = self.invocations == 0
        self.invocations += 1
        if is_first or duration_ms > _LONG_MS or now_s - self._read_s > self._period_s:
            self._read_usage(now_s)
        init_ms = self.init_ms if is_first and not self._is_bound else None
        return InvocationReport(
            invocation.request_id,
            self._order.id,
            function,
            self._clock.wall(),
            outcome,
            duration_ms,
            math.ceil(duration_ms + (init_ms or 0.0)) or 1,
            init_ms,
            self.peak_mib,
            self._cold_start(waited_us) if is_first and waited_us else None,
        )

    def _cold_start(self, waited_us: int) -> ColdStart:
        phases = dict(self.phases_us)
        phases["placement"] = self._order.placement_us
        phases["queue"] = max(0, waited_us - sum(phases.values()))
        return ColdStart(self.start, phases)

    def _read_usage(self, now_s: float) -> None:
        if self._sandbox is not None:
            self._read_s = now_s
            used_mib = math.ceil(self._sandbox.usage().peak_memory_bytes / _MIB)
            self.peak_mib = max(self.peak_mib, min(used_mib, self._order.function.memory_mib))
