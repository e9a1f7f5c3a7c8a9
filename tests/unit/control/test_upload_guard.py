"""Uploads and removals of packages never overlap."""

from __future__ import annotations

import asyncio

import pytest

from pilotlight.control.registry import UploadGuard

pytestmark = pytest.mark.anyio


async def test_uploads_overlap_and_a_removal_waits_for_all_of_them() -> None:
    guard, story = UploadGuard(), list[str]()

    async def remove() -> None:
        async with guard.removing():
            story.append("removing")

    async with asyncio.TaskGroup() as group, guard.naming(), guard.naming():
        group.create_task(remove())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert story == []
    assert story == ["removing"]


async def test_a_waiting_removal_goes_before_new_uploads() -> None:
    guard, story = UploadGuard(), list[str]()

    async def remove() -> None:
        async with guard.removing():
            story.append("removing")

    async def upload() -> None:
        async with guard.naming():
            story.append("naming")

    async with asyncio.TaskGroup() as group, guard.naming():
        group.create_task(remove())
        await asyncio.sleep(0)
        group.create_task(upload())
        await asyncio.sleep(0)
    assert story == ["removing", "naming"]


async def test_a_cancelled_removal_lets_uploads_go_on() -> None:
    guard = UploadGuard()

    async def remove() -> None:
        async with guard.removing():
            raise AssertionError("never admitted")

    async with asyncio.TaskGroup() as group, guard.naming():
        removal = group.create_task(remove())
        await asyncio.sleep(0)
        removal.cancel()
    async with asyncio.timeout(5), guard.naming():
        pass


async def test_a_failed_upload_is_no_upload_any_more() -> None:
    guard = UploadGuard()
    with pytest.raises(RuntimeError, match="upload"):
        async with guard.naming():
            raise RuntimeError("upload")
    async with asyncio.timeout(5), guard.removing():
        pass
