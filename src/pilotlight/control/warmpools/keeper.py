"""Keeps the blank pools as the policy wants them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from pilotlight.control.warmpools.policy import WarmPoolSettings, wanted_blanks
from pilotlight.kernel.service import every
from pilotlight.model.errors import SandboxError
from pilotlight.model.ids import AccountId, RuntimeName
from pilotlight.ports.clock import Clock
from pilotlight.ports.sandbox import BlankClass, KeepsBlanks

log = logging.getLogger(__name__)


class BlankPools:
    """The Warm Pool Manager of one worker, as a `Part`.

    Args:
        drivers: those of the worker's drivers that can keep blanks; may be none.
        first: tenant and runtime of the classes that keep their blanks from the start.
    """

    def __init__(
        self,
        drivers: Sequence[KeepsBlanks],
        clock: Clock,
        settings: WarmPoolSettings,
        *,
        first: Sequence[tuple[AccountId, RuntimeName]] = (),
    ) -> None:
        self.name = "warmpools"
        self._drivers = tuple(drivers)
        self._clock = clock
        self._settings = settings
        self._always = tuple(BlankClass(tenant, runtime) for tenant, runtime in first)
        self._used_s: dict[BlankClass, float] = {}
        self._kept: dict[BlankClass, int] = {}

    def wanted(self, kind: BlankClass) -> None:
        """Note that a sandbox of this class was asked for."""
        self._used_s[kind] = self._clock.monotonic()

    async def run(self, ready: Callable[[], None]) -> None:
        """Fill the pools that are always kept, then follow use until cancelled.

        A pool that cannot be filled does not stop the worker: sandboxes are forked instead, and
        the next tick tries again.
        """
        await self.tick()
        ready()
        await every(self._settings.tick_s, self.tick)

    async def tick(self) -> None:
        """Bring the pools to what is wanted now."""
        now_s = self._clock.monotonic()
        wanted = wanted_blanks(self._used_s, self._always, now_s, self._settings)
        for kind in [kind for kind in self._kept if kind not in wanted]:
            await self._keep(kind, 0)
        for kind, count in wanted.items():
            if self._kept.get(kind) != count:
                await self._keep(kind, count)
        forgotten_s = now_s - self._settings.forget_after_s
        self._used_s = {k: at_s for k, at_s in self._used_s.items() if at_s >= forgotten_s}

    async def _keep(self, kind: BlankClass, count: int) -> None:
        try:
            for driver in self._drivers:
                await driver.keep_blanks(kind, count)
        except SandboxError as error:
            log.warning("blanks_not_kept", extra={"runtime": kind.runtime, "why": str(error)})
            self._kept.pop(kind, None)
            return
        if count:
            self._kept[kind] = count
        else:
            self._kept.pop(kind, None)
