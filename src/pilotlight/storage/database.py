"""One SQLite file: one thread writes, a few read, and nothing else touches it (decision D4).

Writers hand in functions of a connection. The writer thread takes all that wait, runs each in a
savepoint of one transaction, and answers after the one commit: the price of making data durable
is shared, and a function that fails undoes only its own work. With ``synchronous=FULL`` an answer
means that the data survives a power cut.

The functions use SQLAlchemy Core and nothing of SQLite, so that another database can run them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from pilotlight.model.errors import ConfigurationError, StorageFull
from pilotlight.storage.disk import DiskFloor, DiskGuard

log = logging.getLogger(__name__)

T = TypeVar("T")

Work = Callable[[sa.Connection], T]


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """How one database file is run.

    Attributes:
        readers: threads, and so connections, that read at the same time.
        batch: most writes that share one transaction.
        queued_writes: most writes that wait; further callers wait before they are queued.
        wal_pages: size in pages (4 KiB) at which the writer checkpoints the write-ahead log.
        wal_bytes_kept: size to which the log file is cut back after a checkpoint.
        wal_bytes_max: size at which the writer waits for readers so that the log can start anew.
        busy_timeout_s: longest wait for a lock that another process holds (a backup).
        write_reserve_bytes: room asked of the disk for a batch of writes.
        floor: free space that must remain.
    """

    readers: int = 4
    batch: int = 256
    queued_writes: int = 4096
    wal_pages: int = 2000
    wal_bytes_kept: int = 16 * 1024 * 1024
    wal_bytes_max: int = 64 * 1024 * 1024
    busy_timeout_s: float = 10.0
    write_reserve_bytes: int = 16 * 1024 * 1024
    floor: DiskFloor = field(default_factory=DiskFloor)


@dataclass(frozen=True, slots=True)
class _Write:
    """One queued write; ``frees`` says that it only removes and may run on a nearly full disk."""

    work: Work[Any]
    answer: Future[Any]
    frees: bool


class DatabaseClosed(RuntimeError):
    """The database was used after it was closed: a bug of the caller."""


class Database:
    """A running database file; made by `open_database`.

    Invariants: at most one transaction writes; an answer is given only after its commit was
    synced, or after it is certain that nothing of it remains.
    """

    def __init__(self, path: Path, settings: DatabaseSettings, guard: DiskGuard) -> None:
        self.path = path
        self._settings = settings
        self._guard = guard
        self._inbox: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(settings.queued_writes)
        self._closed = False
        self._engine = _engine(path, settings)
        self._readers = ThreadPoolExecutor(settings.readers, thread_name_prefix=f"read-{path.name}")
        self._writer = threading.Thread(target=self._serve, name=f"write-{path.name}")
        self._writer.start()

    async def write(
        self,
        work: Work[T],
        *,
        frees: bool = False,
        announce: Callable[[T], None] | None = None,
    ) -> T:
        """Run ``work`` in a savepoint of a shared transaction; return after the commit is durable.

        Whatever ``work`` raises is raised here and undoes its changes alone. When cancelled, the
        write has either not begun and never will, or is committed.

        Args:
            work: called once, in the writer thread.
            frees: the write only removes things; it is let through while the disk is nearly full.
            announce: called in the event loop with the result of a commit, before this returns and
                also when the caller was cancelled meanwhile.

        Raises:
            StorageFull: nothing was changed.
        """
        async with self._room:
            if self._closed:
                raise DatabaseClosed(str(self.path))
            answer: Future[T] = Future()
            if announce is not None:
                _announce_in_loop(answer, announce)
            self._inbox.put(_Write(work, answer, frees))
            return await asyncio.wrap_future(answer)

    async def read(self, work: Work[T]) -> T:
        """Run ``work`` on one consistent view of the data, in a reader thread."""
        if self._closed:
            raise DatabaseClosed(str(self.path))
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def close(self) -> None:
        """Finish the writes and reads that wait, checkpoint, and close the file. Blocking."""
        self._closed = True
        self._inbox.put(None)
        self._writer.join()
        self._readers.shutdown()
        self._engine.dispose()

    def _read(self, work: Work[T]) -> T:
        with self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN DEFERRED")
            try:
                return work(connection)
            finally:
                connection.exec_driver_sql("ROLLBACK")

    def _serve(self) -> None:
        try:
            connection = self._engine.connect()
        except Exception as error:  # noqa: BLE001  # handed to everybody who wants to write
            self._refuse_all(error)
            return
        with connection:
            while (batch := self._take()) is not None:
                self._run_batch(connection, batch)
                self._bound_log(connection)

    def _refuse_all(self, error: Exception) -> None:
        original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        refusal = ConfigurationError(
            f"The database {self.path} cannot be opened: {original}. Check the file and its "
            "folder's permissions, or restore a backup."
        )
        refusal.__cause__ = error
        while (batch := self._take()) is not None:
            for write in batch:
                if write.answer.set_running_or_notify_cancel():
                    write.answer.set_exception(refusal)

    def _bound_log(self, connection: sa.Connection) -> None:
        """Empty the log if readers have kept the ordinary checkpoints from starting it anew."""
        try:
            if Path(f"{self.path}-wal").stat().st_size <= self._settings.wal_bytes_max:
                return
            # Waits for readers, at most the busy timeout; if they win, the next batch tries again.
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").close()
        except (OSError, sa.exc.OperationalError) as error:
            log.warning("checkpoint_failed", extra={"path": str(self.path)}, exc_info=error)

    def _take(self) -> list[_Write] | None:
        """Wait for a write, add those that wait behind it; None ends the thread."""
        first = self._inbox.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < self._settings.batch:
            try:
                following = self._inbox.get_nowait()
            except queue.Empty:
                break
            if following is None:
                self._inbox.put(None)
                break
            batch.append(following)
        return batch

    def _run_batch(self, connection: sa.Connection, batch: list[_Write]) -> None:
        accepted = self._admit([w for w in batch if w.answer.set_running_or_notify_cancel()])
        if not accepted:
            return
        outcomes: list[Callable[[], None]] = []
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            outcomes = [_run_one(connection, write) for write in accepted]
            connection.exec_driver_sql("COMMIT")
        except Exception as error:  # noqa: BLE001  # handed to every caller: none of it is durable
            _roll_back(connection)
            failure = _translated(error, self.path)
            outcomes = [_failing(write.answer, failure) for write in accepted]
        for tell in outcomes:
            tell()

    def _admit(self, batch: list[_Write]) -> list[_Write]:
        """Refuse what may not be written while the disk is nearly full; return the rest."""
        try:
            self._guard.require(self._settings.write_reserve_bytes)
        except (StorageFull, OSError) as error:
            for write in batch:
                if not write.frees:
                    write.answer.set_exception(error)
            return [write for write in batch if write.frees]
        return batch


def _announce_in_loop(answer: Future[T], announce: Callable[[T], None]) -> None:
    loop = asyncio.get_running_loop()

    def done(answer: Future[T]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            loop.call_soon_threadsafe(announce, answer.result())

    answer.add_done_callback(done)


def _run_one(connection: sa.Connection, write: _Write) -> Callable[[], None]:
    """Run one write in its own savepoint; return what tells its caller, once all is committed."""
    connection.exec_driver_sql("SAVEPOINT one")
    try:
        result = write.work(connection)
    except Exception as error:
        if _spoils_transaction(error):
            raise
        connection.exec_driver_sql("ROLLBACK TO one")
        connection.exec_driver_sql("RELEASE one")
        return _failing(write.answer, error)
    connection.exec_driver_sql("RELEASE one")
    return lambda: write.answer.set_result(result)


def _spoils_transaction(error: Exception) -> bool:
    """Whether the disk, a lock or the file failed, and not just this one write."""
    original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    return (
        isinstance(original, sqlite3.OperationalError | sqlite3.DatabaseError)
        and not isinstance(original, sqlite3.IntegrityError | sqlite3.DataError)
        and original.sqlite_errorcode & 0xFF != sqlite3.SQLITE_ERROR
    )


def _failing(answer: Future[Any], error: Exception) -> Callable[[], None]:
    return lambda: answer.set_exception(error)


def _roll_back(connection: sa.Connection) -> None:
    # Some failures (a full disk among them) make SQLite roll back by itself.
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection) and driver.in_transaction:
        driver.rollback()


def _translated(error: Exception, path: Path) -> Exception:
    """The platform's error for a failed transaction."""
    original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if getattr(original, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        full = StorageFull(f"The disk of {path} is full: nothing was changed. Free space there.")
        full.__cause__ = error
        return full
    log.error("transaction_failed", extra={"path": str(path)}, exc_info=error)
    return error


def _engine(path: Path, settings: DatabaseSettings) -> sa.Engine:
    def connect() -> sqlite3.Connection:
        # The driver must not open transactions by itself (isolation_level None), and connections
        # move between the threads of a pool that uses each in one thread at a time.
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=settings.busy_timeout_s
        )
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != ("wal",):
            connection.close()
            raise sqlite3.OperationalError("its file system cannot hold a write-ahead log")
        for pragma in (
            "synchronous=FULL",
            "foreign_keys=ON",
            f"wal_autocheckpoint={settings.wal_pages}",
            f"journal_size_limit={settings.wal_bytes_kept}",
        ):
            connection.execute(f"PRAGMA {pragma}").close()
        return connection

    return sa.create_engine(
        "sqlite://",
        creator=connect,
        poolclass=sa.pool.QueuePool,
        pool_size=settings.readers + 1,
        max_overflow=0,
        # Transactions are begun and ended in words, so the pool has nothing to reset.
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
    )


def _create(path: Path) -> None:
    """Make the folder and an empty file whose names survive a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@asynccontextmanager
async def open_database(
    path: Path,
    *,
    upgrade: Work[None],
    settings: DatabaseSettings | None = None,
    guard: DiskGuard | None = None,
) -> AsyncIterator[Database]:
    """Open or create the file, bring its schema up to date, and close it when the block ends.

    Writes that wait when the block ends are finished first.

    Args:
        path: the database file.
        upgrade: brings the schema up to date inside a transaction; idempotent.
        settings: limits of the database.
        guard: decides whether the disk is nearly full; by default from ``settings.floor``.

    Raises:
        StorageFull: the disk is nearly full and the schema has to be changed.
        ConfigurationError: the file was written by a newer version.
    """
    settings = settings or DatabaseSettings()
    await asyncio.to_thread(_create, path)
    guard = guard or DiskGuard(path.parent, settings.floor)
    database = Database(path, settings, guard)
    try:
        # Lets an existing, current database open on a nearly full disk: nothing is written then.
        await database.write(upgrade, frees=True)
        yield database
    finally:
        # In a thread, and not awaited with a timeout: what was accepted is finished.
        await asyncio.to_thread(database.close)
