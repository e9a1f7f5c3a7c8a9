"""Creations and updates are finished, also after an interruption at any step."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pilotlight.control.api import OPERATIONS, Call
from pilotlight.control.registry import Scope
from pilotlight.kernel.service import Stop, run_parts
from pilotlight.model.errors import ApiError, PackageRejected
from pilotlight.model.function import FunctionState, UpdateStatus
from pilotlight.ports.blobs import BlobStore
from pilotlight.ports.registry import Delete, Put, RegistryStore
from pilotlight.storage.blobs import MemoryBlobStore
from pilotlight.storage.memory import MemoryRegistryStore
from pilotlight.testing.control_plane import ACCOUNT, ControlPlane, blob_name
from pilotlight.wire.records import FunctionRecord

pytestmark = pytest.mark.anyio
SCOPE = Scope(ACCOUNT, "us-east-1")


class Crash(BaseException):
    """The process dies here."""


class CrashingStore(MemoryRegistryStore):
    """Dies just before or just after the commit with a given number."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0
        self.die_before: int | None = None
        self.die_after: int | None = None

    async def commit(self, changes: Sequence[Put | Delete]) -> int:
        self.commits += 1
        if self.commits == self.die_before:
            raise Crash
        revision = await super().commit(changes)
        if self.commits == self.die_after:
            raise Crash
        return revision


def package(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("handler.py"), text)
    return buffer.getvalue()


def plane_over(store: RegistryStore, blobs: BlobStore | None = None) -> ControlPlane:
    return ControlPlane(store=store, blobs=blobs or MemoryBlobStore(), update_shows_s=0.0)


async def call(plane: ControlPlane, operation: str, **params: Any) -> dict[str, Any]:
    return await OPERATIONS[operation](plane.services, Call(operation, SCOPE, params, str))


async def create(plane: ControlPlane, name: str, text: str = "old") -> dict[str, Any]:
    return await call(
        plane,
        "CreateFunction",
        FunctionName=name,
        Runtime="python3.12",
        Handler="h.h",
        Role="r",
        Code={"ZipFile": package(text)},
    )


@asynccontextmanager
async def running(plane: ControlPlane) -> AsyncIterator[None]:
    stop, started = Stop(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_parts(plane.parts(), stop=stop, started=started.set))
        await started.wait()
        try:
            yield
        finally:
            stop.ask()


async def eventually(
    plane: ControlPlane, name: str, holds: Callable[[FunctionRecord], bool]
) -> FunctionRecord:
    async with asyncio.timeout(10):
        while True:
            record = await plane.functions.get(ACCOUNT, name)
            if record is not None and holds(record):
                return record
            await asyncio.sleep(0.01)


def settled(record: FunctionRecord) -> bool:
    return record.pending is None


def served_sha(plane: ControlPlane, name: str) -> str | None:
    resolved = plane.view.resolve(ACCOUNT, name, None)
    if resolved is None or resolved.function.state is FunctionState.PENDING:
        return None
    return resolved.function.code.sha256


async def test_a_function_is_active_only_when_the_view_serves_it() -> None:
    plane = plane_over(MemoryRegistryStore())
    plane.cache.gate.clear()
    async with running(plane):
        answer = await create(plane, "f")
        assert answer["State"] == "Pending"
        assert served_sha(plane, "f") is None
        plane.cache.gate.set()
        record = await eventually(plane, "f", settled)
        assert record.current.state is FunctionState.ACTIVE
        assert served_sha(plane, "f") == answer["CodeSha256"]


async def test_old_code_is_served_while_the_update_is_prepared() -> None:
    plane = plane_over(MemoryRegistryStore())
    async with running(plane):
        old = (await create(plane, "f"))["CodeSha256"]
        await eventually(plane, "f", settled)
        plane.cache.gate.clear()
        new = await call(plane, "UpdateFunctionCode", FunctionName="f", ZipFile=package("new"))
        assert new["LastUpdateStatus"] == "InProgress"
        assert served_sha(plane, "f") == old
        with pytest.raises(ApiError, match="An update is in progress"):
            await call(plane, "UpdateFunctionConfiguration", FunctionName="f", Timeout=9)
        plane.cache.gate.set()
        await eventually(plane, "f", settled)
        assert served_sha(plane, "f") == new["CodeSha256"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (PackageRejected("count", "too many files"), "InvalidZipFileException"),
        (KeyError("gone"), "InternalError"),
    ],
)
async def test_a_package_that_cannot_be_unpacked_fails_the_function(
    fault: Exception, code: str
) -> None:
    plane = plane_over(MemoryRegistryStore())
    async with running(plane):
        await create(plane, "good")
        old = (await eventually(plane, "good", settled)).serving
        plane.cache.fault = fault
        await create(plane, "bad")
        failed = (await eventually(plane, "bad", settled)).current
        assert (failed.state, failed.state_reason_code) == (FunctionState.FAILED, code)
        assert failed.state_reason
        await call(plane, "UpdateFunctionCode", FunctionName="good", ZipFile=package("new"))
        stale = await eventually(plane, "good", settled)
        assert stale.current.last_update_status is UpdateStatus.FAILED
        assert stale.current.last_update_reason_code == code
        assert stale.serving == old
        # Repairing it is one more update.
        plane.cache.fault = None
        await call(plane, "UpdateFunctionCode", FunctionName="bad", ZipFile=package("better"))
        repaired = await eventually(plane, "bad", settled)
        assert repaired.current.state is FunctionState.ACTIVE


