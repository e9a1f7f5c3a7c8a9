"""Account settings: defaults, versions, ranges."""

from __future__ import annotations

import pytest

from pilotlight.control.configstore import AccountConfig, ConfigStore
from pilotlight.model.errors import ConfigurationError, RevisionConflict
from pilotlight.storage.memory import MemoryRegistryStore

pytestmark = pytest.mark.anyio


async def test_an_account_without_settings_has_the_defaults() -> None:
    found = await ConfigStore(MemoryRegistryStore()).get("a")
    assert (found.config, found.version) == (AccountConfig(), 0)
    assert found.config.concurrent_executions == 1000


async def test_a_write_names_the_version_it_is_based_on() -> None:
    store = ConfigStore(MemoryRegistryStore())
    first = await store.put("a", AccountConfig(concurrent_executions=5), based_on=0)
    assert (await store.get("a")).version == first
    with pytest.raises(RevisionConflict):
        await store.put("a", AccountConfig(), based_on=0)
    second = await store.put("a", AccountConfig(flags={"new": True}), based_on=first)
    found = await store.get("a")
    assert (found.version, found.config.flags) == (second, {"new": True})
    assert (await store.get("b")).version == 0


async def test_all_faults_are_named_at_once() -> None:
    store = ConfigStore(MemoryRegistryStore())
    bad = AccountConfig(concurrent_executions=-1, total_code_bytes=-1)
    with pytest.raises(ConfigurationError, match=r"concurrent_executions.*; total_code_bytes"):
        await store.put("a", bad, based_on=0)
