"""Both registry stores pass the suite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pilotlight.ports.registry import RegistryStore
from pilotlight.storage.memory import MemoryRegistryStore
from pilotlight.storage.registry import open_registry
from pilotlight.testing.registry_suite import FEW_TOMBSTONES, RegistrySuite


class TestMemory(RegistrySuite):
    @pytest.fixture
    async def store(self) -> RegistryStore:
        return MemoryRegistryStore(tombstones=FEW_TOMBSTONES)


class TestSqlite(RegistrySuite):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[RegistryStore]:
        async with open_registry(tmp_path / "registry.db", tombstones=FEW_TOMBSTONES) as store:
            yield store
