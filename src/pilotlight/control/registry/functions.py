"""Functions in a registry store: one atomic commit for each API call, compared and set.

A rule is a pure function from record to record (see ``rules``). `Functions.change` reads, applies
the rule and commits on the condition that nobody wrote in between; a lost race is tried again with
the new record, so a rule may run more than once and must not have effects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from pilotlight.model.errors import ApiError, RevisionConflict
from pilotlight.ports.functions import ViewBarrier
from pilotlight.ports.registry import Delete, Put, Record, RegistryStore
from pilotlight.wire import records
from pilotlight.wire.records import FunctionRecord, UrlRecord

_ATTEMPTS: Final = 8
"""Lost races before a call gives up; each loss means that another writer succeeded."""
_PUBLISH_TIMEOUT_S: Final = 2.0
"""Longest wait of an API call for the frontends; beyond it the change arrives later."""
_ALL: Final = 1_000_000_000
_DECODE_APART: Final = 200
"""Records above this number are decoded in a thread: a few milliseconds of work."""


Rule = Callable[[FunctionRecord], FunctionRecord | None]
"""From a record to the one to write; None removes the function and its URLs."""


class Functions:
    """The functions of all accounts. Holds no state of its own."""

    def __init__(self, store: RegistryStore, barrier: ViewBarrier) -> None:
        self._store = store
        self._barrier = barrier

    async def get(self, account: str, name: str) -> FunctionRecord | None:
        """The function's record now."""
        record = await self._store.get(records.FUNCTION, account, name)
        return None if record is None else records.decode(FunctionRecord, record.body)

    async def create(self, account: str, record: FunctionRecord) -> None:
        """Write a new function.

        Raises:
            ApiError: ResourceConflictException, the name is taken.
        """
        name = record.current.name
        put = Put(records.FUNCTION, account, name, records.encode(record), if_revision=0)
        try:
            revision = await self._store.commit((put,))
        except RevisionConflict:
            raise already_exists(name) from None
        await self._publish(revision)

    async def change(
        self, account: str, name: str, rule: Rule, *, absent: ApiError
    ) -> FunctionRecord | None:
        """Apply a rule atomically; return the record as written, None when it was removed.

        Raises:
            ApiError: ``absent`` when there is no such function, what the rule raises, or
                ResourceConflictException after too many lost races.
        """
        for _ in range(_ATTEMPTS):
            stored = await self._store.get(records.FUNCTION, account, name)
            if stored is None:
                raise absent
            old = records.decode(FunctionRecord, stored.body)
            new = rule(old)
            try:
                revision = await self._store.commit(_changes(old, new, stored.revision))
            except RevisionConflict:
                continue
            await self._publish(revision)
            return new
        raise ApiError(
            "ResourceConflictException",
            f"The function {name} is being changed by too many callers at once: try again.",
        )

    async def apply(
        self, account: str, name: str, step: Callable[[FunctionRecord], FunctionRecord | None]
    ) -> int | None:
        """Apply a background step; return the commit's revision.

        None when the function is gone or the step returned None (nothing to do any more).
        """
        for _ in range(_ATTEMPTS):
            stored = await self._store.get(records.FUNCTION, account, name)
            if stored is None:
                return None
            old = records.decode(FunctionRecord, stored.body)
            new = step(old)
            if new is None:
                return None
            try:
                return await self._store.commit(_changes(old, new, stored.revision))
            except RevisionConflict:
                continue
        raise RevisionConflict(f"function {name} is written by too many callers at once")

    async def page(self, account: str, *, after: str, limit: int) -> tuple[FunctionRecord, ...]:
        """Functions of an account by name, those that sort after ``after``."""
        found = await self._store.list(records.FUNCTION, account, after=after, limit=limit)
        return _decode_all(found)

    async def everything(self, account: str | None = None) -> tuple[FunctionRecord, ...]:
        """All functions, of one account or of all. Many are decoded beside the loop."""
        found = await self._store.list(records.FUNCTION, account, limit=_ALL)
        if len(found) <= _DECODE_APART:
            return _decode_all(found)
        return await asyncio.to_thread(_decode_all, found)

    async def _publish(self, revision: int) -> None:
        """Wait until frontends have seen a commit, so that a caller's next request does too."""
        try:
            async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                await self._barrier.acknowledged(revision)
        except TimeoutError:
            return  # the commit stands; a frontend that is cut off sees it when it is back


def _decode_all(found: Sequence[Record]) -> tuple[FunctionRecord, ...]:
    return tuple(records.decode(FunctionRecord, record.body) for record in found)


def _changes(old: FunctionRecord, new: FunctionRecord | None, revision: int) -> list[Put | Delete]:
    """What one commit writes: the function's record, and the records of URLs that changed."""
    account, name = old.current.account, old.current.name
    changes: list[Put | Delete] = []
    if new is None:
        changes.append(Delete(records.FUNCTION, account, name, if_revision=revision))
    else:
        body = records.encode(new)
        changes.append(Put(records.FUNCTION, account, name, body, if_revision=revision))
    before = {url.url_id: url for url in old.urls.values()}
    after = {url.url_id: url for url in new.urls.values()} if new is not None else {}
    for url_id, url in after.items():
        if before.get(url_id) != url:
            changes.append(Put(records.URL, account, url_id, records.encode(UrlRecord(url=url))))
    changes.extend(Delete(records.URL, account, gone) for gone in before.keys() - after.keys())
    return changes


def already_exists(name: str) -> ApiError:
    """The service's answer when a function's name is taken."""
    return ApiError("ResourceConflictException", f"Function already exist: {name}")
