"""A power cut at any moment: what was acknowledged is there, and nothing is half there.

Every prefix of the recorded system calls is put on a disk and opened (decision D5, issue 2).
"""

from __future__ import annotations

import asyncio
import random
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from pilotlight.model.errors import ConfigurationError
from pilotlight.storage.blobs import LocalBlobStore
from pilotlight.storage.registry import open_registry
from pilotlight.testing.recording import Disk, Recording, record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.needs("strace")]

WORKLOAD = Path(__file__).with_name("durable_workload.py")
blob_body = runpy.run_path(str(WORKLOAD))["blob_body"]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("recording")
    root = folder / "data"
    root.mkdir()
    return record([sys.executable, str(WORKLOAD), str(root)], root, folder / "log")


async def verify(root: Path, marks: list[str]) -> None:
    """Open what a power cut left and compare it with what was acknowledged."""
    async with open_registry(root / "registry.db") as store:
        pairs = {r.key: r.body for r in await store.list("pair", "1", limit=1000)}
        named = {r.key for r in await store.list("names", "1", limit=1000)}
        feed = await store.changes(0)
    blobs = await LocalBlobStore.open(root / "blobs")
    present = {name: await blobs.get(name) for name in await blobs.names("")}
    for key, body in pairs.items():
        assert pairs["xy"[key[0] == "x"] + key[1:]] == body == key[1:].encode()
    for name, body in present.items():
        assert body == blob_body(int(name.rpartition("/")[2])), f"{name} is half there"
    assert named <= set(present)
    assert len(feed) == len(pairs) + len(named)
    for what, _, number in (mark.partition(" ") for mark in marks):
        name = f"packages/{int(number) % 2}/{number}" if number else ""
        assert what != "commit" or f"x{number}" in pairs, f"commit {number} is lost"
        assert what != "blob" or name in present, f"blob {number} is lost"
        assert what != "named" or name in named, f"the name of blob {number} is lost"


def verify_all(
    recording: Recording, folder: Path, *, seed: int | None = None, every: int = 1
) -> int:
    """Check each moment; returns how many."""
    count = 0
    chance = None if seed is None else random.Random(seed)
    for number, (disk, marks) in enumerate(recording.crashes(chance)):
        if number % every == 0:
            check(disk, marks, folder / f"{number}", chance)
            count += 1
    return count


def check(disk: Disk, marks: list[str], root: Path, chance: random.Random | None) -> None:
    disk.materialise(root, chance)
    asyncio.run(verify(root, marks))
    shutil.rmtree(root)


def test_what_was_acknowledged_survives_when_nothing_unsynced_does(
    recording: Recording, tmp_path: Path
) -> None:
    assert "closed" in [getattr(event, "text", "") for event in recording.events]
    assert verify_all(recording, tmp_path) > 100


@pytest.mark.parametrize("seed", range(2))
def test_what_was_acknowledged_survives_torn_and_reordered_writes(
    recording: Recording, tmp_path: Path, seed: int
) -> None:
    assert verify_all(recording, tmp_path, seed=seed, every=3) > 50


@pytest.mark.parametrize(
    "dropped",
    [
        r"registry\.db-wal",
        r"registry\.db",
        r"blobs/_incoming/.+",
        r"blobs/packages/\d",
        r"blobs|\.",
    ],
)
def test_the_recording_notices_a_missing_sync(
    recording: Recording, tmp_path: Path, dropped: str
) -> None:
    pattern = re.compile(dropped)
    faulty = recording.without_syncs(lambda path: pattern.fullmatch(path) is not None)
    assert faulty != recording
    with pytest.raises((AssertionError, ConfigurationError, sa.exc.DatabaseError)):
        verify_all(faulty, tmp_path)
