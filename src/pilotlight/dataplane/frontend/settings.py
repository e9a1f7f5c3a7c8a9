"""Settings of a frontend's invoke path; each with its unit, default and reason."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from pilotlight.model.limits import ACCOUNT_CONCURRENCY, COLD_START_BURST, COLD_START_WINDOW_S


@dataclass(frozen=True, slots=True)
class FrontendSettings:
    """How a frontend admits and assigns.

    Attributes:
        frontend: identity of this frontend, unique in a cluster.
        wait_budget_s: longest wait for an environment. Two init phases of 10 s and the making of
            two sandboxes fit; SDKs give up after 60 s.
        max_waiters: invocations that may wait for one function version; more are throttled.
        burst: environments one function version may start at once.
        burst_window_s: time in which ``burst`` is regained.
        refusal_s: how long an account stays refused without asking placement again, once
            placement had no credit left: a flood of refused requests must cost little.
        capacity_retry_s: pause before a worker is asked again after there was no room.
        keep_retry_s: pause before another environment to keep is started after one failed.
        start_attempts: sandboxes tried for one invocation when the platform fails to make them.
        prefetch_depth: most invocations in one environment, the running one included; 1 switches
            prefetch off.
        side_by_side: environments of one fast function that run at once before requests are
            queued behind them: with a CPU each, one more could not run sooner.
        sweep_s: period of the sweep that ends waits and follows the registry.
        empty_pool_s: how long an unused function version is remembered (its measured pace).
    """

    frontend: str = "local"
    wait_budget_s: float = 30.0
    max_waiters: int = ACCOUNT_CONCURRENCY
    burst: int = COLD_START_BURST
    burst_window_s: float = COLD_START_WINDOW_S
    refusal_s: float = 0.05
    capacity_retry_s: float = 0.25
    keep_retry_s: float = 5.0
    start_attempts: int = 2
    prefetch_depth: int = 4
    side_by_side: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    sweep_s: float = 0.25
    empty_pool_s: float = 60.0
