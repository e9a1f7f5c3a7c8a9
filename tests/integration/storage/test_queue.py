"""The queue on a real file: receipts, restarts, a full disk, forgetting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from pilotlight.model.errors import ConfigurationError, PlatformError, StorageFull
from pilotlight.model.events import (
    Attempt,
    AttemptOutcome,
    Condition,
    End,
    Event,
    Lane,
    Lease,
    Retry,
    Undelivered,
)
from pilotlight.ports.events import Want
from pilotlight.storage.database import open_database
from pilotlight.storage.disk import DiskFloor, DiskGuard
from pilotlight.storage.queue import QueueSettings, SqlEventQueue, open_queue

pytestmark = pytest.mark.anyio

LANE = Lane("000000000000", "hello")
DONE = Attempt(AttemptOutcome.SUCCESS, 1000.0, 1001.0)


class HandClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Disk(DiskGuard):
    """A guard whose disk is full when the test says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, DiskFloor(bytes=0))
        self.is_full = False

    def require(self, wanted: int) -> None:
        if self.is_full:
            raise StorageFull("full")
        super().require(wanted)


def an_event(number: int = 1, *, function: str = "hello", at_s: float = 1000.0) -> Event:
    return Event(
        request_id=f"id-{number}",
        account=LANE.account,
        region="us-east-1",
        function=function,
        qualifier=None,
        payload=b"%d" % number,
        trace_id="",
        accepted_s=at_s,
    )


async def accept(queue: SqlEventQueue, *events: Event) -> list[PlatformError | None]:
    futures = [asyncio.get_running_loop().create_future() for _ in events]
    for event, future in zip(events, futures, strict=True):
        queue.accept(event, future.set_result)
    return list(await asyncio.gather(*futures))


async def lease(
    queue: SqlEventQueue, limit: int = 10, *, now_s: float = 1000.0, until_s: float = 1060.0
) -> Sequence[Lease]:
    wants = [Want(LANE, limit)]
    return (await queue.lease(wants, now_s=now_s, until_s=until_s, max_bytes=1_000_000)).leases


def end(held: Lease, condition: Condition = Condition.SUCCESS) -> End:
    return End(held, (*held.attempts, DONE), condition, 1001.0)


async def test_a_lease_is_exclusive_until_it_ends_and_a_stale_receipt_changes_nothing(
    tmp_path: Path,
) -> None:
    async with open_queue(tmp_path / "queue.db", clock=HandClock()) as queue:
        await accept(queue, an_event())
        (old,) = await lease(queue)
        assert await lease(queue) == []
        (new,) = await lease(queue, now_s=1061.0, until_s=1120.0)
        assert new.receipt.id == old.receipt.id
        assert [attempt.outcome for attempt in new.attempts] == [AttemptOutcome.LOST]
        assert await queue.settle([end(old)]) == (old.receipt,)
        assert await queue.settle([Retry(old, (), 1.0)]) == (old.receipt,)
        assert (await queue.totals()).waiting == 1
        assert await queue.settle([end(new), end(new)]) == (new.receipt,)
        totals = await queue.totals()
        assert (totals.accepted, totals.succeeded, totals.waiting, totals.drift) == (1, 1, 0, 0)


async def test_a_renewed_lease_lasts_and_a_stale_one_cannot_be_renewed(tmp_path: Path) -> None:
    async with open_queue(tmp_path / "queue.db", clock=HandClock()) as queue:
        await accept(queue, an_event())
        (held,) = await lease(queue)
        await queue.renew([held.receipt], 2000.0)
        assert await lease(queue, now_s=1999.0) == []
        (later,) = await lease(queue, now_s=2001.0, until_s=2060.0)
        await queue.renew([held.receipt], 9000.0)
        assert await queue.lanes() == {LANE: 2060.0}
        assert later.receipt.epoch == held.receipt.epoch + 1


async def test_leases_of_an_earlier_process_end_when_the_queue_is_opened(tmp_path: Path) -> None:
    async with open_queue(tmp_path / "queue.db", clock=HandClock()) as queue:
        await accept(queue, an_event())
        (old,) = await lease(queue, until_s=9e9)
    async with open_queue(tmp_path / "queue.db", clock=HandClock()) as queue:
        (new,) = await lease(queue)
        assert [attempt.outcome for attempt in new.attempts] == [AttemptOutcome.LOST]
        assert await queue.settle([end(old)]) == (old.receipt,)


