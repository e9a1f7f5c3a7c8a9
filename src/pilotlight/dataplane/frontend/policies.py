"""Decisions of the frontend: how deep to queue, how many environments to start. Pure."""

from __future__ import annotations

FAST_MS = 1.0
"""A handler below this is fast: waiting for it costs less than another environment (section 4)."""
VERY_FAST_MS = 0.5
SLOW_MS = 20.0
"""One run above this switches prefetch off at once: what is queued behind it would wait."""
_SAMPLES = 32


class Pace:
    """How fast a function version answers, and whether frames may be queued behind its runs.

    The estimate follows fast runs quicker than slow ones (about the 20th percentile), because on
    a loaded host the measured time is mostly waiting for a CPU, which prefetch makes shorter.
    Handlers that write logs are never queued behind: their log has no borders between requests.
    Handlers that fork take longer than `FAST_MS`, so they exclude themselves.
    """

    __slots__ = ("_estimate_ms", "_quiet", "depth", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.depth = 1
        self._estimate_ms = FAST_MS
        self._quiet = 0

    def saw(self, duration_ms: float, *, has_logged: bool) -> None:
        """Take one finished run into account."""
        if has_logged or duration_ms > SLOW_MS:
            self._quiet = 0
            self._estimate_ms = max(self._estimate_ms, min(duration_ms, 2 * FAST_MS))
            self.depth = 1
            return
        weight = 0.2 if duration_ms < self._estimate_ms else 0.05
        self._estimate_ms += (duration_ms - self._estimate_ms) * weight
        if self._quiet < _SAMPLES:
            self._quiet += 1
            return
        self.depth = depth_for(self._estimate_ms, self.most)


def depth_for(estimate_ms: float, most: int) -> int:
    """Invocations one environment may hold for a handler of this speed."""
    if estimate_ms >= FAST_MS:
        return 1
    return max(1, min(most, 4 if estimate_ms < VERY_FAST_MS else 2))


def starts_needed(waiting: int, starting: int) -> int:
    """Environments to start now: a burst of n requests starts at most n."""
    return max(0, waiting - starting)


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
