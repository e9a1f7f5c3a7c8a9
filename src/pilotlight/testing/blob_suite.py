"""What every `BlobStore` must do. A driver is done when a subclass of this is green."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pilotlight.ports.blobs import BlobStore

NOT_NAMES = ["", "/a", "a/", "a//b", "..", "a/../b", "../a", ".", "a/.", "A", "a b", "a\x00", "é"]


class BlobSuite:
    """Subclass it and give the fixture ``blobs``."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def blobs(self) -> BlobStore:
        """An empty store."""
        raise NotImplementedError

    async def test_bytes_are_read_back(self, blobs: BlobStore) -> None:
        body = bytes(range(256)) * 5000
        await blobs.put("packages/a1", body)
        assert await blobs.get("packages/a1") == body
        assert await blobs.size("packages/a1") == len(body)

    async def test_an_empty_blob_is_a_blob(self, blobs: BlobStore) -> None:
        await blobs.put("empty", b"")
        assert await blobs.get("empty") == b""
        assert await blobs.size("empty") == 0

    async def test_a_file_is_stored_and_left_alone(self, blobs: BlobStore, tmp_path: Path) -> None:
        source = tmp_path / "upload"
        source.write_bytes(b"zip" * 100_000)
        await blobs.put("packages/b2", source)
        assert await blobs.get("packages/b2") == source.read_bytes()

    async def test_absent_blobs(self, blobs: BlobStore) -> None:
        with pytest.raises(KeyError):
            await blobs.get("absent")
        assert await blobs.size("absent") is None
        await blobs.delete("absent")

    async def test_put_and_delete_are_idempotent(self, blobs: BlobStore) -> None:
        for _ in range(2):
            await blobs.put("a", b"same")
        assert await blobs.get("a") == b"same"
        for _ in range(2):
            await blobs.delete("a")
        assert await blobs.names("") == ()

    async def test_names_are_sorted_and_match_any_prefix(self, blobs: BlobStore) -> None:
        for name in ("packages/b", "packages/a", "packages-old/a", "layers/1/x", "packages/a.b"):
            await blobs.put(name, b"x")
        assert await blobs.names("packages/") == ("packages/a", "packages/a.b", "packages/b")
        assert await blobs.names("packages") == (
            "packages-old/a",
            "packages/a",
            "packages/a.b",
            "packages/b",
        )
        assert await blobs.names("packages/a") == ("packages/a", "packages/a.b")
        assert len(await blobs.names("")) == 5
        assert await blobs.names("absent/") == ()

    @pytest.mark.parametrize("name", NOT_NAMES)
    async def test_what_is_not_a_name_is_refused(self, blobs: BlobStore, name: str) -> None:
        with pytest.raises(ValueError, match="not a blob name"):
            await blobs.put(name, b"x")
        with pytest.raises(ValueError, match="not a blob name"):
            await blobs.get(name)

    async def test_concurrent_puts_of_one_blob_agree(self, blobs: BlobStore) -> None:
        body = b"x" * 500_000
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(blobs.put("packages/c", body))
        assert await blobs.get("packages/c") == body
        assert await blobs.names("") == ("packages/c",)

    async def test_a_cancelled_put_is_whole_or_absent(self, blobs: BlobStore) -> None:
        body = b"y" * 3_000_000
        for number in range(6):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(blobs.put(f"p/{number}", body))
                for _ in range(number):
                    await asyncio.sleep(0)
                task.cancel()
            assert await blobs.size(f"p/{number}") in (None, len(body))
