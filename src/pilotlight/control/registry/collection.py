"""Records of one kind as typed values: create, read, change, remove, page.

For resources that stand alone (a layer version, an event source mapping, a code signing
configuration). What belongs to a function and dies with it is a member of `FunctionRecord`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from pilotlight.model.errors import ApiError, RevisionConflict
from pilotlight.ports.registry import Delete, Put, Record, RegistryStore
from pilotlight.wire import records
from pilotlight.wire.records import Stored

_ATTEMPTS: Final = 8
"""Lost races before a call gives up; each loss means that another writer succeeded."""
_ALL: Final = 1_000_000_000
_DECODE_APART: Final = 200
"""Records above this number are decoded in a thread: a few milliseconds of work."""

S = TypeVar("S", bound=Stored)


class Collection(Generic[S]):
    """The records of a kind, of all accounts. Holds no state of its own.

    Args:
        store: where the records are.
        kind: name of the kind in the store.
        shape: type of its records.
    """

    def __init__(self, store: RegistryStore, kind: str, shape: type[S]) -> None:
        self._store = store
        self._kind = kind
        self._shape = shape

    async def get(self, account: str, key: str) -> S | None:
        """The record now, or None."""
        found = await self._store.get(self._kind, account, key)
        return None if found is None else self._decode(found)

    async def create(self, account: str, key: str, record: S) -> bool:
        """Write a new record; False when the key is taken (nothing was changed)."""
        put = Put(self._kind, account, key, records.encode(record), if_revision=0)
        try:
            await self._store.commit((put,))
        except RevisionConflict:
            return False
        return True

    async def change(self, account: str, key: str, rule: Callable[[S], S | None]) -> S | None:
        """Apply a rule atomically; return what was written, None when there is no such record.

        The rule is pure and may run more than once; where it returns None the record is removed,
        and the record as it was is returned.

        Raises:
            ApiError: what the rule raises, or ResourceConflictException after too many lost races.
        """
        for _ in range(_ATTEMPTS):
            found = await self._store.get(self._kind, account, key)
            if found is None:
                return None
            old = self._decode(found)
            new = rule(old)
            try:
                await self._store.commit((self._written(found, new),))
            except RevisionConflict:
                continue
            return old if new is None else new
        raise ApiError(
            "ResourceConflictException",
            f"{key} is being changed by too many callers at once: try again.",
        )

    async def page(
        self, account: str, *, prefix: str = "", after: str = "", limit: int
    ) -> tuple[S, ...]:
        """Records by key: those that start with ``prefix`` and sort after ``after``."""
        found = await self._store.list(self._kind, account, prefix=prefix, after=after, limit=limit)
        return self._decode_all(found)

    async def everything(self, account: str | None = None, *, prefix: str = "") -> tuple[S, ...]:
        """All records, of one account or of all. Many are decoded beside the loop."""
        found = await self._store.list(self._kind, account, prefix=prefix, limit=_ALL)
        if len(found) <= _DECODE_APART:
            return self._decode_all(found)
        return await asyncio.to_thread(self._decode_all, found)

    def _written(self, found: Record, new: S | None) -> Put | Delete:
        if new is None:
            return Delete(self._kind, found.account, found.key, if_revision=found.revision)
        body = records.encode(new)
        return Put(self._kind, found.account, found.key, body, if_revision=found.revision)

    def _decode(self, found: Record) -> S:
        return records.decode(self._shape, found.body)

    def _decode_all(self, found: Sequence[Record]) -> tuple[S, ...]:
        return tuple(self._decode(record) for record in found)
