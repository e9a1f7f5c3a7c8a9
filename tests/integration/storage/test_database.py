"""The database file: shared commits, a full disk, schemas, shutdown, a bounded log."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from pilotlight.model.errors import ConfigurationError, RevisionConflict, StorageFull
from pilotlight.ports.registry import Delete, Put
from pilotlight.storage.blobs import LocalBlobStore
from pilotlight.storage.database import (
    Database,
    DatabaseClosed,
    DatabaseSettings,
    open_database,
)
from pilotlight.storage.disk import MIB, DiskFloor, DiskGuard, DiskSpace
from pilotlight.storage.migrations import HEAD
from pilotlight.storage.registry import SqlRegistryStore, open_registry
from pilotlight.storage.schema import metadata, upgrade

pytestmark = pytest.mark.anyio

ITEMS = sa.Table("items", sa.MetaData(), sa.Column("number", sa.Integer, primary_key=True))


def create(connection: sa.Connection) -> None:
    ITEMS.metadata.create_all(connection)


def insert(number: int) -> sa.Insert:
    return sa.insert(ITEMS).values(number=number)


async def numbers(database: Database) -> list[int]:
    query = sa.select(ITEMS.c.number).order_by(ITEMS.c.number)
    return list(await database.read(lambda c: c.execute(query).scalars().all()))


class Gate:
    """Holds the writer thread inside a write until it is opened."""

    def __init__(self) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()

    def __call__(self, _connection: sa.Connection) -> None:
        self.entered.set()
        assert self.leave.wait(10)


class Disk:
    """A disk whose free space a test sets."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, _folder: Path) -> DiskSpace:
        return DiskSpace(free=self.free, total=1 << 40)


async def test_a_failing_write_undoes_only_its_own_work(tmp_path: Path) -> None:
    gate = Gate()

    def conflicting(connection: sa.Connection) -> None:
        connection.execute(insert(100))
        raise RevisionConflict("lost")

    def duplicate(connection: sa.Connection) -> None:
        connection.execute(insert(200))
        connection.execute(insert(1))

    def wrong(connection: sa.Connection) -> None:
        connection.execute(sa.text("select * from no_such_table"))

    async with open_database(tmp_path / "x.db", upgrade=create) as database:
        async with asyncio.TaskGroup() as group:
            group.create_task(database.write(gate))
            await asyncio.to_thread(gate.entered.wait)
            good = [group.create_task(_insert(database, n)) for n in range(5)]
            bad = [
                group.create_task(_failure(database, work))
                for work in (conflicting, duplicate, wrong)
            ]
            good.append(group.create_task(_insert(database, 5)))
            await asyncio.sleep(0)
            gate.leave.set()
        assert await numbers(database) == [0, 1, 2, 3, 4, 5]
        assert [type(task.result()).__name__ for task in bad] == [
            "RevisionConflict",
            "IntegrityError",
            "OperationalError",
        ]


async def _insert(database: Database, number: int) -> None:
    def work(connection: sa.Connection) -> None:
        connection.execute(insert(number))

    await database.write(work)


async def _failure(database: Database, work: object) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await database.write(work)  # type: ignore[arg-type]  # several kinds of work
    assert isinstance(caught.value, Exception)
    return caught.value


async def test_a_write_that_is_cancelled_before_it_begins_never_runs(tmp_path: Path) -> None:
    gate = Gate()
    async with open_database(tmp_path / "x.db", upgrade=create) as database:
        async with asyncio.TaskGroup() as group:
            group.create_task(database.write(gate))
            await asyncio.to_thread(gate.entered.wait)
            late = group.create_task(_insert(database, 1))
            await asyncio.sleep(0)
            late.cancel()
            await asyncio.sleep(0)
            gate.leave.set()
        assert await numbers(database) == []


