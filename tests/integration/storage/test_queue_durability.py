"""A power cut at any system call: accepted events are there, outcomes are whole."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from pilotlight.kernel.system import SystemClock
from pilotlight.model.errors import ConfigurationError
from pilotlight.storage.queue import open_queue
from pilotlight.testing.recording import Recording, record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.needs("strace")]

WORKLOAD = Path(__file__).with_name("queue_workload.py")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder = tmp_path_factory.mktemp("recording")
    root = folder / "data"
    root.mkdir()
    return record([sys.executable, str(WORKLOAD), str(root)], root, folder / "log")


async def verify(root: Path, marks: list[str]) -> None:
    """Open what a power cut left and compare it with what was acknowledged."""
    async with open_queue(root / "queue.db", clock=SystemClock()) as queue:
        totals = await queue.totals()
        assert totals.drift == 0
    with contextlib.closing(sqlite3.connect(root / "queue.db")) as database:
        waiting = {
            row[0]: row[1] for row in database.execute("select request_id, payload from events")
        }
        leased = database.execute("select count(*) from events where is_leased").fetchone()
        ended = {row[0] for row in database.execute("select request_id from ended")}
    assert leased == (0,)
    assert not waiting.keys() & ended
    for name, payload in waiting.items():
        assert payload == name.encode() * 300
    followed = {name.removeprefix("after-") for name in waiting if name.startswith("after-")}
    assert followed == ended, "an outcome without what follows from it"
    for what, _, name in (mark.partition(" ") for mark in marks):
        assert what != "accepted" or name in waiting or name in ended, f"{name} is lost"
        assert what != "ended" or name in ended, f"the outcome of {name} is lost"


def verify_all(
    recording: Recording, folder: Path, *, seed: int | None = None, every: int = 1
) -> int:
    """Check each moment; returns how many."""
    count = 0
    chance = None if seed is None else random.Random(seed)
    for number, (disk, marks) in enumerate(recording.crashes(chance)):
        if number % every == 0:
            root = folder / f"{number}"
            disk.materialise(root, chance)
            asyncio.run(verify(root, marks))
            shutil.rmtree(root)
            count += 1
    return count


def test_what_was_accepted_survives_when_nothing_unsynced_does(
    recording: Recording, tmp_path: Path
) -> None:
    assert "closed" in [getattr(event, "text", "") for event in recording.events]
    assert verify_all(recording, tmp_path) > 50


def test_what_was_accepted_survives_torn_and_reordered_writes(
    recording: Recording, tmp_path: Path
) -> None:
    assert verify_all(recording, tmp_path, seed=1, every=5) > 30


def test_the_recording_notices_a_missing_sync(recording: Recording, tmp_path: Path) -> None:
    faulty = recording.without_syncs(lambda path: path == "queue.db-wal")
    assert faulty != recording
    with pytest.raises((AssertionError, ConfigurationError, sa.exc.DatabaseError)):
        verify_all(faulty, tmp_path)
