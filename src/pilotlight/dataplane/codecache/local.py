"""The cache itself: makes trees once, compiles them once a runtime, removes the unused."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pilotlight.dataplane.codecache.eviction import Tree, choose
from pilotlight.dataplane.codecache.merging import lay_over
from pilotlight.dataplane.codecache.shelf import Facts, Shelf, is_digest
from pilotlight.kernel.confined import ConfinedFailure, Confinement, run_confined
from pilotlight.model.function import merged_digest
from pilotlight.model.ids import Digest, RuntimeName
from pilotlight.ports.code import CodeCache

log = logging.getLogger(__name__)

MOUNTED_AT = "/var/task"
"""Where sandboxes see a tree; compiled into the bytecode, so that tracebacks name it."""
MERGED_AT = "/opt"
"""The same for the merged tree of layers."""

COMPILING = Confinement(
    wall_s=45.0,
    cpu_s=30,
    memory_bytes=1024 * 1024 * 1024,
    file_bytes=64 * 1024 * 1024,
    open_files=64,
    writes=True,
)

COMPILERS = 2
"""Trees compiled at the same time: each may use a whole core and `COMPILING.memory_bytes`."""

Unpack = Callable[[Digest, Path], Awaitable[None]]
InterpreterOf = Callable[[RuntimeName], Path | None]


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How a tree is made: its name, what fills an empty folder, and where sandboxes see it."""

    name: Digest
    fill: Callable[[Path], Awaitable[None]]
    mounted_at: str


class CacheFull(RuntimeError):
    """A tree to pin is not cached: a bug of the caller, who must pin right after `ensure`."""


