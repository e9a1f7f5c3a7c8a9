"""The audit log in a database of its own: its writes never wait for those of the registry.

Rule for a full disk: while entries cannot be stored, at most `AuditSettings.backlog` wait in
memory, and calls that change something are refused (`StorageFull`, 503) as soon as one write has
failed; calls that only read go on. Beyond the backlog entries are lost and counted, and the count
is stored as an entry of its own (``AuditGap``) as soon as there is room again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from pilotlight.model.errors import ConfigurationError, StorageFull
from pilotlight.ports.audit import AuditEntry, AuditLog, AuditQuery, StoredEntry
from pilotlight.ports.clock import Clock
from pilotlight.storage.database import Database, DatabaseSettings, open_database
from pilotlight.storage.disk import DiskGuard

log = logging.getLogger(__name__)

_SCHEMA = 1
_DAY_S = 86_400.0
_TEXT_LIMIT = 1024
"""Characters of a text that are kept: a client chooses some of them."""

_metadata = sa.MetaData()
_entries = sa.Table(
    "entries",
    _metadata,
    # Never used again for another entry, so that a follower may remember the last one it saw.
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("wall_s", sa.Float, nullable=False, index=True),
    sa.Column("request_id", sa.Text, nullable=False, index=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("principal", sa.Text, nullable=False),
    sa.Column("access_key", sa.Text, nullable=False),
    sa.Column("is_proven", sa.Boolean, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("service", sa.Text, nullable=False),
    sa.Column("operation", sa.Text, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("error_code", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Limits of the audit log.

    Attributes:
        retention_days: older entries are removed.
        max_entries: the oldest are removed beyond it; about 300 bytes each.
        backlog: entries that may wait in memory for the disk.
        batch: entries that share one write.
        linger_s: how long the first entry of a write waits for others to share it.
        retry_s: wait after a write failed.
        prune_period_s: how often old entries are removed.
    """

    retention_days: int = 90
    max_entries: int = 5_000_000
    backlog: int = 10_000
    batch: int = 500
    linger_s: float = 0.1
    retry_s: float = 1.0
    prune_period_s: float = 3600.0


