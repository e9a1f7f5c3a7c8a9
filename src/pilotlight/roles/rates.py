"""Rate limits as the settings say."""

from __future__ import annotations

from typing import Final

from pilotlight.config import Settings
from pilotlight.control.gateway import CallerRates
from pilotlight.model.rates import Rate
from pilotlight.ports.clock import Clock

_INVOKE_PER_RUNNING: Final = 10
"""Invocations a second for each that may run at once
(https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html, "requests per second")."""


def control(settings: Settings, clock: Clock) -> CallerRates:
    """Of calls to the control plane."""
    limits = settings.limits
    return _rates(limits.control_per_s, limits.control_burst, limits.key_share, clock)


def invoke(settings: Settings, clock: Clock) -> CallerRates:
    """Of signed invocations."""
    limits = settings.limits
    per_s = limits.invoke_per_s or float(settings.concurrency_limit * _INVOKE_PER_RUNNING)
    return _rates(per_s, limits.invoke_burst or max(1.0, per_s), limits.key_share, clock)


def _rates(per_s: float, burst: float, key_share: float, clock: Clock) -> CallerRates:
    of_key = Rate(per_s * key_share, max(1.0, burst * key_share))
    return CallerRates(account=Rate(per_s, burst), key=of_key, clock=clock)
