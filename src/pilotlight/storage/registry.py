"""The registry's records in a database: SQLAlchemy Core, one code path for every database.

A removed record stays as a tombstone, so that the feed is simply the records in the order of
their revisions: it always holds the latest change of each key and never more. Tombstones are
bounded: the oldest are dropped, and the *horizon* remembers up to where.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from pilotlight.ports.registry import Change, Delete, Put, Record, RegistryStore
from pilotlight.storage.database import Database, DatabaseSettings, open_database
from pilotlight.storage.disk import DiskGuard
from pilotlight.storage.keys import (
    check_after,
    check_condition,
    check_distinct,
    check_horizon,
    end_of_prefix,
    name_of,
)
from pilotlight.storage.recent import RecentRecords
from pilotlight.storage.schema import records, registry_state, upgrade
from pilotlight.storage.wakeup import Watermark

TOMBSTONES = 10_000
"""Removals kept in the feed: at 200 bytes each about 2 MB, and far more than a follower misses
while it restarts."""
RECENT_BYTES = 32 * 1024 * 1024
"""Records kept in memory: the functions of a large installation."""


@dataclass(frozen=True, slots=True)
class _State:
    revision: int
    horizon: int


class SqlRegistryStore(RegistryStore):
    """RegistryStore over a `Database` that nobody else writes; made by `open_registry`."""

    def __init__(
        self,
        database: Database,
        revision: int,
        *,
        tombstones: int = TOMBSTONES,
        recent_bytes: int = RECENT_BYTES,
    ) -> None:
        if tombstones < 1:
            raise ValueError("at least one tombstone is kept")
        self._database = database
        self._tombstones = tombstones
        self._watermark = Watermark(revision)
        self._recent = RecentRecords(recent_bytes)

    async def get(self, kind: str, account: str, key: str) -> Record | None:
        name = (kind, account, key)
        known = self._recent.get(name)
        if known is not None:
            return known
        token = self._recent.begin()
        found = await self._database.read(partial(_get, name=name))
        if found is not None:
            self._recent.keep(found, token)
        return found

    async def list(
        self, kind: str, account: str | None, *, prefix: str = "", after: str = "", limit: int = 100
    ) -> tuple[Record, ...]:
        check_after(after, account)
        query = (
            sa.select(records)
            .where(records.c.kind == kind, records.c.body.is_not(None))
            .order_by(records.c.account, records.c.key)
            .limit(max(0, limit))
        )
        if account is not None:
            query = query.where(records.c.account == account, records.c.key > after)
        if prefix:
            query = query.where(records.c.key >= prefix)
            end = end_of_prefix(prefix)
            query = query if end is None else query.where(records.c.key < end)
        return await self._database.read(partial(_records, query=query))

    async def commit(self, changes: Sequence[Put | Delete]) -> int:
        changes = tuple(changes)
        check_distinct(changes)
        frees = all(isinstance(change, Delete) for change in changes)
        work = partial(_commit, changes=changes, tombstones=self._tombstones)

        def announce(revision: int) -> None:
            self._recent.committed(name_of(change) for change in changes)
            self._watermark.raise_to(revision)

        return await self._database.write(work, frees=frees, announce=announce)

    async def changes(self, after_revision: int, limit: int = 1000) -> tuple[Change, ...]:
        return await self._database.read(partial(_changes, after=after_revision, limit=limit))

    async def wait_beyond(self, revision: int) -> None:
        await self._watermark.beyond(revision)


@asynccontextmanager
async def open_registry(
    path: Path,
    *,
    settings: DatabaseSettings | None = None,
    guard: DiskGuard | None = None,
    tombstones: int = TOMBSTONES,
) -> AsyncIterator[SqlRegistryStore]:
    """Open or create ``registry.db`` at ``path``; commits that wait at the end are finished.

    Raises:
        StorageFull: the disk is nearly full and the file is new.
        ConfigurationError: the file is no database, or was written by a newer version.
    """
    async with open_database(path, upgrade=upgrade, settings=settings, guard=guard) as database:
        state = await database.read(_state)
        yield SqlRegistryStore(database, state.revision, tombstones=tombstones)


def _state(connection: sa.Connection) -> _State:
    row = connection.execute(sa.select(registry_state.c.revision, registry_state.c.horizon)).one()
    return _State(row.revision, row.horizon)


def _get(connection: sa.Connection, name: tuple[str, str, str]) -> Record | None:
    kind, account, key = name
    row = connection.execute(_SELECT, {"_kind": kind, "_account": account, "_key": key}).first()
    return None if row is None else Record(kind, account, key, row.body, row.revision)


def _records(connection: sa.Connection, query: sa.Select[tuple[object, ...]]) -> tuple[Record, ...]:
    return tuple(
        Record(row.kind, row.account, row.key, row.body, row.revision)
        for row in connection.execute(query)
    )


def _commit(connection: sa.Connection, *, changes: Sequence[Put | Delete], tombstones: int) -> int:
    # Counting first takes the one row that orders all commits, on databases with many writers too.
    connection.execute(sa.update(registry_state).values(revision=registry_state.c.revision + 1))
    revision = _state(connection).revision
    known = {name_of(change): _known(connection, change) for change in changes}
    for change in changes:
        check_condition(change, known[name_of(change)] or 0)
    # A removal of nothing must not move the revision: a follower that waits for it would be woken
    # for a change that is not there.
    effective = [c for c in changes if isinstance(c, Put) or known[name_of(c)]]
    if not effective:
        connection.execute(sa.update(registry_state).values(revision=revision - 1))
        return revision - 1
    fresh: list[dict[str, object]] = []
    present: list[dict[str, object]] = []
    for position, change in enumerate(effective):
        rows = fresh if known[name_of(change)] is None else present
        rows.append(_row(change, revision, position))
    if fresh:
        connection.execute(_INSERT, fresh)
    if present:
        connection.execute(_UPDATE, present)
    if any(isinstance(change, Delete) for change in effective):
        _drop_tombstones(connection, tombstones, newest=revision)
    return revision


# Built once: building a statement costs more than running it.
_NAMED = sa.and_(
    records.c.kind == sa.bindparam("_kind"),
    records.c.account == sa.bindparam("_account"),
    records.c.key == sa.bindparam("_key"),
)
_VALUES: dict[str, sa.ColumnElement[object]] = {
    name: sa.bindparam(f"_{name}", type_=records.c[name].type)
    for name in ("body", "revision", "position")
}
_NAMES: dict[str, sa.ColumnElement[object]] = {
    name: sa.bindparam(f"_{name}") for name in ("kind", "account", "key")
}
_SELECT = sa.select(records).where(_NAMED, records.c.body.is_not(None))
_KNOWN = sa.select(
    sa.case((records.c.body.is_(None), 0), else_=records.c.revision).label("revision")
).where(_NAMED)
_INSERT = sa.insert(records).values(**_NAMES, **_VALUES)
_UPDATE = sa.update(records).where(_NAMED).values(**_VALUES)


def _known(connection: sa.Connection, change: Put | Delete) -> int | None:
    """Revision of a record, 0 when only its tombstone is there, None when nothing is."""
    kind, account, key = name_of(change)
    parameters = {"_kind": kind, "_account": account, "_key": key}
    found: int | None = connection.execute(_KNOWN, parameters).scalar()
    return found


def _row(change: Put | Delete, revision: int, position: int) -> dict[str, object]:
    return {
        "_kind": change.kind,
        "_account": change.account,
        "_key": change.key,
        "_body": change.body if isinstance(change, Put) else None,
        "_revision": revision,
        "_position": position,
    }


def _drop_tombstones(connection: sa.Connection, keep: int, newest: int) -> None:
    """Halve the tombstones once there are more than ``keep``; those of ``newest`` stay.

    (A follower that was woken for the newest revision must find something at it.)
    """
    removed = records.c.body.is_(None)
    newest_first = sa.select(records.c.revision).where(removed).order_by(sa.desc("revision"))
    if connection.execute(newest_first.offset(keep).limit(1)).scalar() is None:
        return
    cut = connection.execute(newest_first.offset((keep + 1) // 2).limit(1)).scalar_one()
    horizon = min(cut, newest - 1)
    connection.execute(sa.delete(records).where(removed, records.c.revision <= horizon))
    connection.execute(
        sa.update(registry_state).where(registry_state.c.horizon < horizon).values(horizon=horizon)
    )


def _changes(connection: sa.Connection, *, after: int, limit: int) -> tuple[Change, ...]:
    horizon = _state(connection).horizon
    check_horizon(after, horizon)
    beyond = records.c.revision > after
    last = connection.execute(
        sa.select(records.c.revision)
        .where(beyond)
        .order_by(records.c.revision, records.c.position)
        .offset(max(1, limit) - 1)
        .limit(1)
    ).scalar()
    query = sa.select(records).where(beyond).order_by(records.c.revision, records.c.position)
    if last is not None:
        if last < horizon:
            # A page that ended below the horizon would leave a reader where the feed is no
            # longer complete. The newest revision is beyond it and always has a record.
            last = connection.execute(
                sa.select(sa.func.min(records.c.revision)).where(records.c.revision >= horizon)
            ).scalar_one()
        query = query.where(records.c.revision <= last)
    return tuple(
        Change(row.revision, row.kind, row.account, row.key, row.body)
        for row in connection.execute(query)
    )