class SqlAuditLog(AuditLog):
    """AuditLog over a `Database`, and the `Part` that writes it; made by `open_audit`.

    Invariant: an entry is in the backlog or stored or counted as lost.
    """

    name = "audit"

    def __init__(self, database: Database, clock: Clock, settings: AuditSettings) -> None:
        self._database = database
        self._clock = clock
        self._settings = settings
        self._backlog: deque[AuditEntry] = deque()
        self._writing = asyncio.Lock()
        self._news = asyncio.Event()
        self._lost = 0
        self._refusal: StorageFull | None = None

    @property
    def lost(self) -> int:
        """Entries lost for want of room that no stored entry tells of yet."""
        return self._lost

    def require(self) -> None:
        """See the port."""
        if self._refusal is not None or len(self._backlog) >= self._settings.backlog:
            raise StorageFull(
                "The audit log cannot be written, so nothing may change: free space on the disk"
                " of the data directory."
            ) from self._refusal

    def record(self, entry: AuditEntry) -> None:
        """See the port."""
        if len(self._backlog) >= self._settings.backlog:
            self._lost += 1
            return
        self._backlog.append(entry)
        self._news.set()

    async def read(self, query: AuditQuery) -> Sequence[StoredEntry]:
        """See the port."""
        await self.flush()
        return await self._database.read(partial(_read, query=query))

    async def run(self, ready: Callable[[], None]) -> None:
        """Write until cancelled, then write what is left. See `Part`."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._prune_again_and_again(), name="audit-retention")
                ready()
                while True:
                    await self._news.wait()
                    await asyncio.sleep(self._settings.linger_s)
                    self._news.clear()
                    await self.flush()
                    if self._refusal is not None:
                        await asyncio.sleep(self._settings.retry_s)
                        self._news.set()
        finally:
            await self.flush()
            if self._backlog:
                log.error("audit_lost entries=%d: %s", len(self._backlog), self._refusal)

    async def flush(self) -> None:
        """Store what waits; what the disk has no room for goes on waiting."""
        async with self._writing:
            while self._backlog or self._lost:
                batch = list(self._backlog)[: self._settings.batch]
                lost = self._lost
                rows = [_row(entry) for entry in batch]
                if lost:
                    rows.append(_row(self._gap(lost)))
                try:
                    await self._database.write(partial(_insert, rows=rows))
                except StorageFull as full:
                    if self._refusal is None:
                        fields = {"waiting": len(self._backlog), "detail": str(full)}
                        log.error("audit_refused", extra=fields)  # noqa: TRY400  (expected)
                    self._refusal = full
                    return
                for _ in batch:
                    self._backlog.popleft()
                self._lost -= lost
                self._refusal = None

    async def prune(self) -> int:
        """Remove entries that are too old or too many; return how many."""
        oldest_s = self._clock.wall() - self._settings.retention_days * _DAY_S
        remove = partial(_prune, oldest_s=oldest_s, keep=self._settings.max_entries)
        return await self._database.write(remove, frees=True)

    async def _prune_again_and_again(self) -> None:
        while True:
            removed = await self.prune()
            if removed:
                log.info("audit_pruned", extra={"entries": removed})
            await asyncio.sleep(self._settings.prune_period_s)

    def _gap(self, lost: int) -> AuditEntry:
        return AuditEntry(
            wall_s=self._clock.wall(),
            request_id="",
            account="",
            principal="",
            access_key="",
            is_proven=False,
            source="",
            service="pilotlight",
            operation="AuditGap",
            resource=f"{lost} entries lost",
            status=503,
            error_code="StorageFull",
        )


def _row(entry: AuditEntry) -> dict[str, object]:
    values = asdict(entry)
    return {
        name: value[:_TEXT_LIMIT].encode("utf-8", "replace").decode()
        if isinstance(value, str)
        else value
        for name, value in values.items()
    }


def _insert(connection: sa.Connection, *, rows: list[dict[str, object]]) -> None:
    connection.execute(_INSERT, rows)


_INSERT = sa.insert(_entries)


def _prune(connection: sa.Connection, *, oldest_s: float, keep: int) -> int:
    removed = connection.execute(sa.delete(_entries).where(_entries.c.wall_s < oldest_s)).rowcount
    newest = connection.execute(sa.select(sa.func.max(_entries.c.id))).scalar()
    if newest is not None:
        surplus = sa.delete(_entries).where(_entries.c.id <= newest - keep)
        removed += connection.execute(surplus).rowcount
    return removed


def _read(connection: sa.Connection, *, query: AuditQuery) -> tuple[StoredEntry, ...]:
    columns = _entries.c
    wanted = sa.select(_entries).where(columns.id > query.after_id)
    for name in ("account", "access_key", "operation", "request_id"):
        value = getattr(query, name)
        if value is not None:
            wanted = wanted.where(columns[name] == value)
    if query.start_s is not None:
        wanted = wanted.where(columns.wall_s >= query.start_s)
    if query.end_s is not None:
        wanted = wanted.where(columns.wall_s < query.end_s)
    rows = connection.execute(wanted.order_by(columns.id).limit(query.limit)).mappings()
    return tuple(
        StoredEntry(row["id"], AuditEntry(**{k: v for k, v in row.items() if k != "id"}))
        for row in rows
    )


def _upgrade(connection: sa.Connection) -> None:
    """Make the table. The file's own version number says which schema it has."""
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found > _SCHEMA:
        raise ConfigurationError(
            f"The audit log has schema {found}, which this version of Pilotlight (schema {_SCHEMA})"
            " does not know: a newer version wrote it. Start that version."
        )
    if found < _SCHEMA:
        _metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {_SCHEMA}")


@asynccontextmanager
async def open_audit(
    path: Path,
    *,
    clock: Clock,
    settings: AuditSettings | None = None,
    guard: DiskGuard | None = None,
) -> AsyncIterator[SqlAuditLog]:
    """Open or create the log; it is written while its `run` runs.

    Args:
        path: of the file.
        clock: wall time is used.
        settings: limits.
        guard: decides whether the disk is nearly full.

    Raises:
        ConfigurationError: a newer version wrote the file.
    """
    database_settings = DatabaseSettings(readers=2)
    async with open_database(
        path, upgrade=_upgrade, settings=database_settings, guard=guard
    ) as database:
        yield SqlAuditLog(database, clock, settings or AuditSettings())
