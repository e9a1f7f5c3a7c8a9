"""Finishes creations and updates, also those that an interrupted run left behind.

The part works from the records alone: what is ``pending`` in a record is to be finished, whoever
asked for it and however often that was tried. So a process may die between any two steps.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pilotlight.control.registry import rules
from pilotlight.control.registry.functions import Functions
from pilotlight.model.errors import PackageRejected
from pilotlight.model.function import FunctionVersion
from pilotlight.model.ids import RuntimeName
from pilotlight.ports.clock import Clock
from pilotlight.ports.code import CodeCache
from pilotlight.ports.functions import ViewBarrier
from pilotlight.ports.ids import IdSource
from pilotlight.ports.runtimes import Runtimes
from pilotlight.wire.records import FunctionRecord, PendingChange

log = logging.getLogger(__name__)

_WORKERS: Final = 4
"""Changes finished at once: unpacking is disk work, more would not be faster."""
_SWEEP_S: Final = 15.0
"""How often records are searched for changes that nobody announced or that failed for now."""
_BARRIER_TIMEOUT_S: Final = 60.0
"""Longest wait for frontends in one try; the sweep tries again."""


@dataclass(frozen=True, slots=True)
class TransitionSettings:
    """Settings of the part.

    Attributes:
        update_shows_s: least time an update is InProgress. AWS takes about a second, and
            clients rely on seeing it: a second update meanwhile is refused.
    """

    update_shows_s: float = 0.2


class Transitions:
    """A `Part`. ``announce`` never blocks; announcing twice is harmless."""

    name = "transitions"

    def __init__(
        self,
        *,
        functions: Functions,
        cache: CodeCache,
        barrier: ViewBarrier,
        runtimes: Runtimes,
        clock: Clock,
        ids: IdSource,
        settings: TransitionSettings | None = None,
    ) -> None:
        self._functions = functions
        self._cache = cache
        self._barrier = barrier
        self._runtimes = runtimes
        self._clock = clock
        self._ids = ids
        self._settings = settings or TransitionSettings()
        self._queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._queued: set[tuple[str, str]] = set()

    def announce(self, account: str, name: str) -> None:
        """Say that a function has a pending change. Bounded by the number of functions."""
        key = (account, name)
        if key not in self._queued:
            self._queued.add(key)
            self._queue.put_nowait(key)

    async def run(self, ready: Callable[[], None]) -> None:
        """Finish pending changes until cancelled."""
        await self._sweep()
        async with asyncio.TaskGroup() as group:
            for number in range(_WORKERS):
                group.create_task(self._work(), name=f"{self.name}-{number}")
            ready()
            while True:
                await asyncio.sleep(_SWEEP_S)
                await self._guarded("sweep", self._sweep)

    async def _sweep(self) -> None:
        for record in await self._functions.everything():
            if record.pending is not None:
                self.announce(record.current.account, record.current.name)

    async def _work(self) -> None:
        while True:
            account, name = await self._queue.get()
            self._queued.discard((account, name))
            await self._guarded(name, lambda: self.finish(account, name))  # noqa: B023  awaited here

    async def _guarded(self, subject: str, action: Callable[[], object]) -> None:
        """Run one piece of work; a failure is logged and left to the next sweep."""
        try:
            await action()  # type: ignore[misc]  # both callers pass coroutine functions
        except Exception:
            log.warning("transition_failed_for_now", extra={"function": subject}, exc_info=True)

    async def finish(self, account: str, name: str) -> None:
        """Finish the function's pending change, if it has one. Idempotent.

        Raises:
            PlatformError, OSError, TimeoutError: not now; the change is still pending.
        """
        record = await self._functions.get(account, name)
        if record is None or record.pending is None:
            return
        change = record.pending
        if not await self._prepare(record.current, change):
            return
        revision = await self._step(record.current, change, rules.serve)
        if revision is None:
            return
        async with asyncio.timeout(_BARRIER_TIMEOUT_S):
            await self._barrier.acknowledged(revision)
        await self._hold(change)
        await self._step(record.current, change, rules.settle)

    async def _prepare(self, version: FunctionVersion, change: PendingChange) -> bool:
        """Make the code ready; on a lasting fault show it on the function and return False."""
        try:
            await self._cache.ensure(version.code.package, self._host_runtime(version.runtime))
        except KeyError:
            reason = "The package of the function is not in the store: upload the code again."
            await self._fail(version, change, reason, "InternalError")
        except PackageRejected as rejected:
            await self._fail(version, change, str(rejected), "InvalidZipFileException")
        else:
            return True
        return False

    def _host_runtime(self, wanted: RuntimeName | None) -> RuntimeName | None:
        choice = self._runtimes.choose(wanted) if wanted is not None else None
        return None if choice is None else choice.runtime.name

    async def _fail(
        self, version: FunctionVersion, change: PendingChange, reason: str, code: str
    ) -> None:
        def failed(record: FunctionRecord, *, revision_id: str) -> FunctionRecord:
            return rules.fail(record, reason=reason, code=code, revision_id=revision_id)

        await self._step(version, change, failed)

    async def _step(
        self,
        version: FunctionVersion,
        change: PendingChange,
        rule: Callable[..., FunctionRecord],
    ) -> int | None:
        revision_id = self._ids.uuid()

        def step(record: FunctionRecord) -> FunctionRecord | None:
            if not rules.is_pending(record, change.id):
                return None
            return rule(record, revision_id=revision_id)

        return await self._functions.apply(version.account, version.name, step)

    async def _hold(self, change: PendingChange) -> None:
        """Let an update show as InProgress for its least time."""
        if change.kind == rules.UPDATE:
            age_s = self._clock.wall() - change.started_wall_s
            await asyncio.sleep(
                min(max(self._settings.update_shows_s - age_s, 0.0), self._settings.update_shows_s)
            )
