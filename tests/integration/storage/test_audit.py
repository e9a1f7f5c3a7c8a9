"""The audit log keeps what it took: through an orderly end, a full disk and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pilotlight.model.errors import ConfigurationError, StorageFull
from pilotlight.ports.audit import AuditEntry, AuditQuery
from pilotlight.storage.audit import AuditSettings, SqlAuditLog, open_audit
from pilotlight.storage.database import open_database
from pilotlight.storage.disk import DiskFloor, DiskGuard

pytestmark = pytest.mark.anyio

ENTRY = AuditEntry(
    wall_s=1000.0,
    request_id="r-1",
    account="000000000000",
    principal="arn:aws:iam::000000000000:root",
    access_key="AKID",
    is_proven=True,
    source="127.0.0.1",
    service="lambda",
    operation="GetFunction",
    resource="f",
    status=200,
    error_code="",
)


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


@asynccontextmanager
async def running(
    path: Path,
    *,
    settings: AuditSettings | None = None,
    guard: DiskGuard | None = None,
    clock: HandClock | None = None,
) -> AsyncIterator[SqlAuditLog]:
    """The log as a role runs it: cancelled at the end."""
    async with (
        open_audit(path, clock=clock or HandClock(), settings=settings, guard=guard) as log,
        asyncio.TaskGroup() as group,
    ):
        ready = asyncio.Event()
        task = group.create_task(log.run(ready.set))
        await ready.wait()
        yield log
        task.cancel()


async def entries(log: SqlAuditLog, **wanted: object) -> list[AuditEntry]:
    found = await log.read(AuditQuery(**wanted))  # type: ignore[arg-type]  # names are the caller's
    return [stored.entry for stored in found]


async def test_what_was_recorded_is_read_as_it_was(tmp_path: Path) -> None:
    async with running(tmp_path / "audit.db") as log:
        log.record(ENTRY)
        assert await entries(log) == [ENTRY]


async def test_an_orderly_end_loses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "audit.db", settings=AuditSettings(batch=7)) as log:
        for number in range(1000):
            log.record(replace(ENTRY, request_id=str(number)))
    async with running(tmp_path / "audit.db") as log:
        assert [e.request_id for e in await entries(log)] == [str(n) for n in range(1000)]


async def test_entries_are_found_by_what_one_looks_for(tmp_path: Path) -> None:
    other = replace(
        ENTRY, account="1", access_key="B", operation="X", request_id="2", wall_s=2000.0
    )
    async with running(tmp_path / "audit.db") as log:
        log.record(ENTRY)
        log.record(other)
        for wanted in (
            {"account": "1"}, {"access_key": "B"}, {"operation": "X"}, {"request_id": "2"},
            {"start_s": 2000.0}, {"after_id": 1},
        ):  # fmt: skip
            assert await entries(log, **wanted) == [other], wanted
        assert await entries(log, end_s=2000.0) == [ENTRY]
        assert await entries(log, limit=1) == [ENTRY]


async def test_a_full_disk_refuses_changes_and_loses_nothing_that_was_taken(
    tmp_path: Path,
) -> None:
    disk = Disk(tmp_path)
    settings = AuditSettings(retry_s=0.01)
    async with running(tmp_path / "audit.db", guard=disk, settings=settings) as log:
        log.require()
        disk.is_full = True
        log.record(ENTRY)
        await log.flush()
        with pytest.raises(StorageFull, match="free space"):
            log.require()
        disk.is_full = False
        await log.flush()
        log.require()
        assert await entries(log) == [ENTRY]


async def test_what_found_no_room_at_all_is_counted_and_the_count_stored(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    settings = AuditSettings(backlog=3, retry_s=100)
    async with running(tmp_path / "audit.db", guard=disk, settings=settings) as log:
        disk.is_full = True
        for _ in range(5):
            log.record(ENTRY)
        assert log.lost == 2
        with pytest.raises(StorageFull):
            log.require()
        disk.is_full = False
        found = await entries(log)
        assert [entry.operation for entry in found].count("GetFunction") == 3
        gaps = [entry.resource for entry in found if entry.operation == "AuditGap"]
        assert gaps == ["2 entries lost"]
        assert log.lost == 0


async def test_old_and_surplus_entries_are_removed_also_on_a_full_disk(tmp_path: Path) -> None:
    disk, clock = Disk(tmp_path), HandClock()
    settings = AuditSettings(retention_days=1, max_entries=3)
    async with running(tmp_path / "audit.db", guard=disk, settings=settings, clock=clock) as log:
        log.record(replace(ENTRY, request_id="old", wall_s=0.0))
        for number in range(5):
            log.record(replace(ENTRY, request_id=str(number), wall_s=90_000.0))
        await log.flush()
        clock.now = 90_000.0
        disk.is_full = True
        assert await log.prune() == 3
        disk.is_full = False
        assert [entry.request_id for entry in await entries(log)] == ["2", "3", "4"]


async def test_numbers_are_not_used_again_after_a_removal(tmp_path: Path) -> None:
    clock = HandClock()
    settings = AuditSettings(retention_days=1)
    async with running(tmp_path / "audit.db", settings=settings, clock=clock) as log:
        log.record(ENTRY)
        first = (await log.read(AuditQuery()))[0].id
        clock.now += 200_000
        await log.prune()
        log.record(replace(ENTRY, wall_s=clock.now))
        assert (await log.read(AuditQuery()))[0].id > first


async def test_texts_of_clients_are_cut_and_made_storable(tmp_path: Path) -> None:
    async with running(tmp_path / "audit.db") as log:
        log.record(replace(ENTRY, resource="x" * 10_000, operation="\ud800"))
        found = (await entries(log))[0]
        assert (len(found.resource), found.operation) == (1024, "?")


async def test_a_log_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"

    def newer(connection: object) -> None:
        connection.exec_driver_sql("PRAGMA user_version = 99")  # type: ignore[attr-defined]

    async with open_database(path, upgrade=newer):
        pass
    with pytest.raises(ConfigurationError, match="newer version"):
        async with open_audit(path, clock=HandClock()):
            pass
