"""The queue of asynchronous invocations: group commit, receipts with epochs (decision D4).

Events that wait to be accepted are stored together, so that the price of one sync is shared by
all of them; `Database` shares it once more among everything that waits for the file.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import sqlalchemy as sa

from pilotlight.kernel.service import every
from pilotlight.model.errors import PlatformError
from pilotlight.model.events import (
    Event,
    EventStory,
    EventTotals,
    Lane,
    Receipt,
    Settlement,
    StoredUndelivered,
)
from pilotlight.ports.clock import Clock
from pilotlight.ports.events import Accepted, EventHistory, EventQueue, Heard, Leased, Want
from pilotlight.storage import queue_reports, queue_work
from pilotlight.storage.database import DatabaseSettings, Work, open_database
from pilotlight.storage.disk import DiskGuard
from pilotlight.storage.queue_schema import upgrade

log = logging.getLogger(__name__)

T = TypeVar("T")

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """Limits of the queue.

    Attributes:
        batch: most events that are stored by one statement.
        batch_bytes: size of their payloads beyond which a batch takes no more.
        flushes: batches on their way to the disk at the same time: one forms while another syncs.
        retention_days: older ended events and undelivered records are removed.
        max_entries: the oldest of each are removed beyond it.
        max_bytes: and beyond this size of their payloads.
        prune_period_s: how often they are removed.
    """

    batch: int = 512
    batch_bytes: int = 8 * 1024 * 1024
    flushes: int = 2
    retention_days: int = 14
    max_entries: int = 1_000_000
    max_bytes: int = 1024 * 1024 * 1024
    prune_period_s: float = 600.0


class QueueUnavailable(PlatformError):
    """The queue's file failed; the event was not accepted."""

    code = "ServiceException"
    http_status = 503
    retryable = True


class Transactions(Protocol):
    """The part of a `Database` that the queue uses."""

    async def write(self, work: Work[T], *, frees: bool = False) -> T:
        """See `Database.write`."""
        ...

    async def read(self, work: Work[T]) -> T:
        """See `Database.read`."""
        ...


