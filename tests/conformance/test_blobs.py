"""Both blob stores pass the suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotlight.ports.blobs import BlobStore
from pilotlight.storage.blobs import LocalBlobStore, MemoryBlobStore
from pilotlight.testing.blob_suite import BlobSuite


class TestMemory(BlobSuite):
    @pytest.fixture
    async def blobs(self) -> BlobStore:
        return MemoryBlobStore()


class TestLocal(BlobSuite):
    @pytest.fixture
    async def blobs(self, tmp_path: Path) -> BlobStore:
        return await LocalBlobStore.open(tmp_path / "blobs")
