"""Decisions of the frontend: how deep to queue, how many environments to start. Pure."""

from __future__ import annotations

FAST_MS = 1.0
"""A handler below this is fast: waiting for it costs less than another environment (section 4)."""
VERY_FAST_MS = 0.5
STUCK_MS = 20.0
"""Nothing is queued behind a run that takes longer, and a few in a row switch prefetch off."""
_STUCK_IN_A_ROW = 3
SLOW_MS = 5.0
"""A follower above this is slow; less may be the host's own delay in reading answers."""
_TRIAL_RUNS = 32
_LONGEST_TRIAL_RUNS = 512
_ONE_IN = 32
_JUDGED_RUNS = 256
_WEIGHT = 1 / 16
_MOST_SLOW = 0.75


class Pace:
    """How fast a function version answers, and whether frames may be queued behind its runs.

    Without a queue a measured time is an upper bound of the handler's: on a loaded host most of
    it is the wait for a CPU. So a few fast runs are enough to *try* a queue. With one, only the
    runs that followed another in the same environment are judged: their runtime had its CPU
    already, and where none follows, none waits. When most of them are slow, some in a row got
    stuck, or hardly any was fast, the queue is off and the next trial takes twice as many runs.
    A handler that always takes longer than `FAST_MS`, which includes those that fork, is never
    tried. Handlers that write logs are never queued behind: their log has no borders between
    requests.

    Attributes:
        depth: invocations one environment may hold; 1 is no queue.
    """

    __slots__ = ("_fast", "_runs", "_slow", "_stuck", "_trial_runs", "_very_fast", "depth", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.depth = 1
        self._trial_runs = _TRIAL_RUNS
        self._runs = self._fast = self._very_fast = self._stuck = 0
        self._slow = 0.0

    def saw(self, duration_ms: float, *, has_logged: bool, is_follower: bool = False) -> None:
        """Take one finished run into account.

        Args:
            duration_ms: of the run, as the host measured it.
            has_logged: it wrote to its log, or failed.
            is_follower: it was queued while the run before it was not answered yet.
        """
        if has_logged:
            self.depth = 1
            self._restart()
        elif self.depth == 1:
            self._observe(duration_ms)
        elif is_follower:
            self._judge(duration_ms)

    def _observe(self, duration_ms: float) -> None:
        self._runs += 1
        self._fast += duration_ms < FAST_MS
        self._very_fast += duration_ms < VERY_FAST_MS
        if self._runs >= self._trial_runs:
            self.depth = depth_for(self._runs, self._fast, self._very_fast, self.most)
            self._restart()

    def _judge(self, duration_ms: float) -> None:
        self._runs += 1
        self._fast += duration_ms < FAST_MS
        self._stuck = self._stuck + 1 if duration_ms > STUCK_MS else 0
        self._slow += ((duration_ms > SLOW_MS) - self._slow) * _WEIGHT
        if self._slow > _MOST_SLOW or self._stuck >= _STUCK_IN_A_ROW:
            self._fail()
        elif self._runs >= _JUDGED_RUNS:
            if self._fast * _ONE_IN < self._runs:
                self._fail()
            else:
                self._trial_runs = _TRIAL_RUNS  # it kept its promise: past failures are over
                self._runs = self._fast = 0

    def _fail(self) -> None:
        self.depth = 1
        self._trial_runs = min(2 * self._trial_runs, _LONGEST_TRIAL_RUNS)
        self._restart()

    def _restart(self) -> None:
        self._runs = self._fast = self._very_fast = 0
        self._slow = 0.0
        self._stuck = 0


def depth_for(runs: int, fast: int, very_fast: int, most: int) -> int:
    """Invocations one environment may hold for a handler with so many fast runs."""
    if fast * _ONE_IN < runs:
        return 1
    return max(1, min(most, 4 if very_fast * _ONE_IN >= runs else 2))


def starts_needed(waiting: int, starting: int, depth: int) -> int:
    """Environments to start now: a burst of n requests starts at most n.

    Where an environment may hold several, that many share one: a start takes longer than the
    runs of those before.
    """
    return max(0, -(-waiting // depth) - starting)


class Burst:
    """Token bucket over the environments that one function version starts."""

    __slots__ = ("_checked_s", "_most", "_rate", "_tokens")

    def __init__(self, most: int, window_s: float) -> None:
        self._most = most
        self._rate = most / window_s
        self._tokens = float(most)
        self._checked_s: float | None = None

    def take(self, wanted: int, now_s: float) -> int:
        """Take up to ``wanted`` starts; returns how many are allowed now."""
        if self._checked_s is not None:
            gained = max(0.0, now_s - self._checked_s) * self._rate
            self._tokens = min(float(self._most), self._tokens + gained)
        self._checked_s = now_s
        allowed = min(wanted, int(self._tokens))
        self._tokens -= allowed
        return allowed