class LocalCodeCache(CodeCache):
    """CodeCache in a folder; made by `open_code_cache`. For one event loop and one process.

    Invariants: `_trees` has exactly the trees that are complete under their names; a pinned tree
    is never removed; at most one task makes or compiles a given tree.

    Args:
        shelf: the folder, opened.
        trees: what was found in it.
        unpack: unpacks a package into an empty folder, or raises KeyError or PackageRejected.
        interpreter_of: the Python that a runtime runs, None for other languages.
        capacity_bytes: bytes on disk above which unused trees go. Trees in use may exceed it.
    """

    def __init__(
        self,
        shelf: Shelf,
        trees: dict[Digest, Facts],
        *,
        unpack: Unpack,
        interpreter_of: InterpreterOf,
        capacity_bytes: int,
    ) -> None:
        self._shelf = shelf
        self._trees = trees
        self._unpack = unpack
        self._interpreter_of = interpreter_of
        self._capacity_bytes = capacity_bytes
        self._pins: Counter[Digest] = Counter()
        self._used: Counter[Digest] = Counter()
        self._uses = 0
        self._compilers = asyncio.Semaphore(COMPILERS)
        self._locks: dict[Digest, _CountedLock] = {}

    @property
    def size_bytes(self) -> int:
        """Bytes on disk of all trees."""
        return sum(facts.size_bytes for facts in self._trees.values())

    def is_cached(self, code: Digest) -> bool:
        """See the port: the tree is there; its bytecode may be missing for a new runtime."""
        return code in self._trees

    async def ensure(self, code: Digest, runtime: RuntimeName | None) -> Path:
        """See the port. To keep the tree, pin it before the next await: until then it may go."""
        if not is_digest(code):
            raise KeyError(code)
        recipe = _Recipe(code, partial(self._unpack, code), MOUNTED_AT)
        return await self._ensure(recipe, runtime)

    async def ensure_merged(self, packages: Sequence[Digest], runtime: RuntimeName | None) -> Path:
        """See the port. Costs no second copy: the merged tree links to the files of the others."""
        if not all(is_digest(package) for package in packages):
            raise KeyError(packages)
        merged = merged_digest(packages)
        recipe = _Recipe(merged, partial(self._merge, tuple(packages)), MERGED_AT)
        return await self._ensure(recipe, runtime)

    async def _ensure(self, recipe: _Recipe, runtime: RuntimeName | None) -> Path:
        interpreter = None if runtime is None else self._interpreter_of(runtime)
        tag = None if interpreter is None else _tag(interpreter)
        code = recipe.name
        while not self._has(code, tag):
            async with self._only(code):
                if not self._has(code, tag):
                    await self._make(recipe, interpreter, tag)
        self._uses += 1
        self._used[code] = self._uses
        return self._shelf.root / code

    async def _merge(self, packages: Sequence[Digest], folder: Path) -> None:
        for package in packages:
            async with self.lease(package, None) as tree:
                await asyncio.to_thread(lay_over, tree, folder)

    def pin(self, code: Digest) -> None:
        """Keep a tree until it is unpinned as often as it was pinned.

        Raises:
            CacheFull: it is not cached (any more).
        """
        if code not in self._trees:
            raise CacheFull(f"{code} is not cached: ensure it, and pin it without waiting between")
        self._pins[code] += 1

    def unpin(self, code: Digest) -> None:
        """Give up one pin."""
        if self._pins[code] <= 0:
            raise ValueError(f"{code} is not pinned")
        self._pins[code] -= 1

    @asynccontextmanager
    async def lease(self, code: Digest, runtime: RuntimeName | None) -> AsyncIterator[Path]:
        """Ensure a tree and keep it for the length of the block."""
        path = await self.ensure(code, runtime)
        self.pin(code)
        try:
            yield path
        finally:
            self.unpin(code)

    def _has(self, code: Digest, tag: str | None) -> bool:
        facts = self._trees.get(code)
        return facts is not None and (tag is None or tag in facts.tags)

    async def _make(self, recipe: _Recipe, interpreter: Path | None, tag: str | None) -> None:
        code = recipe.name
        if code in self._trees:
            # Bytecode appears file by file, each at once; whoever uses the tree is not disturbed.
            with self._kept(code):
                tree = self._shelf.root / code
                await self._compile(tree, interpreter, recipe.mounted_at)
                facts = self._trees[code]
                tags = facts.tags if tag is None else facts.tags | {tag}
                # Known before it is measured: a cancelled call does not compile it again.
                self._trees[code] = replace(facts, tags=tags)
                self._trees[code] = await asyncio.to_thread(self._shelf.measure, code, tree, tags)
        else:
            await self._add(recipe, interpreter, tag)
        await self._make_room(code)

    async def _add(self, recipe: _Recipe, interpreter: Path | None, tag: str | None) -> None:
        code, folder = recipe.name, self._shelf.incoming()
        try:
            await asyncio.to_thread(folder.mkdir)
            await recipe.fill(folder)
            if interpreter is not None:
                await self._compile(folder, interpreter, recipe.mounted_at)
            tags = frozenset[str]() if tag is None else frozenset({tag})
            facts = await asyncio.to_thread(self._shelf.measure, code, folder, tags)
            # One synchronous step of one system call: it is published and known, or neither.
            self._shelf.publish(code, folder)
            self._trees[code] = facts
        finally:
            await asyncio.to_thread(self._shelf.discard, folder)

    async def _compile(self, tree: Path, interpreter: Path | None, mounted_at: str) -> None:
        """Compile what can be compiled; the function compiles the rest by itself."""
        if interpreter is None:
            return
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            async with self._compilers:
                await run_confined(
                    Path(__file__).with_name("compile_tree.py"),
                    mounted_at,
                    interpreter=interpreter,
                    cwd=tree,
                    stdin=nothing,
                    limits=COMPILING,
                )
        except (ConfinedFailure, OSError) as failure:
            log.warning("bytecode_incomplete", extra={"tree": tree.name, "reason": str(failure)})
        finally:
            os.close(nothing)

    async def _make_room(self, keep: Digest) -> None:
        # A tree that somebody is making or waits for is in use, pinned or not.
        trees = [
            Tree(code, facts.size_bytes, self._used[code], self._pins[code] + (code in self._locks))
            for code, facts in self._trees.items()
        ]
        # All that were chosen lose their names before the next await: afterwards somebody may
        # have begun to use one.
        aside = [self._withdraw(code) for code in choose(trees, self._capacity_bytes, keep)]
        for folder in aside:
            await asyncio.to_thread(self._shelf.discard, folder)

    def _withdraw(self, code: Digest) -> Path:
        """Forget a tree and take its name away; returns what is left to remove."""
        folder = self._shelf.set_aside(code)
        del self._trees[code], self._used[code], self._pins[code]
        self._shelf.forget(code)
        return folder

    @contextmanager
    def _kept(self, code: Digest) -> Iterator[None]:
        self.pin(code)
        try:
            yield
        finally:
            self.unpin(code)

    @asynccontextmanager
    async def _only(self, code: Digest) -> AsyncIterator[None]:
        """One task at a time for each tree. Who is cancelled hands the work to the next."""
        lock = self._locks.setdefault(code, _CountedLock())
        lock.users += 1
        try:
            async with lock:
                yield
        finally:
            lock.users -= 1
            if not lock.users:
                del self._locks[code]


class _CountedLock(asyncio.Lock):
    """A lock that knows when nobody needs it any more."""

    def __init__(self) -> None:
        super().__init__()
        self.users = 0


def _tag(interpreter: Path) -> str:
    """Short name of an interpreter: what it compiled is not compiled again."""
    return hashlib.sha256(os.fsencode(interpreter)).hexdigest()[:16]


async def open_code_cache(
    root: Path,
    unpack: Unpack,
    interpreter_of: InterpreterOf,
    *,
    capacity_bytes: int,
) -> LocalCodeCache:
    """Open or create a cache folder and remove what an interrupted run left in it.

    The folder belongs to one process. It needs no closing.
    """
    shelf = Shelf(root)
    trees = await asyncio.to_thread(shelf.open)
    return LocalCodeCache(
        shelf, trees, unpack=unpack, interpreter_of=interpreter_of, capacity_bytes=capacity_bytes
    )
