"""The data plane's view: follows, survives the registry, starts from disk."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pilotlight.dataplane.view import InProcessBarrier, RegistryView
from pilotlight.dataplane.view.index import Index
from pilotlight.kernel.service import Stop, run_parts
from pilotlight.kernel.system import SystemClock
from pilotlight.model.function import LATEST, Code, FunctionUrl, FunctionVersion, Logging
from pilotlight.model.ids import AccountId, Digest
from pilotlight.ports.registry import Change, Delete, Put
from pilotlight.storage.memory import MemoryRegistryStore
from pilotlight.wire import records
from pilotlight.wire.records import Alias, FunctionRecord, UrlRecord, VersionRecord

pytestmark = pytest.mark.anyio
ACCOUNT = AccountId("000000000000")
QUALIFIERS = (None, LATEST, "1", "live", "lost", "newest", "2")


def version(name: str = "f", number: str = LATEST, revision: str = "r") -> FunctionVersion:
    return FunctionVersion(
        account=ACCOUNT,
        region="us-east-1",
        name=name,
        version=number,
        runtime=None,
        handler=None,
        role="r",
        code=Code("s", 1, Digest("a" * 64)),
        logging=Logging("/g"),
        last_modified="t",
        revision_id=revision,
    )


def function(
    name: str = "f", revision: str = "r", aliases: Mapping[str, Alias] | None = None
) -> Put:
    served = version(name, revision=revision)
    record = FunctionRecord(current=served, serving=served, aliases=aliases or {})
    body = records.encode(record)
    return Put(records.FUNCTION, ACCOUNT, name, body)


class AwayStore(MemoryRegistryStore):
    """A registry that can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False

    async def changes(self, after_revision: int, limit: int = 1000) -> tuple[Change, ...]:
        if self.is_away:
            raise ConnectionError("the registry is away")
        return await super().changes(after_revision, limit)


@asynccontextmanager
async def following(view: RegistryView) -> AsyncIterator[None]:
    stop, started = Stop(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_parts([view], stop=stop, started=started.set))
        await started.wait()
        try:
            yield
        finally:
            stop.ask()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  what is watched has no event
            await asyncio.sleep(0.01)


async def test_changes_arrive_in_order_and_are_acknowledged() -> None:
    store = MemoryRegistryStore()
    await store.commit([function(revision="r1")])
    view = RegistryView(store, clock=SystemClock())
    barrier = InProcessBarrier([view])
    async with following(view):
        for number in range(2, 20):
            revision = await store.commit([function(revision=f"r{number}")])
            async with asyncio.timeout(5):
                await barrier.acknowledged(revision)
            resolved = view.resolve(ACCOUNT, "f", None)
            assert resolved is not None
            assert resolved.function.revision_id == f"r{number}"
        gone = await store.commit([Delete(records.FUNCTION, ACCOUNT, "f")])
        async with asyncio.timeout(5):
            await barrier.acknowledged(gone)
        assert view.resolve(ACCOUNT, "f", None) is None
        assert view.age_s == 0.0


async def test_versions_aliases_and_urls_resolve() -> None:
    store = MemoryRegistryStore()
    url = FunctionUrl("u" * 32, ACCOUNT, "us-east-1", "f", None, "NONE")
    aliases = {
        "live": Alias(version="1", revision_id="a"),
        "lost": Alias(version="9", revision_id="b"),
        "newest": Alias(version=LATEST, revision_id="c"),
    }
    await store.commit(
        [
            function(aliases=aliases),
            Put(records.VERSION, ACCOUNT, "f:1",
                records.encode(VersionRecord(function=version(number="1")))),
            Put(records.URL, ACCOUNT, url.url_id, records.encode(UrlRecord(url=url))),
            Put("config", ACCOUNT, "account", b"{}"),
        ]
    )  # fmt: skip
    view = RegistryView(store, clock=SystemClock())
    async with following(view):
        seen = {q: view.resolve(ACCOUNT, "f", q) for q in QUALIFIERS}
    found = {q: r.function.version for q, r in seen.items() if r is not None}
    assert found == {None: LATEST, LATEST: LATEST, "1": "1", "live": "1", "newest": LATEST}
    assert view.url(url.url_id) == url
    assert view.url("x" * 32) is None
    assert view.resolve("111111111111", "f", None) is None


