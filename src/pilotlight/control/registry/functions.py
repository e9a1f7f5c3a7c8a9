"""Functions in a registry store: one atomic commit for each API call, compared and set.

A rule is a pure function from record to record (see ``rules``). `Functions.change` reads, applies
the rule and commits on the condition that nobody wrote in between; a lost race is tried again with
the new record, so a rule may run more than once and must not have effects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pilotlight.model.errors import ApiError, RevisionConflict
from pilotlight.ports.functions import ViewBarrier
from pilotlight.ports.registry import Delete, Put, Record, RegistryStore
from pilotlight.wire import records
from pilotlight.wire.records import FunctionRecord, UrlRecord, VersionRecord

_ATTEMPTS: Final = 8
"""Lost races before a call gives up; each loss means that another writer succeeded."""
_PUBLISH_TIMEOUT_S: Final = 2.0
"""Longest wait of an API call for the frontends; beyond it the change arrives later."""
_ALL: Final = 1_000_000_000
_DECODE_APART: Final = 200
"""Records above this number are decoded in a thread: a few milliseconds of work."""

Versions = Mapping[str, VersionRecord]
"""Records of published versions by their numbers."""


@dataclass(frozen=True, slots=True)
class Written:
    """What a rule wants written: the function's record and those of its versions that change.

    Versions that ``record.published`` does not name any more are removed by the same commit.
    """

    record: FunctionRecord
    versions: Versions = field(default_factory=dict)


Rule = Callable[[FunctionRecord], FunctionRecord | None]
"""From a record to the one to write; None removes the function with its URLs and versions."""
VersionRule = Callable[[FunctionRecord, Versions], Written | None]
"""The same for a rule that sees or changes records of versions; None: nothing to do."""
Wanted = Callable[[FunctionRecord], Iterable[str]]
"""Which versions a `VersionRule` has to see; those that do not exist are left out."""


@dataclass(frozen=True, slots=True)
class _Removed:
    """The function goes, with all that belongs to it."""


@dataclass(frozen=True, slots=True)
class _Done:
    """What was decided, and the revision of the commit that wrote it."""

    revision: int
    outcome: Written | _Removed | None


def _none(_: FunctionRecord) -> tuple[str, ...]:
    return ()


class Functions:
    """The functions of all accounts. Holds no state of its own."""

    def __init__(self, store: RegistryStore, barrier: ViewBarrier) -> None:
        self._store = store
        self._barrier = barrier

    async def get(self, account: str, name: str) -> FunctionRecord | None:
        """The function's record now."""
        record = await self._store.get(records.FUNCTION, account, name)
        return None if record is None else records.decode(FunctionRecord, record.body)

    async def version(self, account: str, name: str, number: str) -> VersionRecord | None:
        """The record of one published version now."""
        return (await self.versions(account, name, (number,))).get(number)

    async def versions(
        self, account: str, name: str, numbers: Iterable[str]
    ) -> dict[str, VersionRecord]:
        """Records of published versions by number, in the order asked for, missing ones left out."""
        known: dict[str, VersionRecord] = {}
        for number in numbers:
            key = records.qualified_key(name, number)
            stored = await self._store.get(records.VERSION, account, key)
            if stored is not None:
                known[number] = records.decode(VersionRecord, stored.body)
        return known

    async def create(
        self, account: str, record: FunctionRecord, versions: Versions | None = None
    ) -> None:
        """Write a new function, with the versions published by the same call.

        Raises:
            ApiError: ResourceConflictException, the name is taken.
        """
        name = record.current.name
        changes: list[Put | Delete] = [
            Put(records.FUNCTION, account, name, records.encode(record), if_revision=0)
        ]
        changes.extend(_put_versions(account, name, versions or {}))
        try:
            revision = await self._store.commit(changes)
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

        def decide(old: FunctionRecord, _: Versions) -> Written | _Removed:
            new = rule(old)
            return _Removed() if new is None else Written(new)

        done = await self._compare_and_set(account, name, _none, decide)
        if done is None:
            raise absent
        await self._publish(done.revision)
        return done.outcome.record if isinstance(done.outcome, Written) else None

    async def change_versions(
        self, account: str, name: str, wanted: Wanted, rule: VersionRule, *, absent: ApiError
    ) -> Written | None:
        """`change` for a rule that also sees and changes versions; None: it changed nothing.

        The versions are read after the function's record, and every commit that writes a version
        writes that record too, so what the rule saw is what the commit replaces.

        Raises:
            ApiError: see `change`.
        """
        done = await self._compare_and_set(account, name, wanted, rule)
        if done is None:
            raise absent
        if not isinstance(done.outcome, Written):
            return None
        await self._publish(done.revision)
        return done.outcome

    async def apply(self, account: str, name: str, wanted: Wanted, step: VersionRule) -> int | None:
        """Apply a background step; return the commit's revision.

        None when the function is gone or the step returned None (nothing to do any more).
        """
        done = await self._compare_and_set(account, name, wanted, step)
        return None if done is None or done.outcome is None else done.revision

    async def _compare_and_set(
        self,
        account: str,
        name: str,
        wanted: Wanted,
        decide: Callable[[FunctionRecord, Versions], Written | _Removed | None],
    ) -> _Done | None:
        """Read, decide and commit until nobody wrote in between; None: no such function."""
        for _ in range(_ATTEMPTS):
            stored = await self._store.get(records.FUNCTION, account, name)
            if stored is None:
                return None
            old = records.decode(FunctionRecord, stored.body)
            outcome = decide(old, await self.versions(account, name, wanted(old)))
            if outcome is None:
                return _Done(stored.revision, None)
            new = outcome if isinstance(outcome, Written) else None
            try:
                revision = await self._store.commit(_changes(old, new, stored.revision))
            except RevisionConflict:
                continue
            return _Done(revision, outcome)
        raise ApiError(
            "ResourceConflictException",
            f"The function {name} is being changed by too many callers at once: try again.",
        )

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

    async def every_version(self) -> tuple[VersionRecord, ...]:
        """All published versions of all accounts."""
        found = await self._store.list(records.VERSION, None, limit=_ALL)
        if len(found) <= _DECODE_APART:
            return _decode_versions(found)
        return await asyncio.to_thread(_decode_versions, found)

    async def _publish(self, revision: int) -> None:
        """Wait until frontends have seen a commit, so that a caller's next request does too."""
        try:
            async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                await self._barrier.acknowledged(revision)
        except TimeoutError:
            return  # the commit stands; a frontend that is cut off sees it when it is back


