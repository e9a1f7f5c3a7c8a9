"""Finishes creations and updates, also those that an interrupted run left behind.

The part works from the records alone: what is ``pending`` in a record is to be finished, whoever
asked for it and however often that was tried. So a process may die between any two steps.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from pilotlight.control.registry import rules, versions
from pilotlight.control.registry.functions import Functions, Versions, Written
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

_WORKERS: Final = 16
"""Changes finished at once. A function always has the same worker, so no two finish one change;
most of a change is waiting, and the code cache limits how much is unpacked at once."""
_RETRY_S: Final = 5.0
"""How long a change that failed for now waits for its next try."""
_SWEEP_ROUNDS: Final = 12
"""Rounds of retries between two searches of all records for changes that nobody announced."""
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
        self._queues = [asyncio.Queue[tuple[str, str]]() for _ in range(_WORKERS)]
        self._queued: set[tuple[str, str]] = set()
        self._retry: set[tuple[str, str]] = set()

    def announce(self, account: str, name: str) -> None:
        """Say that a function has a pending change. Bounded by the number of functions."""
        key = (account, name)
        if key not in self._queued:
            self._queued.add(key)
            self._queues[hash(key) % _WORKERS].put_nowait(key)

    async def run(self, ready: Callable[[], None]) -> None:
        """Finish pending changes until cancelled."""
        await self._sweep()
        async with asyncio.TaskGroup() as group:
            for number, queue in enumerate(self._queues):
                group.create_task(self._work(queue), name=f"{self.name}-{number}")
            ready()
            await self._repeat()

    async def _repeat(self) -> None:
        """Try again what failed for now, and look for what nobody announced."""
        rounds = 0
        while True:
            await asyncio.sleep(_RETRY_S)
            again, self._retry = self._retry, set()
            for account, name in again:
                self.announce(account, name)
            rounds += 1
            if rounds % _SWEEP_ROUNDS == 0:
                try:
                    await self._sweep()
                except Exception:
                    log.warning("transition_sweep_failed", exc_info=True)

    async def _sweep(self) -> None:
        for record in await self._functions.everything():
            if record.pending is not None:
                self.announce(record.current.account, record.current.name)

    async def _work(self, queue: asyncio.Queue[tuple[str, str]]) -> None:
        while True:
            account, name = await queue.get()
            self._queued.discard((account, name))
            try:
                await self.finish(account, name)
            except Exception:
                # The registry or the disk may be back at the next try; the record still says
                # what there is to do.
                log.warning("transition_failed_for_now", extra={"function": name}, exc_info=True)
                self._retry.add((account, name))

    async def finish(self, account: str, name: str) -> None:
        """Finish the function's pending change, if it has one. Idempotent.

        Raises:
            PlatformError: the store refused; the change is still pending.
            OSError: the same, for disk and cache.
            TimeoutError: the same, a frontend did not answer.
        """
        record = await self._functions.get(account, name)
        if record is None or record.pending is None:
            return
        change = record.pending
        if not await self._prepare(record.current, change):
            return
        revision = await self._step(record.current, change, rules.serve, versions.serve)
        if revision is None:
            return
        async with asyncio.timeout(_BARRIER_TIMEOUT_S):
            await self._barrier.acknowledged(revision)
        await self._hold(change)
        await self._step(record.current, change, rules.settle, versions.settle)

    async def _prepare(self, version: FunctionVersion, change: PendingChange) -> bool:
        """Make the code ready; on a lasting fault show it on the function and return False."""
        try:
            runtime = self._host_runtime(version.runtime)
            await self._cache.ensure(version.code.package, runtime)
            if version.layers:
                await self._cache.ensure_merged(version.layer_packages, runtime)
        except KeyError:
            reason = "A package of the function is not in the store: upload the code again."
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
        await self._step(
            version,
            change,
            partial(rules.fail, reason=reason, code=code),
            partial(versions.fail, reason=reason, code=code),
        )

    async def _step(
        self,
        version: FunctionVersion,
        change: PendingChange,
        of_function: Callable[..., FunctionRecord],
        of_version: versions.OfVersion,
    ) -> int | None:
        """Apply a step to the function and to the version that the change publishes."""
        revision_id, version_revision = self._ids.uuid(), self._ids.uuid()

        def step(record: FunctionRecord, published: Versions) -> Written | None:
            if not rules.is_pending(record, change.id):
                return None
            return Written(
                of_function(record, revision_id=revision_id),
                {
                    number: of_version(known, revision_id=version_revision)
                    for number, known in published.items()
                },
            )

        return await self._functions.apply(version.account, version.name, versions.pending, step)

    async def _hold(self, change: PendingChange) -> None:
        """Let an update show as InProgress for its least time."""
        if change.kind == rules.UPDATE:
            age_s = self._clock.wall() - change.started_wall_s
            await asyncio.sleep(
                min(max(self._settings.update_shows_s - age_s, 0.0), self._settings.update_shows_s)
            )