async def test_closing_finishes_what_waits_and_refuses_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    async with open_database(path, upgrade=create) as database, asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(_insert(database, number))
        await asyncio.sleep(0)
    with pytest.raises(DatabaseClosed):
        await database.read(create)
    with pytest.raises(DatabaseClosed):
        await database.write(create)
    assert not [t.name for t in threading.enumerate() if t.name.endswith("x.db")]
    assert names_in(tmp_path) == ["x.db"]
    async with open_database(path, upgrade=create) as database:
        assert await numbers(database) == list(range(50))


async def test_the_file_is_private_and_runs_with_full_syncs(tmp_path: Path) -> None:
    async with open_database(tmp_path / "x.db", upgrade=create) as database:
        for pragma, value in (("synchronous", 2), ("foreign_keys", 1), ("journal_mode", "wal")):
            assert await database.read(partial(_pragma, name=pragma)) == value
    assert mode_of(tmp_path / "x.db") == 0o600


def _pragma(connection: sa.Connection, name: str) -> object:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def size_of(path: Path) -> int:
    return path.stat().st_size


async def test_a_nearly_full_disk_refuses_before_anything_changes(tmp_path: Path) -> None:
    disk = Disk(free=1 << 39)
    guard = DiskGuard(tmp_path, DiskFloor(), disk)
    async with open_registry(tmp_path / "registry.db", guard=guard) as store:
        revision = await store.commit([Put("k", "1", "a", b"1")])
        disk.free = 100 * MIB
        with pytest.raises(StorageFull, match="Free space"):
            await store.commit([Put("k", "1", "b", b"1"), Delete("k", "1", "a")])
        assert len(await store.changes(0)) == 1
        # Removing must stay possible: it is how a user makes room.
        assert await store.commit([Delete("k", "1", "a")]) == revision + 1
        disk.free = 1 << 39
        await store.commit([Put("k", "1", "b", b"1")])
    disk.free = 0
    async with open_registry(tmp_path / "registry.db", guard=guard) as store:
        assert await store.get("k", "1", "b") is not None


async def test_a_nearly_full_disk_takes_no_blob(tmp_path: Path) -> None:
    disk = Disk(free=1 << 39)
    root = tmp_path / "blobs"
    blobs = await LocalBlobStore.open(root, guard=DiskGuard(tmp_path, DiskFloor(), disk))
    disk.free = 128 * MIB
    with pytest.raises(StorageFull):
        await blobs.put("a", b"x")
    assert await blobs.names("") == ()
    assert list((root / "_incoming").iterdir()) == []


async def test_half_written_blobs_of_an_interrupted_run_are_removed(tmp_path: Path) -> None:
    blobs = await LocalBlobStore.open(tmp_path)
    await blobs.put("kept", b"x")
    (tmp_path / "_incoming" / "half").write_bytes(b"x")
    blobs = await LocalBlobStore.open(tmp_path)
    assert await blobs.names("") == ("kept",)
    assert list((tmp_path / "_incoming").iterdir()) == []


async def test_revisions_and_records_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    last = 0
    async with open_registry(path, tombstones=1) as store:
        for number in range(5):
            await store.commit([Put("k", "1", f"{number}", b"x")])
            last = await store.commit([Delete("k", "1", f"{number}")])
    async with open_registry(path, tombstones=1) as store:
        await store.wait_beyond(last - 1)
        assert await store.commit([Put("k", "1", "a", b"x")]) == last + 1


