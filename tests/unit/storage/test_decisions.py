"""Pure rules of storage and code cache."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.dataplane.codecache.eviction import Tree, choose
from pilotlight.model.errors import FeedCompacted, PackageRejected, RevisionConflict, StorageFull
from pilotlight.model.ids import Digest
from pilotlight.ports.registry import Delete, Put
from pilotlight.storage.blobs import check_name
from pilotlight.storage.disk import DiskFloor, DiskGuard, DiskSpace, lacking_bytes
from pilotlight.storage.keys import check_condition, check_horizon, end_of_prefix
from pilotlight.storage.packages.intake import REASONS, blob_name, judge
from pilotlight.storage.wakeup import Watermark

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@given(text, text)
def test_the_end_of_a_prefix_divides_the_order(prefix: str, key: str) -> None:
    end = end_of_prefix(prefix)
    between = key.encode() >= prefix.encode() and (end is None or key.encode() < end.encode())
    assert between == key.startswith(prefix)


@pytest.mark.parametrize(("wanted", "found"), [(0, 0), (3, 3), (None, 0), (None, 9)])
def test_conditions_that_hold(wanted: int | None, found: int) -> None:
    check_condition(Put("k", "1", "a", b"", if_revision=wanted), found)


@pytest.mark.parametrize(("wanted", "found"), [(0, 3), (3, 0), (3, 4)])
def test_conditions_that_do_not_hold_name_the_record(wanted: int, found: int) -> None:
    with pytest.raises(RevisionConflict, match=f"'a' is at revision {found}, not at {wanted}"):
        check_condition(Delete("k", "1", "a", if_revision=wanted), found)


def test_the_feed_is_complete_from_zero_and_from_the_horizon() -> None:
    for after in (0, 5, 6):
        check_horizon(after, horizon=5)
    with pytest.raises(FeedCompacted):
        check_horizon(4, horizon=5)


@pytest.mark.parametrize(
    ("free", "total", "wanted", "lacking"),
    [
        (1000, 10_000, 0, 0),
        (1000, 10_000, 900, 0),
        (1000, 10_000, 901, 1),
        (50, 10_000, 0, 50),
        (1000, 1_000_000, 100, 0),  # one percent is 10,000, but the share is capped at 900
        (1000, 1_000_000, 101, 1),
    ],
)
def test_the_floor_is_the_larger_of_bytes_and_share(
    free: int, total: int, wanted: int, lacking: int
) -> None:
    floor = DiskFloor(bytes=100, share=0.01, share_cap_bytes=900)
    assert lacking_bytes(DiskSpace(free, total), floor, wanted) == lacking


def test_the_guard_says_where_and_how_much() -> None:
    guard = DiskGuard(Path("/data"), DiskFloor(), lambda _: DiskSpace(0, 1 << 40))
    with pytest.raises(StorageFull, match="/data is nearly full: 2049 MiB more"):
        guard.require(1)


@given(st.text(max_size=20))
def test_a_blob_name_never_leaves_its_folder(name: str) -> None:
    try:
        check_name(name)
    except ValueError:
        return
    resolved = (Path("/root") / name).resolve()
    assert resolved.is_relative_to("/root")
    assert resolved != Path("/root")


trees = st.lists(
    st.builds(
        Tree,
        code=st.sampled_from([Digest(c) for c in "abcdefgh"]),
        size_bytes=st.integers(1, 100),
        used=st.integers(0, 50),
        pins=st.integers(0, 1),
    ),
    unique_by=lambda tree: tree.code,
)


@given(trees, st.integers(0, 300))
def test_eviction_frees_enough_and_only_what_is_unused(found: list[Tree], capacity: int) -> None:
    keep = Digest("a")
    chosen = choose(found, capacity, keep)
    by_code = {tree.code: tree for tree in found}
    assert all(by_code[code].pins == 0 and code != keep for code in chosen)
    removable = [tree for tree in found if tree.pins == 0 and tree.code != keep]
    left = sum(tree.size_bytes for tree in found if tree.code not in chosen)
    assert left <= capacity or len(chosen) == len(removable)
    if chosen:
        assert left + by_code[chosen[-1]].size_bytes > capacity
    uses = [by_code[code].used for code in chosen]
    assert uses == sorted(uses)
    spared = [tree.used for tree in removable if tree.code not in chosen]
    assert not uses or not spared or max(uses) <= min(spared)


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"ok"',
        b'{"status": "ok"}',
        b'{"status": "ok", "files": true, "bytes": 1}',
        b'{"status": "ok", "files": -1, "bytes": 1}',
        b'{"status": "ok", "files": 1, "bytes": 99999}',
        b'{"status": "rejected", "reason": "invented", "message": "x"}',
        b'{"status": "rejected", "reason": [], "message": "x"}',
        b'{"status": "rejected", "reason": "size", "message": "\\u001b[31m"}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_an_answer_that_cannot_be_true_is_a_rejection(output: bytes) -> None:
    with pytest.raises(PackageRejected, match="no answer") as caught:
        judge(output, most_bytes=1000, most_files=10)
    assert caught.value.reason == "corrupt"


@given(st.binary(max_size=60))
def test_any_answer_is_a_result_or_an_error_of_the_platform(output: bytes) -> None:
    try:
        judge(output, most_bytes=1000, most_files=10)
    except (PackageRejected, StorageFull):
        return


def test_answers_are_passed_on() -> None:
    answer = judge(b'{"status": "ok", "files": 2, "bytes": 10}', most_bytes=1000, most_files=10)
    assert (answer.files, answer.unzipped_bytes) == (2, 10)
    with pytest.raises(StorageFull):
        judge(b'{"status": "full"}', most_bytes=1, most_files=1)
    for reason in REASONS:
        said = b'{"status": "rejected", "reason": "%s", "message": "why"}' % reason.encode()
        with pytest.raises(PackageRejected, match="why") as caught:
            judge(said, most_bytes=1, most_files=1)
        assert caught.value.reason == reason


@pytest.mark.parametrize("code", ["", "a" * 63, "A" * 64, "g" * 64, "../" * 21 + "a"])
def test_what_is_no_digest_names_no_package(code: str) -> None:
    with pytest.raises(KeyError):
        blob_name(Digest(code))


@pytest.mark.anyio
async def test_a_watermark_only_rises() -> None:
    mark = Watermark(5)
    mark.raise_to(3)
    assert mark.value == 5
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        low, high = group.create_task(mark.beyond(5)), group.create_task(mark.beyond(7))
        await asyncio.sleep(0)
        mark.raise_to(7)
        await low
        assert not high.done()
        mark.raise_to(8)
