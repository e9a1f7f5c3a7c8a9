"""Keeps the blank pools as the policy wants them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pilotlight.control.warmpools.policy import BlankSettings, wanted_blanks
from pilotlight.kernel.service import every
from pilotlight.model.errors import SandboxError
from pilotlight.ports.clock import Clock
from pilotlight.ports.sandbox import BlankClass, KeepsBlanks
from pilotlight.ports.telemetry import Telemetry

log = logging.getLogger(__name__)


class BlankKeeper:
    """The Warm Pool Manager of one worker, as a `Part`."""

    def __init__(
        self, driver: KeepsBlanks, telemetry: Telemetry, clock: Clock, settings: BlankSettings
    ) -> None:
        self.name = "warmpools"
        self._driver = driver
        self._telemetry = telemetry
        self._clock = clock
        self._settings = settings
        self._used_s: dict[BlankClass, float] = {}
        self._kept: dict[BlankClass, int] = {}

    def used(self, kind: BlankClass) -> None:
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
        wanted = wanted_blanks(self._used_s, now_s, self._settings)
        for kind in [kind for kind in self._kept if kind not in wanted]:
            await self._keep(kind, 0)
        for kind, count in wanted.items():
            if self._kept.get(kind) != count:
                await self._keep(kind, count)
        forgotten_s = now_s - self._settings.forget_after_s
        self._used_s = {k: at_s for k, at_s in self._used_s.items() if at_s >= forgotten_s}

    async def _keep(self, kind: BlankClass, count: int) -> None:
        try:
            await self._driver.keep_blanks(kind, count)
        except SandboxError as error:
            self._telemetry.platform_failure("warmpools", type(error).__name__)
            log.warning("blanks_not_kept", extra={"runtime": kind.runtime, "why": str(error)})
            self._kept.pop(kind, None)
            return
        if count:
            self._kept[kind] = count
        else:
            self._kept.pop(kind, None)
