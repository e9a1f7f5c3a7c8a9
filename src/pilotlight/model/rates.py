"""Token buckets as arithmetic: how many calls there may be, and when there may be another.

A bucket is one number, the time at which it is full again (the generic cell rate algorithm, ITU-T
I.371). A call moves it on by one interval; what would move it further ahead than the burst
reaches is refused and moves nothing.

Worked example: 10 a second, burst 3, at rest. Calls at 0.0, 0.0 and 0.0 pass (full again at 0.3),
one more at 0.0 would fill it at 0.4, which is beyond 0.0 + 3 · 0.1: it may come again at 0.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

_ROUNDING: Final = 1e-6
"""Part of a token that sums of floats may be off by."""

AT_REST: Final = float("-inf")
"""A bucket that nothing was taken from."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket's size and how quickly it fills.

    Args:
        per_s: tokens that come back each second, above 0.
        burst: tokens of a full bucket, at least 1.
    """

    per_s: float
    burst: float
    interval_s: float = field(init=False)
    reach_s: float = field(init=False)

    def __post_init__(self) -> None:
        if not (self.per_s > 0 and self.burst >= 1):
            raise ValueError(f"not a rate: {self.per_s} a second, burst {self.burst}")
        object.__setattr__(self, "interval_s", 1 / self.per_s)
        object.__setattr__(self, "reach_s", (self.burst + _ROUNDING) / self.per_s)


def after(full_s: float, now_s: float, rate: Rate) -> float:
    """When the bucket would be full again if a token were taken now.

    Args:
        full_s: when it is full again as things are; `AT_REST` at first.
        now_s: same clock.
        rate: of the bucket.
    """
    return max(full_s, now_s) + rate.interval_s


def wait_s(after_s: float, now_s: float, rate: Rate) -> float:
    """How long to wait for the token, of which `after` was asked; 0 or less: take it now."""
    return after_s - now_s - rate.reach_s