class SqlEventQueue(EventQueue, EventHistory):
    """EventQueue over a `Database`, and the `Part` that forgets old events.

    Made by `open_queue`. All methods are called on one loop.
    """

    name = "queue"

    def __init__(self, database: Transactions, clock: Clock, settings: QueueSettings) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._arrivals: deque[tuple[Event, Accepted]] = deque()
        self._flushing: set[asyncio.Task[None]] = set()
        self._heard: Heard = _nobody

    async def recover(self) -> None:
        """End the leases of an earlier process; to be called before anything else."""
        work = partial(queue_work.release, now_s=self._clock.wall())
        freed = await self._database.write(work, frees=True)
        if freed:
            log.info("events_recovered", extra={"events": freed})

    async def run(self, ready: Callable[[], None]) -> None:
        """Remove what is old, again and again. See `Part`."""
        ready()
        await every(self._settings.prune_period_s, self._prune)

    def listen(self, heard: Heard) -> None:
        """See the port."""
        self._heard = heard

    def accept(self, event: Event, done: Accepted) -> None:
        """See the port."""
        self._arrivals.append((event, done))
        if len(self._flushing) < self._settings.flushes:
            task = asyncio.get_running_loop().create_task(self._flush(), name="queue-flush")
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)

    async def lanes(self) -> Mapping[Lane, float]:
        """See the port."""
        return await self._database.read(queue_work.lanes)

    async def lease(
        self, wants: Sequence[Want], *, now_s: float, until_s: float, max_bytes: int
    ) -> Leased:
        """See the port."""
        work = partial(
            queue_work.lease, wants=wants, now_s=now_s, until_s=until_s, max_bytes=max_bytes
        )
        # Goes on while the disk is nearly full: it is how the queue becomes shorter.
        return await self._database.write(work, frees=True)

    async def renew(self, receipts: Sequence[Receipt], until_s: float) -> None:
        """See the port."""
        work = partial(queue_work.renew, receipts=receipts, until_s=until_s)
        await self._database.write(work, frees=True)

    async def settle(self, settlements: Sequence[Settlement]) -> Sequence[Receipt]:
        """See the port."""
        work = partial(queue_work.settle, settlements=settlements)
        return await self._database.write(work, frees=True)

    async def totals(self) -> EventTotals:
        """See the port."""
        return await self._database.read(queue_reports.read_totals)

    async def story(self, account: str, request_id: str) -> EventStory | None:
        """See the port."""
        work = partial(queue_reports.read_story, account=account, request_id=request_id)
        return await self._database.read(work)

    async def waiting(self, account: str, limit: int) -> Sequence[EventStory]:
        """See the port."""
        work = partial(queue_reports.read_waiting, account=account, limit=limit)
        return await self._database.read(work)

    async def failed(self, account: str, limit: int) -> Sequence[EventStory]:
        """See the port."""
        work = partial(queue_reports.read_failed, account=account, limit=limit)
        return await self._database.read(work)

    async def undelivered(self, account: str, limit: int) -> Sequence[StoredUndelivered]:
        """See the port."""
        work = partial(queue_reports.read_undelivered, account=account, limit=limit)
        return await self._database.read(work)

    async def flushed(self) -> None:
        """Return when nobody waits to be accepted."""
        while self._flushing:
            await asyncio.wait(self._flushing)

    async def _flush(self) -> None:
        while batch := self._batch():
            events = [event for event, _ in batch]
            error: PlatformError | None = None
            try:
                await self._database.write(partial(queue_work.insert, accepted=events))
            except PlatformError as refused:
                error = refused
            except Exception:  # told to every caller, who may try again
                log.exception("events_not_stored", extra={"events": len(batch)})
                error = QueueUnavailable("The queue cannot store events. See Pilotlight's log.")
            if error is None:
                for lane, due_s in {e.lane: e.accepted_s for e in reversed(events)}.items():
                    self._heard(lane, due_s)
            for _, done in batch:
                done(error)

    def _batch(self) -> list[tuple[Event, Accepted]]:
        batch: list[tuple[Event, Accepted]] = []
        size = 0
        while self._arrivals and len(batch) < self._settings.batch:
            batch.append(self._arrivals.popleft())
            size += len(batch[-1][0].payload)
            if size >= self._settings.batch_bytes:
                break
        return batch

    async def _prune(self) -> None:
        settings = self._settings
        kept = queue_reports.Kept(
            before_s=self._clock.wall() - settings.retention_days * _DAY_S,
            most=settings.max_entries,
            most_bytes=settings.max_bytes,
        )
        work = partial(queue_reports.prune, kept=kept)
        try:
            removed = await self._database.write(work, frees=True)
        except (PlatformError, sa.exc.SQLAlchemyError):
            log.warning("events_not_forgotten", exc_info=True)
            return
        if removed:
            log.info("events_forgotten", extra={"events": removed})


def _nobody(_lane: Lane, _due_s: float) -> None:
    """Nobody listens yet: whoever does reads the lanes first."""


@asynccontextmanager
async def open_queue(
    path: Path,
    *,
    clock: Clock,
    settings: QueueSettings | None = None,
    database: DatabaseSettings | None = None,
    guard: DiskGuard | None = None,
) -> AsyncIterator[SqlEventQueue]:
    """Open or create the queue, which no other process may have open.

    Leases of an earlier process end at once: its events may be tried again.

    Args:
        path: of the file.
        clock: wall time is used.
        settings: limits of the queue.
        database: limits of the file.
        guard: decides whether the disk is nearly full.

    Raises:
        ConfigurationError: a newer version wrote the file.
    """
    database = database or DatabaseSettings(readers=2)
    async with open_database(path, upgrade=upgrade, settings=database, guard=guard) as opened:
        queue = SqlEventQueue(opened, clock, settings or QueueSettings())
        await queue.recover()
        try:
            yield queue
        finally:
            await queue.flushed()