async def test_a_passing_fault_leaves_the_change_pending_for_the_next_sweep() -> None:
    plane = plane_over(MemoryRegistryStore())
    plane.cache.fault = OSError("the disk hiccups")
    async with running(plane):
        await create(plane, "f")
        with pytest.raises(OSError, match="hiccups"):
            await plane.transitions.finish(ACCOUNT, "f")
        record = await plane.functions.get(ACCOUNT, "f")
        assert record is not None
        assert record.pending is not None
        plane.cache.fault = None
        await plane.transitions.finish(ACCOUNT, "f")
        assert (await eventually(plane, "f", settled)).current.state is FunctionState.ACTIVE


async def test_deleting_while_pending_ends_the_transition() -> None:
    plane = plane_over(MemoryRegistryStore())
    plane.cache.gate.clear()
    async with running(plane):
        await create(plane, "f")
        await call(plane, "DeleteFunction", FunctionName="f")
        plane.cache.gate.set()
        await plane.transitions.finish(ACCOUNT, "f")
        assert await plane.functions.get(ACCOUNT, "f") is None


async def test_a_change_that_was_replaced_is_not_finished_in_its_name() -> None:
    plane = plane_over(MemoryRegistryStore())
    plane.cache.gate.clear()
    async with running(plane):
        await create(plane, "f", "first")
        await call(plane, "DeleteFunction", FunctionName="f")
        second = await create(plane, "f", "second")
        plane.cache.gate.set()
        record = await eventually(plane, "f", settled)
        assert record.current.code.sha256 == second["CodeSha256"]
        assert served_sha(plane, "f") == second["CodeSha256"]


@pytest.mark.parametrize("where", ["die_before", "die_after"])
@pytest.mark.parametrize("step", [1, 2, 3])
async def test_a_death_at_any_commit_of_an_update_leaves_old_or_new(where: str, step: int) -> None:
    store = CrashingStore()
    plane = plane_over(store)
    async with running(plane):
        old = (await create(plane, "f"))["CodeSha256"]
        await eventually(plane, "f", settled)
    # The update runs by hand, without the part, so that a death stops exactly there.
    setattr(store, where, store.commits + step)
    with pytest.raises(Crash):
        await update_by_hand(plane)

    revived = plane_over(copy_of(store), plane.blobs)
    async with running(revived):
        record = await eventually(revived, "f", settled)
        new = record.current.code.sha256
        assert served_sha(revived, "f") == new
    was_named = step > 1 or where == "die_after"
    assert (new != old) is was_named
    assert record.current.state is FunctionState.ACTIVE
    assert record.current.last_update_status is UpdateStatus.SUCCESSFUL
    assert await plane.blobs.size(blob_name(record.current.code.package)) is not None


async def update_by_hand(plane: ControlPlane) -> None:
    plane.functions._barrier = Nobody()
    plane.transitions._barrier = Nobody()
    await call(plane, "UpdateFunctionCode", FunctionName="f", ZipFile=package("new"))
    await plane.transitions.finish(ACCOUNT, "f")


class Nobody:
    async def acknowledged(self, revision: int) -> None:
        """There are no frontends."""


def copy_of(store: CrashingStore) -> MemoryRegistryStore:
    """What the disk holds after the death."""
    fresh = CrashingStore()
    fresh.__dict__.update(store.__dict__)
    fresh.die_before = fresh.die_after = None
    return fresh


async def test_packages_are_collected_only_when_nobody_can_name_them() -> None:
    plane = plane_over(MemoryRegistryStore())
    async with running(plane):
        await create(plane, "f", "old")
        before = (await eventually(plane, "f", settled)).current.code.package
        await call(plane, "UpdateFunctionCode", FunctionName="f", ZipFile=package("new"))
        after = (await eventually(plane, "f", settled)).current.code.package
        assert await plane.collector.sweep() == ()
        assert await plane.collector.sweep() == (blob_name(before),)
        assert await plane.blobs.size(blob_name(after)) is not None


async def test_an_upload_of_the_very_package_that_is_being_collected_keeps_it() -> None:
    plane = plane_over(MemoryRegistryStore())
    async with running(plane):
        await create(plane, "f")
        digest = (await eventually(plane, "f", settled)).current.code.package
        await call(plane, "DeleteFunction", FunctionName="f")
        await plane.collector.sweep()
        async with asyncio.TaskGroup() as group, plane.services.guard.naming():
            sweep = group.create_task(plane.collector.sweep())
            await asyncio.sleep(0.02)
            assert not sweep.done()
            # The package is stored again and named, as a creation does it.
            await plane.functions.create(ACCOUNT, await record_of(digest))
        assert sweep.result() == ()
        assert await plane.blobs.size(blob_name(digest)) is not None


async def record_of(digest: str) -> FunctionRecord:
    scratch = plane_over(MemoryRegistryStore())
    async with running(scratch):
        await create(scratch, "f")
        record = await eventually(scratch, "f", settled)
    assert record.current.code.package == digest
    return record


async def test_concurrent_calls_on_one_function_all_take_effect() -> None:
    plane = plane_over(MemoryRegistryStore())
    async with running(plane):
        await create(plane, "f")
        await eventually(plane, "f", settled)
        arn = SCOPE.function_arn("f")
        async with asyncio.TaskGroup() as group:
            for number in range(6):
                tags = {f"k{number}": "v"}
                group.create_task(call(plane, "TagResource", Resource=arn, Tags=tags))
        listed = await call(plane, "ListTags", Resource=arn)
        assert listed["Tags"] == {f"k{number}": "v" for number in range(6)}