async def test_what_is_tried_again_is_not_due_before_its_time(tmp_path: Path) -> None:
    async with open_queue(tmp_path / "queue.db", clock=HandClock()) as queue:
        await accept(queue, an_event())
        (held,) = await lease(queue)
        failed = Attempt(AttemptOutcome.FUNCTION_ERROR, 1000.0, 1001.0, "why")
        assert await queue.settle([Retry(held, (failed,), 1061.0)]) == ()
        assert await queue.lanes() == {LANE: 1061.0}
        assert await lease(queue, now_s=1060.9) == []
        (again,) = await lease(queue, now_s=1061.0)
        assert again.attempts == (failed,)
        assert again.event == held.event


async def test_the_longest_due_come_first_and_bytes_are_bounded(tmp_path: Path) -> None:
    async with open_queue(tmp_path / "queue.db", clock=HandClock()) as queue:
        await accept(queue, an_event(2, at_s=900), an_event(1, at_s=800), an_event(3, at_s=950))
        wants = [Want(LANE, 10), Want(Lane(LANE.account, "other"), 10)]
        leased = await queue.lease(wants, now_s=1000.0, until_s=1060.0, max_bytes=2)
        assert [held.event.payload for held in leased.leases] == [b"1", b"2"]
        assert leased.next_due == {LANE: 950.0, wants[1].lane: None}


async def test_a_nearly_full_disk_refuses_events_but_lets_the_queue_become_shorter(
    tmp_path: Path,
) -> None:
    disk = Disk(tmp_path)
    async with open_queue(tmp_path / "queue.db", clock=HandClock(), guard=disk) as queue:
        assert await accept(queue, an_event(1)) == [None]
        disk.is_full = True
        (refused,) = await accept(queue, an_event(2))
        assert isinstance(refused, StorageFull)
        (held,) = await lease(queue)
        assert await queue.settle([end(held)]) == ()
        totals = await queue.totals()
        assert (totals.accepted, totals.succeeded, totals.drift) == (1, 1, 0)
        disk.is_full = False
        assert await accept(queue, an_event(2)) == [None]


async def test_events_that_wait_together_are_told_of_once_a_lane(tmp_path: Path) -> None:
    heard: list[tuple[Lane, float]] = []
    async with open_queue(tmp_path / "queue.db", clock=HandClock()) as queue:
        queue.listen(lambda lane, due_s: heard.append((lane, due_s)))
        events = [an_event(n, at_s=1000.0 + n) for n in range(600)]
        assert set(await accept(queue, *events)) == {None}
        assert (await queue.totals()).waiting == 600
        assert 1 <= len(heard) <= 4
        assert min(heard) == (LANE, 1000.0)


async def test_what_is_old_or_too_much_is_forgotten(tmp_path: Path) -> None:
    clock = HandClock()
    settings = QueueSettings(retention_days=1, max_entries=3, max_bytes=2, prune_period_s=0.01)
    async with open_queue(tmp_path / "queue.db", clock=clock, settings=settings) as queue:
        await accept(queue, *[an_event(n) for n in range(6)])
        kept = Undelivered("destination", "arn", b"x", "why")
        ends = [end(held, Condition.RETRIES_EXHAUSTED) for held in await lease(queue)]
        await queue.settle([
            End(e.lease, e.attempts, e.condition, e.ended_s, "why", (), (kept,)) for e in ends
        ])  # fmt: skip
        await forget(queue)
        assert [s.request_id for s in await queue.failed(LANE.account, 10)] == ["id-5", "id-4"]
        assert len(await queue.undelivered(LANE.account, 10)) == 2
        clock.now += 90_000
        await forget(queue)
        assert list(await queue.failed(LANE.account, 10)) == []
        assert list(await queue.undelivered(LANE.account, 10)) == []
        assert (await queue.totals()).drift == 0


async def forget(queue: SqlEventQueue) -> None:
    async with asyncio.TaskGroup() as group:
        ready = asyncio.Event()
        task = group.create_task(queue.run(ready.set))
        await ready.wait()
        before = await queue.totals()
        while await queue.totals() == before and before.undelivered:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        task.cancel()


async def test_a_newer_file_is_not_touched(tmp_path: Path) -> None:
    def mark(connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA user_version = 99")

    async with open_database(tmp_path / "queue.db", upgrade=mark):
        pass
    with pytest.raises(ConfigurationError, match="schema 99"):
        async with open_queue(tmp_path / "queue.db", clock=HandClock()):
            pass
