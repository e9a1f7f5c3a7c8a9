"""The control plane over the real stores: a restart finds what was promised."""

from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pilotlight.control.api import OPERATIONS, Call
from pilotlight.control.registry import Scope
from pilotlight.kernel.service import Stop, run_parts
from pilotlight.model.errors import ApiError
from pilotlight.model.function import FunctionState
from pilotlight.storage.blobs import LocalBlobStore
from pilotlight.storage.packages import PackageIntake
from pilotlight.storage.registry import open_registry
from pilotlight.testing.control_plane import ACCOUNT, ControlPlane, blob_name

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


def package(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("handler.py"), text)
    return buffer.getvalue()


@asynccontextmanager
async def running(root: Path, *, is_blocked: bool = False) -> AsyncIterator[ControlPlane]:
    async with open_registry(root / "registry.db") as store:
        blobs = await LocalBlobStore.open(root / "blobs")
        plane = ControlPlane(
            store=store,
            blobs=blobs,
            intake=PackageIntake(blobs, root / "intake"),
            view_path=root / "registry.view",
            update_shows_s=0.0,
        )
        if is_blocked:
            plane.cache.gate.clear()
        stop, started = Stop(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(run_parts(plane.parts(), stop=stop, started=started.set))
            await started.wait()
            try:
                yield plane
            finally:
                stop.ask()


async def call(plane: ControlPlane, operation: str, **params: Any) -> dict[str, Any]:
    scope = Scope(ACCOUNT, "us-east-1")
    return await OPERATIONS[operation](plane.services, Call(operation, scope, params, str))


async def create(plane: ControlPlane, name: str, zip_file: bytes) -> dict[str, Any]:
    return await call(
        plane,
        "CreateFunction",
        FunctionName=name,
        Runtime="python3.12",
        Handler="h.h",
        Role="r",
        Code={"ZipFile": zip_file},
    )


async def test_what_was_pending_at_the_end_is_finished_at_the_next_start(tmp_path: Path) -> None:
    async with running(tmp_path, is_blocked=True) as plane:
        answer = await create(plane, "f", package("x"))
        assert answer["State"] == "Pending"
    async with running(tmp_path) as plane:
        async with asyncio.timeout(10):
            while True:
                shown = await call(plane, "GetFunctionConfiguration", FunctionName="f")
                if shown["State"] == "Active":
                    break
                await asyncio.sleep(0.01)
        resolved = plane.view.resolve(ACCOUNT, "f", None)
        assert resolved is not None
        assert resolved.function.state is FunctionState.ACTIVE
        digest = resolved.function.code.package
        assert digest == hashlib.sha256(package("x")).hexdigest()
        assert await plane.blobs.get(blob_name(digest)) == package("x")


async def test_a_refused_package_leaves_neither_record_nor_blob(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../outside.py", "x")
    async with running(tmp_path) as plane:
        with pytest.raises(ApiError) as caught:
            await create(plane, "f", buffer.getvalue())
        assert caught.value.code == "InvalidParameterValueException"
        with pytest.raises(ApiError, match="Could not unzip uploaded file"):
            await create(plane, "f", b"no zip at all")
        assert await plane.blobs.names("packages/") == ()
        assert (await call(plane, "ListFunctions"))["Functions"] == []
