"""What interruptions of staging leave, and what they must not take along."""

from __future__ import annotations

import asyncio

import pytest

from pilotlight.control.staging.objects import PREFIX, Missing, Refused, Staging
from pilotlight.kernel.system import SystemClock, SystemIds
from pilotlight.storage.blobs import MemoryBlobStore
from pilotlight.storage.memory import MemoryRegistryStore

pytestmark = pytest.mark.anyio
ACCOUNT, OTHER = "000000000000", "111111111111"


async def staging() -> tuple[Staging, MemoryBlobStore]:
    blobs = MemoryBlobStore()
    made = Staging(MemoryRegistryStore(), blobs, SystemClock(), SystemIds())
    await made.make_bucket(ACCOUNT, "b")
    return made, blobs


async def test_a_sweep_takes_what_nobody_names() -> None:
    made, blobs = await staging()
    version = await made.put(ACCOUNT, "b", "k", b"kept", "t")
    upload = await made.begin(ACCOUNT, "b", "k", "t")
    part = await made.put_part(ACCOUNT, "b", "k", upload, 1, b"part")
    await blobs.put(f"{PREFIX}orphan", b"x")
    await made.sweep()
    assert set(await blobs.names(PREFIX)) == {version.parts[0].blob, part.blob}
    assert await made.read(version) == b"kept"


async def test_older_versions_and_replaced_parts_leave_the_disk() -> None:
    made, blobs = await staging()
    for number in range(15):
        await made.put(ACCOUNT, "b", "k", b"%d" % number, "t")
    assert len(await blobs.names(PREFIX)) == 10
    upload = await made.begin(ACCOUNT, "b", "p", "t")
    await made.put_part(ACCOUNT, "b", "p", upload, 1, b"first")
    part = await made.put_part(ACCOUNT, "b", "p", upload, 1, b"second")
    assert len(await blobs.names(PREFIX)) == 11
    version = await made.complete(ACCOUNT, "b", "p", upload, [(1, part.md5)])
    assert await made.read(version) == b"second"
    await made.remove(ACCOUNT, "b", "p", None)
    await made.remove(ACCOUNT, "b", "k", None)
    assert await blobs.names(PREFIX) == ()
    await made.remove_bucket(ACCOUNT, "b")


async def test_accounts_have_buckets_of_their_own() -> None:
    made, _ = await staging()
    await made.put(ACCOUNT, "b", "k", b"mine", "t")
    with pytest.raises(Missing, match="bucket does not exist"):
        await made.find(OTHER, "b", "k")
    await made.make_bucket(OTHER, "b")
    with pytest.raises(Missing, match="key does not exist"):
        await made.find(OTHER, "b", "k")


async def test_writers_of_one_object_do_not_lose_versions() -> None:
    made, _ = await staging()
    await asyncio.gather(*(made.put(ACCOUNT, "b", "k", b"%d" % n, "t") for n in range(6)))
    page = await made.page(ACCOUNT, "b", prefix="", after="", limit=10)
    (known,) = page
    assert sorted([await made.read(version) for version in known.versions]) == [
        b"%d" % n for n in range(6)
    ]


async def test_parts_are_completed_in_order_and_whole() -> None:
    made, _ = await staging()
    upload = await made.begin(ACCOUNT, "b", "k", "t")
    one = await made.put_part(ACCOUNT, "b", "k", upload, 1, b"1")
    two = await made.put_part(ACCOUNT, "b", "k", upload, 2, b"2")
    for wanted in ([], [(2, two.md5), (1, one.md5)], [(1, two.md5)], [(3, one.md5)]):
        with pytest.raises(Refused):
            await made.complete(ACCOUNT, "b", "k", upload, wanted)
    with pytest.raises(Missing):
        await made.complete(ACCOUNT, "b", "other", upload, [(1, one.md5)])
    version = await made.complete(ACCOUNT, "b", "k", upload, [(1, one.md5), (2, two.md5)])
    assert await made.read(version) == b"12"