async def test_an_alias_of_two_versions_is_drawn_for_each_lookup() -> None:
    store, draws = MemoryRegistryStore(), iter([0.0, 0.24, 0.25, 0.99])
    alias = Alias(version="1", revision_id="a", weights={"2": 0.25})
    numbers = ("1", "2")
    puts = [
        Put(records.VERSION, ACCOUNT, f"f:{number}",
            records.encode(VersionRecord(function=version(number=number))))
        for number in numbers
    ]  # fmt: skip
    await store.commit([function(aliases={"live": alias}), *puts])
    view = RegistryView(store, clock=SystemClock(), draw=lambda: next(draws))
    async with following(view):
        seen = [view.resolve(ACCOUNT, "f", "live") for _ in range(4)]
    assert [r.function.version for r in seen if r is not None] == ["2", "2", "1", "1"]


async def test_a_version_runs_as_it_is_served_whatever_the_api_shows() -> None:
    store = MemoryRegistryStore()
    shown, served = version(number="1", revision="shown"), version(number="1", revision="served")
    body = records.encode(VersionRecord(function=shown, serving=served))
    await store.commit([function(), Put(records.VERSION, ACCOUNT, "f:1", body)])
    view = RegistryView(store, clock=SystemClock())
    async with following(view):
        resolved = view.resolve(ACCOUNT, "f", "1")
    assert resolved is not None
    assert resolved.function.revision_id == "served"


async def test_the_view_starts_from_disk_when_the_registry_is_away(tmp_path: Path) -> None:
    store, path = AwayStore(), tmp_path / "view" / "registry.view"
    await store.commit([function("f"), function("g")])
    async with following(RegistryView(store, clock=SystemClock(), path=path)):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store.is_away = True
    late = RegistryView(store, clock=SystemClock(), path=path)
    async with following(late):
        assert late.resolve(ACCOUNT, "f", None) is not None
        await until(lambda: late.age_s > 0)
        # While it was away, one function went and another came.
        await store.commit([Delete(records.FUNCTION, ACCOUNT, "f"), function("h")])
        store.is_away = False
        await until(lambda: late.resolve(ACCOUNT, "h", None) is not None)
        assert late.resolve(ACCOUNT, "f", None) is None
        assert late.resolve(ACCOUNT, "g", None) is not None
        assert late.age_s == 0.0


async def test_a_registry_that_was_replaced_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "registry.view"
    old = MemoryRegistryStore()
    for number in range(5):
        await old.commit([function("old", revision=str(number))])
    async with following(RegistryView(old, clock=SystemClock(), path=path)):
        pass
    new = MemoryRegistryStore()
    await new.commit([function("new")])
    view = RegistryView(new, clock=SystemClock(), path=path)
    async with following(view):
        assert view.resolve(ACCOUNT, "old", None) is None
        assert view.resolve(ACCOUNT, "new", None) is not None


@pytest.mark.parametrize("damage", ["truncate", "flip", "garbage", "empty"])
async def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    store, path = MemoryRegistryStore(), tmp_path / "registry.view"
    await store.commit([function()])
    async with following(RegistryView(store, clock=SystemClock(), path=path)):
        pass
    data = path.read_bytes()
    damaged = {
        "truncate": data[:-10],
        "flip": data[:-1] + bytes([data[-1] ^ 1]),
        "garbage": b"nonsense\n" * 20,
        "empty": b"",
    }[damage]
    path.write_bytes(damaged)
    view = RegistryView(store, clock=SystemClock(), path=path)
    async with following(view):
        assert view.resolve(ACCOUNT, "f", None) is not None
    assert path.read_bytes() == data


async def test_a_record_from_a_newer_release_leaves_the_last_one_understood() -> None:
    store = AwayStore()
    await store.commit([function(revision="known")])
    view = RegistryView(store, clock=SystemClock())
    async with following(view):
        newer = b'{"schema":99}'
        revision = await store.commit([Put(records.FUNCTION, ACCOUNT, "f", newer), function("g")])
        async with asyncio.timeout(5):
            await view.reached(revision)
        resolved = view.resolve(ACCOUNT, "f", None)
        assert resolved is not None
        assert resolved.function.revision_id == "known"
        assert view.resolve(ACCOUNT, "g", None) is not None
        assert view.unreadable == 1
        # Reading everything anew keeps it too.
        store.is_away = True
        await store.commit([function("h")])
        await until(lambda: view.age_s > 0)
        store.is_away = False
        await until(lambda: view.resolve(ACCOUNT, "h", None) is not None)
        assert view.resolve(ACCOUNT, "f", None) is not None


async def test_applying_changes_twice_is_harmless() -> None:
    store = MemoryRegistryStore()
    await store.commit([function("f"), function("g")])
    await store.commit([Delete(records.FUNCTION, ACCOUNT, "g")])
    changes = await store.changes(0)
    once, twice = Index(lambda: 0.0), Index(lambda: 0.0)
    once.apply(changes)
    twice.apply(changes)
    twice.apply(changes)
    assert once.snapshot() == twice.snapshot()
    assert once.revision == twice.revision == 2
