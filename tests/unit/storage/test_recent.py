"""What is kept of the registry is always what was committed last."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from pilotlight.ports.registry import Delete, Put, Record
from pilotlight.storage.recent import RecentRecords
from pilotlight.storage.registry import open_registry


def record(key: str, size: int = 0, revision: int = 1) -> Record:
    return Record("k", "1", key, b"x" * size, revision)


def test_a_read_that_overlapped_with_a_commit_is_not_kept() -> None:
    recent = RecentRecords(10_000)
    token = recent.begin()
    recent.committed([("k", "1", "other")])
    recent.keep(record("a"), token)
    assert recent.get(("k", "1", "a")) is None
    recent.keep(record("a"), recent.begin())
    assert recent.get(("k", "1", "a")) == record("a")
    recent.committed([("k", "1", "a")])
    assert recent.get(("k", "1", "a")) is None


def test_the_budget_holds_and_the_least_used_goes_first() -> None:
    recent = RecentRecords(3_000)
    for key in "abc":
        recent.keep(record(key, 500), recent.begin())
    assert recent.get(("k", "1", "a"))
    recent.keep(record("d", 500), recent.begin())
    assert [key for key in "abcd" if recent.get(("k", "1", key))] == ["a", "c", "d"]
    recent.keep(record("e", 5_000), recent.begin())
    assert recent.get(("k", "1", "e")) is None


@pytest.mark.anyio
async def test_readers_never_see_less_than_a_finished_commit(tmp_path: Path) -> None:
    draw = random.Random(3)
    async with open_registry(tmp_path / "registry.db") as store:
        floor = 0

        async def write() -> None:
            nonlocal floor
            for number in range(150):
                floor = await store.commit([Put("k", "1", "a", b"%d" % number)])
                await asyncio.sleep(draw.random() * 0.002)

        async def read() -> None:
            while not writer.done():
                least = floor
                found = await store.get("k", "1", "a")
                assert least == 0 or (found is not None and found.revision >= least)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            writer = group.create_task(write())
            for _ in range(3):
                group.create_task(read())
        await store.commit([Delete("k", "1", "a")])
        assert await store.get("k", "1", "a") is None
