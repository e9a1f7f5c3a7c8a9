"""What every `RegistryStore` must do. A driver is done when a subclass of this is green."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pilotlight.model.errors import FeedCompacted, RevisionConflict
from pilotlight.ports.registry import Change, Delete, Put, RegistryStore

FEW_TOMBSTONES = 8
MANY = 10_000


async def follow(store: RegistryStore, limit: int = 1000) -> dict[tuple[str, str, str], bytes]:
    """The records as a follower that starts from nothing sees them, page by page."""
    view: dict[tuple[str, str, str], bytes] = {}
    revision = 0
    while page := await store.changes(revision, limit):
        for change in page:
            name = (change.kind, change.account, change.key)
            if change.body is None:
                view.pop(name, None)
            else:
                view[name] = change.body
        revision = page[-1].revision
    return view


class RegistrySuite:
    """Subclass it and give the fixture ``store``, made with `FEW_TOMBSTONES` tombstones."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def store(self) -> RegistryStore | AsyncIterator[RegistryStore]:
        """An empty store."""
        raise NotImplementedError

    async def test_a_record_is_read_back_with_its_revision(self, store: RegistryStore) -> None:
        revision = await store.commit([Put("function", "1", "a", b"\x00\xffbody")])
        record = await store.get("function", "1", "a")
        assert record is not None
        assert (record.body, record.revision) == (b"\x00\xffbody", revision)
        assert revision > 0

    async def test_an_absent_record_is_none(self, store: RegistryStore) -> None:
        await store.commit([Put("function", "1", "a", b"x")])
        assert await store.get("function", "1", "b") is None
        assert await store.get("function", "2", "a") is None
        assert await store.get("alias", "1", "a") is None

    async def test_revisions_grow(self, store: RegistryStore) -> None:
        seen = [await store.commit([Put("k", "1", "a", b"%d" % n)]) for n in range(5)]
        assert seen == sorted(set(seen))

    async def test_create_needs_absence(self, store: RegistryStore) -> None:
        await store.commit([Put("k", "1", "a", b"first", if_revision=0)])
        with pytest.raises(RevisionConflict):
            await store.commit([Put("k", "1", "a", b"second", if_revision=0)])
        record = await store.get("k", "1", "a")
        assert record is not None
        assert record.body == b"first"

    async def test_a_record_that_was_removed_can_be_created_again(
        self, store: RegistryStore
    ) -> None:
        await store.commit([Put("k", "1", "a", b"first")])
        await store.commit([Delete("k", "1", "a")])
        await store.commit([Put("k", "1", "a", b"second", if_revision=0)])
        record = await store.get("k", "1", "a")
        assert record is not None
        assert record.body == b"second"

    async def test_compare_and_set_lets_one_of_many_win(self, store: RegistryStore) -> None:
        base = await store.commit([Put("k", "1", "a", b"0")])
        outcomes: list[bool] = []

        async def contend(number: int) -> None:
            try:
                await store.commit([Put("k", "1", "a", b"%d" % number, if_revision=base)])
            except RevisionConflict:
                outcomes.append(False)
            else:
                outcomes.append(True)

        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(contend(number))
        assert sorted(outcomes) == [False] * 19 + [True]

    async def test_a_conflict_changes_nothing_of_its_commit(self, store: RegistryStore) -> None:
        before = await store.commit([Put("k", "1", "a", b"0")])
        with pytest.raises(RevisionConflict):
            await store.commit(
                [
                    Put("k", "1", "b", b"new"),
                    Delete("k", "1", "a"),
                    Put("k", "1", "c", b"", if_revision=7),
                ]
            )
        assert await store.get("k", "1", "b") is None
        assert await store.get("k", "1", "a") is not None
        assert await store.changes(before) == ()

    async def test_a_conflict_does_not_fail_commits_that_arrive_with_it(
        self, store: RegistryStore
    ) -> None:
        conflicts: list[int] = []

        async def one(number: int) -> None:
            condition = 999 if number % 3 == 0 else 0
            try:
                await store.commit([Put("k", "1", f"{number:03}", b"x", if_revision=condition)])
            except RevisionConflict:
                conflicts.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(one(number))
        listed = {r.key for r in await store.list("k", "1", limit=100)}
        assert sorted(conflicts) == list(range(0, 60, 3))
        assert listed == {f"{n:03}" for n in range(60) if n % 3}

    async def test_many_records_change_in_one_commit(self, store: RegistryStore) -> None:
        await store.commit([Put("k", "1", "old", b"x")])
        revision = await store.commit(
            [Put("k", "1", "a", b"1"), Delete("k", "1", "old"), Put("url", "1", "b", b"2")]
        )
        feed = await store.changes(revision - 1)
        assert feed == (
            Change(revision, "k", "1", "a", b"1"),
            Change(revision, "k", "1", "old", None),
            Change(revision, "url", "1", "b", b"2"),
        )

    async def test_one_record_cannot_be_named_twice_in_a_commit(self, store: RegistryStore) -> None:
        with pytest.raises(ValueError, match="twice"):
            await store.commit([Put("k", "1", "a", b"1"), Delete("k", "1", "a")])

    async def test_removing_nothing_changes_nothing(self, store: RegistryStore) -> None:
        revision = await store.commit([Put("k", "1", "a", b"1")])
        assert await store.commit([Delete("k", "1", "absent")]) == revision
        assert await store.commit([]) == revision
        assert await store.changes(revision) == ()

    async def test_removal_can_be_conditional(self, store: RegistryStore) -> None:
        revision = await store.commit([Put("k", "1", "a", b"1")])
        for key, wanted in (("a", revision + 5), ("a", 0), ("absent", 3)):
            with pytest.raises(RevisionConflict):
                await store.commit([Delete("k", "1", key, if_revision=wanted)])
        await store.commit([Delete("k", "1", "a", if_revision=revision)])
        assert await store.get("k", "1", "a") is None

    async def test_keys_are_ordered_bytewise(self, store: RegistryStore) -> None:
        keys = ["b", "a", "B", "_", "ab", "a-", "aa", "\u00e9", "\uffee", "\U0001f600", "a/1", "-"]
        await store.commit([Put("k", "1", key, b"x") for key in keys])
        listed = [record.key for record in await store.list("k", "1")]
        assert listed == sorted(keys, key=str.encode)

    async def test_pages_by_prefix_and_after(self, store: RegistryStore) -> None:
        keys = ["fn", "fn:1", "fn:10", "fn:2", "fo", "fm\U0010ffff", "fn%", "fn_x", "FN:1"]
        await store.commit([Put("k", "1", key, b"x") for key in keys])
        expected = sorted((key for key in keys if key.startswith("fn")), key=str.encode)
        listed: list[str] = []
        after = ""
        while page := await store.list("k", "1", prefix="fn", after=after, limit=2):
            listed += [record.key for record in page]
            after = listed[-1]
        assert listed == expected

    async def test_a_prefix_at_the_end_of_the_order_is_listed(self, store: RegistryStore) -> None:
        await store.commit([Put("k", "1", "\U0010ffff\U0010ffffx", b"x"), Put("k", "1", "z", b"")])
        found = await store.list("k", "1", prefix="\U0010ffff")
        assert [record.key for record in found] == ["\U0010ffff\U0010ffffx"]

    async def test_accounts_and_kinds_are_apart(self, store: RegistryStore) -> None:
        await store.commit(
            [Put("k", "2", "a", b"2a"), Put("k", "1", "b", b"1b"), Put("l", "1", "a", b"l")]
        )
        assert [r.body for r in await store.list("k", "1")] == [b"1b"]
        assert [r.body for r in await store.list("k", None)] == [b"1b", b"2a"]
        with pytest.raises(ValueError, match="account"):
            await store.list("k", None, after="a")

    async def test_the_feed_holds_the_latest_change_of_each_key(self, store: RegistryStore) -> None:
        for number in range(5):
            await store.commit([Put("k", "1", "a", b"%d" % number)])
        await store.commit([Put("k", "1", "b", b"x")])
        await store.commit([Delete("k", "1", "b")])
        feed = await store.changes(0)
        assert [(c.key, c.body) for c in feed] == [("a", b"4"), ("b", None)]

    async def test_a_page_of_the_feed_never_splits_a_commit(self, store: RegistryStore) -> None:
        first = await store.commit([Put("k", "1", f"a{n}", b"") for n in range(4)])
        second = await store.commit([Put("k", "1", f"b{n}", b"") for n in range(4)])
        page = await store.changes(0, limit=2)
        assert [c.revision for c in page] == [first] * 4
        page = await store.changes(first, limit=2)
        assert [c.revision for c in page] == [second] * 4

    async def test_tombstones_are_bounded(self, store: RegistryStore) -> None:
        await store.commit([Put("k", "1", "kept", b"x")])
        for number in range(5 * FEW_TOMBSTONES):
            await store.commit([Put("k", "1", f"{number}", b"x")])
            await store.commit([Delete("k", "1", f"{number}")])
        feed = await store.changes(0)
        assert sum(change.body is None for change in feed) <= FEW_TOMBSTONES
        assert await follow(store, limit=1) == {("k", "1", "kept"): b"x"}

    async def test_a_follower_that_missed_removals_is_told(self, store: RegistryStore) -> None:
        start = await store.commit([Put("k", "1", f"{n}", b"x") for n in range(30)])
        for number in range(3 * FEW_TOMBSTONES):
            await store.commit([Delete("k", "1", f"{number}")])
        with pytest.raises(FeedCompacted):
            await store.changes(start)
        seen = await follow(store, limit=1)
        assert {key for _, _, key in seen} == {f"{n}" for n in range(3 * FEW_TOMBSTONES, 30)}

    async def test_a_commit_of_many_removals_is_still_seen(self, store: RegistryStore) -> None:
        start = await store.commit([Put("k", "1", f"{n}", b"x") for n in range(30)])
        await store.commit([Delete("k", "1", f"{n}") for n in range(30)])
        assert len(await store.changes(start)) == 30

    async def test_waiting_ends_with_the_next_commit(self, store: RegistryStore) -> None:
        revision = await store.commit([Put("k", "1", "a", b"1")])
        await store.wait_beyond(revision - 1)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            waiting = [group.create_task(store.wait_beyond(revision)) for _ in range(3)]
            await asyncio.sleep(0)
            assert not any(task.done() for task in waiting)
            await store.commit([Put("k", "1", "a", b"2")])

    async def test_waiting_can_be_cancelled(self, store: RegistryStore) -> None:
        revision = await store.commit([Put("k", "1", "a", b"1")])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await store.wait_beyond(revision)
        await store.commit([Put("k", "1", "a", b"2")])
        await store.wait_beyond(revision)

    async def test_a_cancelled_commit_is_whole_or_absent(self, store: RegistryStore) -> None:
        for number in range(20):
            async with asyncio.TaskGroup() as group:
                both = [Put("k", "1", f"a{number}", b"x"), Put("k", "1", f"b{number}", b"x")]
                task = group.create_task(store.commit(both))
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                task.cancel()
        await store.commit([Put("k", "1", "last", b"x")])
        keys = {record.key for record in await store.list("k", "1", limit=100)}
        for number in range(20):
            assert (f"a{number}" in keys) == (f"b{number}" in keys)

    async def test_a_cancelled_commit_that_happened_is_announced(
        self, store: RegistryStore
    ) -> None:
        last = await store.commit([Put("k", "1", "a", b"0")])
        for number in range(20):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(store.commit([Put("k", "1", "a", b"%d" % number)]))
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                task.cancel()
            if changes := await store.changes(last):
                async with asyncio.timeout(5):
                    await store.wait_beyond(last)
                last = changes[-1].revision

    async def test_ten_thousand_records_are_listed_and_followed(self, store: RegistryStore) -> None:
        puts = [Put("function", "1", f"{n:05}", b"x" * 200) for n in range(MANY)]
        for start in range(0, MANY, 1000):
            await store.commit(puts[start : start + 1000])
        listed = await store.list("function", "1", limit=MANY)
        assert len(listed) == MANY
        assert [r.key for r in await store.list("function", "1", after="04999", limit=2)] == [
            "05000",
            "05001",
        ]
        assert len(await follow(store)) == MANY
        assert await store.get("function", "1", "09999") is not None
