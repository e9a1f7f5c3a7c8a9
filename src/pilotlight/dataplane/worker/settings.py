"""Settings of a worker; each with its unit, default and reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilotlight.model.function import Isolation
from pilotlight.model.limits import INIT_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker treats its environments.

    Attributes:
        worker: identity of this worker, unique in a cluster.
        zone: failure domain; placement spreads over zones.
        default_isolation: for functions that do not ask for one; never used instead of one that
            was asked for.
        keep_alive_s: how long an idle environment stays. Ten minutes cover most functions that
            are called at all regularly (the fixed keep-alive of the published traces).
        freeze_after_s: idle time after which processes are stopped (decision D9).
        max_age_s: an environment is not reused after this, so that leaks of the function and the
            age of its interpreter stay bounded. The service renews environments within hours.
        init_limit_s: longest init phase.
        create_limit_s: longest wait for a driver, the code cache included.
        exit_wait_s: how long the exit status is awaited after a channel closed.
        memory_budget_mib: what all environments together may be charged with; 0 means none.
        commit_ratio: part of its memory limit that an environment is charged with: functions
            mostly use far less than their limit, and pressure is watched besides.
        min_charge_mib: least charge: an interpreter, its page tables and kernel objects.
        low_memory_mib: available host memory below which idle environments are evicted.
        pressure_period_s: how often available memory is read.
        log_bytes_per_s: log bytes kept of one environment on average; beyond it lines are
            dropped and counted.
        log_burst_bytes: log bytes that may come at once.
        usage_period_s: least time between two reads of an environment's memory counters after
            short invocations; a read costs more than a short invocation may.
        extra_environment: variables for every function below the user's own, for example
            ``AWS_ENDPOINT_URL``.
    """

    worker: str = "local"
    zone: str = "local"
    default_isolation: Isolation = Isolation.CONTAINER
    keep_alive_s: float = 600.0
    freeze_after_s: float = 0.1
    max_age_s: float = 4 * 3600.0
    init_limit_s: float = INIT_TIMEOUT_S
    create_limit_s: float = 60.0
    exit_wait_s: float = 2.0
    memory_budget_mib: int = 8192
    commit_ratio: float = 0.25
    min_charge_mib: int = 32
    low_memory_mib: int = 512
    pressure_period_s: float = 2.0
    log_bytes_per_s: int = 2 * 1024 * 1024
    log_burst_bytes: int = 8 * 1024 * 1024
    usage_period_s: float = 0.1
    extra_environment: Mapping[str, str] = field(default_factory=dict)

    def charge_mib(self, memory_mib: int) -> int:
        """Memory an environment with this limit is charged with."""
        return max(self.min_charge_mib, int(memory_mib * self.commit_ratio))
