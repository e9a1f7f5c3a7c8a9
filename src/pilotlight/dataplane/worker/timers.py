"""All waiting of a worker's environments, on one timer.

A warm invocation must not make a timer of its own. Deadlines are kept in a dictionary and read
by one sweep, which runs at the earliest moment anything can be due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

from pilotlight.ports.clock import Clock


class Timed(Protocol):
    """What the sweep can do to an environment."""

    def idle_long(self) -> None:
        """It has been idle long enough to be frozen."""
        ...

    def deadline_reached(self) -> None:
        """Its running invocation ran into the timeout."""
        ...

    def retire_now(self) -> None:
        """Its keep-alive is over."""
        ...


class Timers:
    """Deadlines of running invocations, and the two times of idleness.

    Dictionaries keep the order of insertion, and environments are inserted when they become
    idle: the first is always the one that has rested longest.
    """

    def __init__(
        self,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        *,
        freeze_after_s: float,
        keep_alive_s: float,
    ) -> None:
        self._clock = clock
        self._loop = loop
        self._freeze_after_s = freeze_after_s
        self._keep_alive_s = keep_alive_s
        self._deadlines: dict[Timed, float] = {}
        self._awake: dict[Timed, float] = {}
        self._idle: dict[Timed, float] = {}
        self._handle: asyncio.TimerHandle | None = None
        self._due_s = 0.0

    def runs(self, environment: Timed, deadline_s: float) -> None:
        """An invocation begins to run and must end by ``deadline_s`` (monotonic)."""
        self._awake.pop(environment, None)
        self._idle.pop(environment, None)
        self._deadlines[environment] = deadline_s
        self._arm(deadline_s)

    def rests(self, environment: Timed, now_s: float) -> None:
        """The environment became idle."""
        self._deadlines.pop(environment, None)
        self._awake[environment] = now_s
        self._idle[environment] = now_s
        self._arm(now_s + self._freeze_after_s)

    def forgets(self, environment: Timed) -> None:
        """The environment is gone."""
        self._deadlines.pop(environment, None)
        self._awake.pop(environment, None)
        self._idle.pop(environment, None)

    def idle_since(self, environment: Timed) -> float | None:
        """Monotonic time since which it is idle, or None."""
        return self._idle.get(environment)

    def longest_idle(self) -> Iterable[Timed]:
        """Idle environments, the one that has rested longest first."""
        return tuple(self._idle)

    def close(self) -> None:
        """Never fire again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, due_s: float) -> None:
        if self._handle is not None:
            if self._due_s <= due_s:
                return
            self._handle.cancel()
        self._due_s = due_s
        delay_s = max(0.0, due_s - self._clock.monotonic())
        self._handle = self._loop.call_later(delay_s, self._sweep)

    def _sweep(self) -> None:
        self._handle = None
        now_s = self._clock.monotonic()
        for environment in [e for e, due_s in self._deadlines.items() if due_s <= now_s]:
            environment.deadline_reached()
        for environment in _rested(self._awake, now_s - self._freeze_after_s):
            self._awake.pop(environment, None)
            environment.idle_long()
        for environment in _rested(self._idle, now_s - self._keep_alive_s):
            environment.retire_now()
        due = [min(self._deadlines.values())] if self._deadlines else []
        due += [since_s + self._freeze_after_s for since_s in _first(self._awake)]
        due += [since_s + self._keep_alive_s for since_s in _first(self._idle)]
        if due:
            self._arm(max(min(due), now_s + 0.001))


def _first(resting: dict[Timed, float]) -> tuple[float, ...]:
    return tuple(since_s for since_s, _ in zip(resting.values(), range(1), strict=False))


def _rested(resting: dict[Timed, float], since_s: float) -> list[Timed]:
    """Environments that became idle at or before ``since_s``."""
    found = []
    for environment, idle_since_s in resting.items():
        if idle_since_s > since_s:
            break
        found.append(environment)
    return found