async def test_two_openings_of_one_file_do_not_lose_updates(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    async with open_registry(path) as one, open_registry(path) as two:
        async with asyncio.TaskGroup() as group:
            for number in range(30):
                store = (one, two)[number % 2]
                group.create_task(store.commit([Put("k", "1", f"{number}", b"x")]))
        assert len({record.revision for record in await one.list("k", "1")}) == 30


async def test_the_log_is_bounded_while_readers_are_busy(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    settings = DatabaseSettings(wal_pages=50, wal_bytes_kept=MIB, wal_bytes_max=2 * MIB)
    async with open_registry(path, settings=settings) as store:
        for number in range(60):
            await store.commit([Put("k", "1", f"{number % 7}", os.urandom(200_000))])
            await store.list("k", "1")
        assert size_of(Path(f"{path}-wal")) < 6 * MIB


async def test_the_schema_is_what_the_tables_say(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    async with open_registry(path) as store:
        await store.commit([Put("k", "1", "a", b"1")])
    with sqlite3.connect(path) as connection:
        version = connection.execute("select version_num from alembic_version").fetchone()
        found = {
            name: {column[1] for column in connection.execute(f"pragma table_info({name})")}
            for name in metadata.tables
        }
    connection.close()
    assert version == (HEAD,)
    assert found == {name: set(table.columns.keys()) for name, table in metadata.tables.items()}


def test_head_is_the_newest_migration() -> None:
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    import pilotlight.storage.migrations as package  # noqa: PLC0415

    folder = Path(package.__file__ or "").parent
    assert ScriptDirectory(str(folder)).get_current_head() == HEAD


async def test_a_current_database_is_opened_without_the_migration_library(tmp_path: Path) -> None:
    async with open_registry(tmp_path / "registry.db"):
        pass
    program = (
        "import asyncio, sys, pathlib\n"
        "from pilotlight.storage.registry import SqlRegistryStore, open_registry\n"
        "async def main():\n"
        "    async with open_registry(pathlib.Path(sys.argv[1])) as store:\n"
        "        assert await store.list('k', '1') == ()\n"
        "asyncio.run(main())\n"
        "print('alembic' in sys.modules)\n"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, str(tmp_path / "registry.db")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    async with open_registry(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("update alembic_version set version_num = 'r9999'")
    connection.close()
    with pytest.raises(ConfigurationError, match="newer version"):
        async with open_registry(path):
            pass


async def test_a_failed_migration_leaves_nothing(tmp_path: Path) -> None:
    def half(connection: sa.Connection) -> None:
        upgrade(connection)
        raise RuntimeError("interrupted")

    path = tmp_path / "registry.db"
    with pytest.raises(RuntimeError, match="interrupted"):
        async with open_database(path, upgrade=half):
            pass
    with sqlite3.connect(path) as connection:
        assert connection.execute("select name from sqlite_master").fetchall() == []
    connection.close()
    async with open_registry(path) as store:
        assert await store.commit([Put("k", "1", "a", b"1")]) == 1


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(ConfigurationError, match=r"registry\.db.*restore a backup"):
        async with open_registry(path):
            pass


@pytest.mark.needs("root")
async def test_a_disk_that_runs_out_all_the_same_loses_nothing(tmp_path: Path) -> None:
    mount = shutil.which("mount")
    assert mount is not None
    folder = tmp_path / "small"
    folder.mkdir()
    await _command(mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder))
    try:
        settings = DatabaseSettings(write_reserve_bytes=0)
        guard = DiskGuard(folder, DiskFloor(bytes=0, share=0))
        async with open_registry(folder / "registry.db", settings=settings, guard=guard) as store:
            stored = await _fill(store)
            assert 0 < stored < 100
            assert len(await store.list("k", "1", limit=100)) == stored
            await store.commit([])
        async with open_registry(folder / "registry.db", settings=settings, guard=guard) as store:
            assert len(await store.list("k", "1", limit=100)) == stored
        blobs = await LocalBlobStore.open(folder / "blobs", guard=guard)
        with pytest.raises(StorageFull):
            await blobs.put("a", os.urandom(4 * MIB))
        assert await blobs.names("") == ()
        assert list((folder / "blobs" / "_incoming").iterdir()) == []
    finally:
        await _command("umount", str(folder))


async def _fill(store: SqlRegistryStore) -> int:
    """Commit until the disk is full; returns how many commits were acknowledged."""
    for number in range(100):
        try:
            await store.commit([Put("k", "1", f"{number}", os.urandom(200_000))])
        except StorageFull:
            return number
    return 100


async def _command(*words: str) -> None:
    await asyncio.to_thread(subprocess.run, words, check=True)