def _decode_all(found: Sequence[Record]) -> tuple[FunctionRecord, ...]:
    return tuple(records.decode(FunctionRecord, record.body) for record in found)


def _decode_versions(found: Sequence[Record]) -> tuple[VersionRecord, ...]:
    return tuple(records.decode(VersionRecord, record.body) for record in found)


def _changes(old: FunctionRecord, new: Written | None, revision: int) -> list[Put | Delete]:
    """What one commit writes: the function, and its versions and URLs that changed."""
    account, name = old.current.account, old.current.name
    changes: list[Put | Delete] = []
    if new is None:
        changes.append(Delete(records.FUNCTION, account, name, if_revision=revision))
    else:
        body = records.encode(new.record)
        changes.append(Put(records.FUNCTION, account, name, body, if_revision=revision))
        changes.extend(_put_versions(account, name, new.versions))
    kept = new.record.published.keys() if new is not None else set[str]()
    changes.extend(
        Delete(records.VERSION, account, records.qualified_key(name, gone))
        for gone in old.published.keys() - kept
    )
    before = {url.url_id: url for url in old.urls.values()}
    after = {url.url_id: url for url in new.record.urls.values()} if new is not None else {}
    for url_id, url in after.items():
        if before.get(url_id) != url:
            changes.append(Put(records.URL, account, url_id, records.encode(UrlRecord(url=url))))
    changes.extend(Delete(records.URL, account, gone) for gone in before.keys() - after.keys())
    return changes


def _put_versions(account: str, name: str, versions: Versions) -> list[Put]:
    return [
        Put(records.VERSION, account, records.qualified_key(name, number), records.encode(version))
        for number, version in versions.items()
    ]


def already_exists(name: str) -> ApiError:
    """The service's answer when a function's name is taken."""
    return ApiError("ResourceConflictException", f"Function already exist: {name}")
