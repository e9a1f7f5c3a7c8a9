"""Typed records over a registry store."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pilotlight.control.registry.collection import Collection
from pilotlight.model.errors import ApiError, RevisionConflict
from pilotlight.storage.memory import MemoryRegistryStore
from pilotlight.wire.records import Stored

pytestmark = pytest.mark.anyio
ACCOUNT = "000000000000"


class Thing(Stored, frozen=True, kw_only=True):
    size: int


def things(store: MemoryRegistryStore | None = None) -> Collection[Thing]:
    return Collection(store or MemoryRegistryStore(), "thing", Thing)


async def test_a_key_is_taken_once() -> None:
    collection = things()
    assert await collection.create(ACCOUNT, "a", Thing(size=1))
    assert not await collection.create(ACCOUNT, "a", Thing(size=2))
    assert await collection.get(ACCOUNT, "a") == Thing(size=1)
    assert await collection.get("111111111111", "a") is None


async def test_a_change_is_applied_to_what_others_wrote() -> None:
    collection = things()
    await collection.create(ACCOUNT, "a", Thing(size=0))

    def grown(old: Thing) -> Thing:
        return msgspec.structs.replace(old, size=old.size + 1)

    await asyncio.gather(*(collection.change(ACCOUNT, "a", grown) for _ in range(5)))
    assert await collection.get(ACCOUNT, "a") == Thing(size=5)


async def test_a_rule_that_returns_nothing_removes() -> None:
    collection = things()
    await collection.create(ACCOUNT, "a", Thing(size=1))
    assert await collection.change(ACCOUNT, "a", lambda _: None) == Thing(size=1)
    assert await collection.get(ACCOUNT, "a") is None
    assert await collection.change(ACCOUNT, "a", lambda _: None) is None


async def test_a_race_that_is_never_won_is_a_conflict() -> None:
    class Contended(MemoryRegistryStore):
        async def commit(self, changes: object) -> int:  # noqa: ARG002
            raise RevisionConflict("always another")

    store = MemoryRegistryStore()
    await things(store).create(ACCOUNT, "a", Thing(size=1))
    contended = Contended()
    contended.__dict__.update(store.__dict__)
    with pytest.raises(ApiError, match="too many callers") as refused:
        await things(contended).change(ACCOUNT, "a", lambda old: old)
    assert refused.value.code == "ResourceConflictException"


async def test_pages_are_by_prefix_and_in_order() -> None:
    collection = things()
    for number in range(250):
        await collection.create(ACCOUNT, f"{number % 2}:{number:03d}", Thing(size=number))
    page = await collection.page(ACCOUNT, prefix="1:", after="1:003", limit=2)
    assert [thing.size for thing in page] == [5, 7]
    assert len(await collection.everything()) == 250
    assert len(await collection.everything(ACCOUNT, prefix="0:")) == 125
