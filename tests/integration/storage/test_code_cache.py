"""The first tier of the code cache, with real packages, interpreters and interruptions."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pilotlight.dataplane.codecache import CacheFull, LocalCodeCache, open_code_cache
from pilotlight.model.errors import PackageRejected
from pilotlight.model.ids import Digest, RuntimeName
from pilotlight.storage.blobs import MemoryBlobStore
from pilotlight.storage.packages import PackageIntake
from pilotlight.testing.archives import files

pytestmark = pytest.mark.anyio

PYTHON = RuntimeName("python3.11")
OTHER = RuntimeName("python3.12")
NODE = RuntimeName("nodejs20.x")
BIG = 1 << 30
SOURCE = b"import os\n\ndef handler(event, context):\n    return event\n"


def interpreter_of(runtime: RuntimeName) -> Path | None:
    return Path(sys.executable) if runtime.startswith("python") else None


class Packages:
    """An intake that counts, pauses or fails its unpacking."""

    def __init__(self, work_dir: Path) -> None:
        self.intake = PackageIntake(MemoryBlobStore(), work_dir)
        self.unpacked: list[Digest] = []
        self.before: Callable[[], Awaitable[None]] | None = None

    async def add(self, **contents: bytes) -> Digest:
        return (await self.intake.accept(files(**contents))).code.package

    async def unpack(self, code: Digest, target: Path) -> None:
        self.unpacked.append(code)
        if self.before is not None:
            await self.before()
        await self.intake.unpack(code, target)


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    return Packages(tmp_path / "work")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


async def opened(root: Path, packages: Packages, capacity: int = BIG) -> LocalCodeCache:
    return await open_code_cache(root, packages.unpack, interpreter_of, capacity_bytes=capacity)


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def bytecode(path: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(path)))


async def test_a_tree_appears_under_its_digest_with_bytecode(
    root: Path, packages: Packages
) -> None:
    code = await packages.add(app__py=SOURCE, **{"main.py": SOURCE, "pkg__sub.py": SOURCE})
    cache = await opened(root, packages)
    assert not cache.is_cached(code)
    path = await cache.ensure(code, PYTHON)
    assert path == root / code
    assert cache.is_cached(code)
    for name in ("main.py", "pkg/sub.py"):
        assert (path / name).read_bytes() == SOURCE
        assert bytecode(path / name).exists()
    assert packages.unpacked == [code]
    assert await cache.ensure(code, PYTHON) == path
    assert packages.unpacked == [code]


async def test_the_interpreter_uses_the_bytecode_and_names_the_mount_point(
    root: Path, packages: Packages
) -> None:
    code = await packages.add(**{"main.py": SOURCE})
    path = await (await opened(root, packages)).ensure(code, PYTHON)
    said = await asyncio.to_thread(
        subprocess.run,
        [
            sys.executable,
            "-I",
            "-v",
            "-c",
            f"import sys; sys.path[0:0]=[{str(path)!r}]; import main",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"matches {path / 'main.py'}" in said.stderr
    assert b"/var/task/main.py" in bytecode(path / "main.py").read_bytes()


async def test_a_foreign_user_can_read_a_tree(root: Path, packages: Packages) -> None:
    code = await packages.add(**{"main.py": SOURCE, "a__b.txt": b"x"})
    path = await (await opened(root, packages)).ensure(code, PYTHON)
    for entry in (root, path, *path.rglob("*")):
        mode = stat.S_IMODE(entry.stat().st_mode)
        assert mode & 0o444 == 0o444, entry
        if entry.is_dir():
            assert mode == 0o755, entry


async def test_other_languages_are_not_compiled(root: Path, packages: Packages) -> None:
    code = await packages.add(**{"main.py": SOURCE})
    cache = await opened(root, packages)
    for runtime in (NODE, None):
        path = await cache.ensure(code, runtime)
        assert not bytecode(path / "main.py").exists()
    path = await cache.ensure(code, PYTHON)
    assert bytecode(path / "main.py").exists()
    assert packages.unpacked == [code]


async def test_each_interpreter_compiles_once(root: Path, packages: Packages) -> None:
    code = await packages.add(**{"main.py": SOURCE})
    cache = await opened(root, packages)
    compiled = bytecode(await cache.ensure(code, PYTHON) / "main.py")
    compiled.unlink()
    await cache.ensure(code, OTHER)  # the same interpreter under another name
    await (await opened(root, packages)).ensure(code, PYTHON)
    assert not compiled.exists()


@pytest.mark.parametrize(
    "source",
    [
        b"def broken(:\n",
        b"x = " + b"(" * 5000 + b")" * 5000,
        b"# -*- coding: no-such -*-\n",
        b"\x00\x00",
        b"x = 'a' * 10 ** 6\n" * 10,
        b"\xff\xfe",
    ],
)
async def test_sources_that_cannot_be_compiled_are_cached_all_the_same(
    root: Path, packages: Packages, source: bytes
) -> None:
    code = await packages.add(**{"bad.py": source, "good.py": SOURCE})
    path = await (await opened(root, packages)).ensure(code, PYTHON)
    assert (path / "bad.py").read_bytes() == source


async def test_an_interpreter_that_fails_does_not_matter(root: Path, packages: Packages) -> None:
    code = await packages.add(**{"main.py": SOURCE})
    wrong = {PYTHON: Path("/bin/false"), OTHER: Path("/no/such/python")}
    for runtime in wrong:
        cache = await open_code_cache(
            root / runtime, packages.unpack, wrong.get, capacity_bytes=BIG
        )
        assert (await cache.ensure(code, runtime) / "main.py").exists()


async def test_concurrent_calls_do_the_work_once(root: Path, packages: Packages) -> None:
    code = await packages.add(**{"main.py": SOURCE})
    cache = await opened(root, packages)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(cache.ensure(code, PYTHON)) for _ in range(10)]
    assert {task.result() for task in tasks} == {root / code}
    assert packages.unpacked == [code]


async def test_a_cancelled_call_hands_the_work_on(root: Path, packages: Packages) -> None:
    code = await packages.add(**{"main.py": SOURCE})
    cache = await opened(root, packages)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        begun.set()
        await go_on.wait()

    packages.before = pause
    async with asyncio.TaskGroup() as group:
        first = group.create_task(cache.ensure(code, PYTHON))
        await begun.wait()
        second = group.create_task(cache.ensure(code, PYTHON))
        await asyncio.sleep(0)
        first.cancel()
        go_on.set()
    assert first.cancelled()
    assert second.result() == root / code
    assert [p.name for p in (root / "_incoming").iterdir()] == []


async def test_cancellation_at_any_moment_leaves_nothing_half(
    root: Path, packages: Packages
) -> None:
    code = await packages.add(**{"main.py": SOURCE})
    for pause in (0, 0.005, 0.02, 0.05, 0.1, 0.2):
        cache = await opened(root, packages)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(cache.ensure(code, PYTHON))
            await asyncio.sleep(pause)
            task.cancel()
        assert cache.is_cached(code) == (root / code).exists()
        assert list((root / "_incoming").iterdir()) == []
        if cache.is_cached(code):
            assert (root / code / "main.py").read_bytes() == SOURCE


async def test_errors_leave_nothing_and_are_not_remembered(root: Path, packages: Packages) -> None:
    cache = await opened(root, packages)
    for code in (Digest("0" * 64), Digest("../x"), Digest("_facts")):
        with pytest.raises(KeyError):
            await cache.ensure(code, PYTHON)

    async def refuse() -> None:
        raise PackageRejected("size", "too large for the test")

    good = await packages.add(**{"main.py": SOURCE})
    packages.before = refuse
    with pytest.raises(PackageRejected):
        await cache.ensure(good, PYTHON)
    assert list((root / "_incoming").iterdir()) == []
    packages.before = None
    assert await cache.ensure(good, PYTHON) == root / good


async def test_a_restart_finds_the_trees(root: Path, packages: Packages) -> None:
    code = await packages.add(**{"main.py": SOURCE})
    first = await opened(root, packages)
    await first.ensure(code, PYTHON)
    again = await opened(root, packages)
    assert again.is_cached(code)
    assert again.size_bytes == first.size_bytes > 0
    assert packages.unpacked == [code]


async def test_leftovers_of_an_interrupted_run_are_removed(root: Path, packages: Packages) -> None:
    code = await packages.add(**{"main.py": SOURCE})
    await (await opened(root, packages)).ensure(code, PYTHON)
    half = root / "_incoming" / "abc"
    half.mkdir()
    (half / "x").write_bytes(b"x")
    (root / "_outgoing" / "def").mkdir()
    (root / "_facts" / ("1" * 64)).write_text("{}")
    unknown = root / ("2" * 64)
    unknown.mkdir()
    cache = await opened(root, packages)
    assert cache.is_cached(code)
    assert names_in(root) == sorted([code, "_boot", "_facts", "_incoming", "_outgoing"])
    assert [p.name for p in (root / "_facts").iterdir()] == [code]


async def test_trees_of_an_earlier_boot_are_not_trusted(root: Path, packages: Packages) -> None:
    code = await packages.add(**{"main.py": SOURCE})
    await (await opened(root, packages)).ensure(code, PYTHON)
    (root / "_boot").write_text("another boot")
    cache = await opened(root, packages)
    assert not cache.is_cached(code)
    assert not (root / code).exists()
    await cache.ensure(code, PYTHON)
    assert packages.unpacked == [code, code]


async def test_the_least_recently_used_tree_goes_first(root: Path, packages: Packages) -> None:
    codes = [await packages.add(data=os.urandom(100_000)) for _ in range(3)]
    cache = await opened(root, packages, capacity=250_000)
    await cache.ensure(codes[0], None)
    await cache.ensure(codes[1], None)
    await cache.ensure(codes[0], None)
    await cache.ensure(codes[2], None)
    assert [cache.is_cached(code) for code in codes] == [True, False, True]
    assert not (root / codes[1]).exists()
    assert cache.size_bytes <= 250_000
    assert list((root / "_outgoing").iterdir()) == []


async def test_a_tree_in_use_is_never_removed(root: Path, packages: Packages) -> None:
    codes = [await packages.add(data=os.urandom(100_000)) for _ in range(3)]
    cache = await opened(root, packages, capacity=1)
    async with cache.lease(codes[0], None) as path:
        await cache.ensure(codes[1], None)
        await cache.ensure(codes[2], None)
        assert (path / "data").exists()
        assert not cache.is_cached(codes[1])
    await cache.ensure(codes[1], None)
    assert not cache.is_cached(codes[0])
    with pytest.raises(CacheFull):
        cache.pin(codes[0])
    with pytest.raises(ValueError, match="not pinned"):
        cache.unpin(codes[1])


async def test_trees_come_and_go_under_load_without_harm(root: Path, packages: Packages) -> None:
    codes = [await packages.add(data=os.urandom(60_000 + n)) for n in range(5)]
    cache = await opened(root, packages, capacity=150_000)

    async def use(number: int) -> None:
        for turn in range(6):
            code = codes[(number + turn) % len(codes)]
            async with cache.lease(code, None) as path:
                await asyncio.sleep(0)
                assert size_of(path / "data") >= 60_000

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(use(number))
    assert {name for name in names_in(root) if not name.startswith("_")} == {
        code for code in codes if cache.is_cached(code)
    }
    assert names_in(root / "_outgoing") == names_in(root / "_incoming") == []


def size_of(path: Path) -> int:
    return path.stat().st_size
