"""The registry's records in memory: the executable specification of `RegistryStore`.

For tests and simulations. Nothing survives the process.
"""

from __future__ import annotations

from collections.abc import Sequence

from pilotlight.ports.registry import Change, Delete, Put, Record, RegistryStore
from pilotlight.storage.keys import (
    Name,
    check_after,
    check_condition,
    check_distinct,
    check_horizon,
    name_of,
)
from pilotlight.storage.wakeup import Watermark


class MemoryRegistryStore(RegistryStore):
    """RegistryStore in a dictionary. Invariant: each name has a record or a tombstone or neither.

    Args:
        tombstones: removals kept in the feed, at least 1.
    """

    def __init__(self, *, tombstones: int = 10_000) -> None:
        if tombstones < 1:
            raise ValueError("at least one tombstone is kept")
        self._tombstones = tombstones
        self._records: dict[Name, Record] = {}
        # The latest change of each name, in the order of the feed.
        self._feed: dict[Name, Change] = {}
        self._horizon = 0
        self._watermark = Watermark()

    async def get(self, kind: str, account: str, key: str) -> Record | None:
        """See the port."""
        return self._records.get((kind, account, key))

    async def list(
        self, kind: str, account: str | None, *, prefix: str = "", after: str = "", limit: int = 100
    ) -> tuple[Record, ...]:
        """See the port."""
        check_after(after, account)
        found = [
            record
            for record in self._records.values()
            if record.kind == kind
            and account in (None, record.account)
            and record.key.startswith(prefix)
            and (account is None or record.key.encode() > after.encode())
        ]
        found.sort(key=lambda record: (record.account.encode(), record.key.encode()))
        return tuple(found[: max(0, limit)])

    async def commit(self, changes: Sequence[Put | Delete]) -> int:
        """See the port."""
        check_distinct(changes)
        for change in changes:
            found = self._records.get(name_of(change))
            check_condition(change, found.revision if found else 0)
        effective = [c for c in changes if isinstance(c, Put) or name_of(c) in self._records]
        if not effective:
            return self._watermark.value
        revision = self._watermark.value + 1
        for change in effective:
            self._apply(change, revision)
        if any(isinstance(change, Delete) for change in effective):
            self._drop_tombstones(revision)
        self._watermark.raise_to(revision)
        return revision

    async def changes(self, after_revision: int, limit: int = 1000) -> tuple[Change, ...]:
        """See the port."""
        check_horizon(after_revision, self._horizon)
        beyond = [change for change in self._feed.values() if change.revision > after_revision]
        if len(beyond) <= limit:
            return tuple(beyond)
        last = beyond[max(1, limit) - 1].revision
        if last < self._horizon:
            last = min(c.revision for c in beyond if c.revision >= self._horizon)
        return tuple(change for change in beyond if change.revision <= last)

    async def wait_beyond(self, revision: int) -> None:
        """See the port."""
        await self._watermark.beyond(revision)

    def _apply(self, change: Put | Delete, revision: int) -> None:
        name = name_of(change)
        body = change.body if isinstance(change, Put) else None
        self._feed.pop(name, None)
        self._feed[name] = Change(revision, *name, body)
        if body is None:
            del self._records[name]
        else:
            self._records[name] = Record(*name, body, revision)

    def _drop_tombstones(self, newest: int) -> None:
        revisions = [change.revision for change in self._feed.values() if change.body is None]
        if len(revisions) <= self._tombstones:
            return
        cut = revisions[::-1][(self._tombstones + 1) // 2]
        self._horizon = max(self._horizon, min(cut, newest - 1))
        self._feed = {
            name: change
            for name, change in self._feed.items()
            if change.body is not None or change.revision > self._horizon
        }
