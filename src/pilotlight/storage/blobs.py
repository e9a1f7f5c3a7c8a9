"""Blobs over object stores (obstore), and on the local disk with the durability it lacks.

obstore's local store renames without syncing, so a power cut after a success could leave an empty
object under its final name (decision D5). Here a file is written beside, synced, renamed, and its
folders synced, before `put` returns.

On the local disk a name may not be both an object and the folder of another one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import IO

import obstore
from obstore.store import LocalStore, MemoryStore, ObjectStore

from pilotlight.model.errors import StorageFull
from pilotlight.ports.blobs import BlobStore
from pilotlight.storage.disk import NO_ROOM, DiskGuard

_NAME = re.compile(r"[a-z0-9.-]+(?:/[a-z0-9.-]+)*")
_LONGEST_NAME = 512
_INCOMING = "_incoming"  # the underscore keeps it apart from every name


def check_name(name: str) -> str:
    """Return the name if it is one.

    Raises:
        ValueError: it is not: every character and part is checked, so that no name leaves the root.
    """
    parts = name.split("/")
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name) or any(".." in p for p in parts):
        raise ValueError(f"not a blob name: {name[:80]!r}")
    if "." in parts:
        raise ValueError(f"not a blob name: {name[:80]!r}")
    return name


class ObjectBlobStore(BlobStore):
    """BlobStore over any object store whose own `put` is durable."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, name: str, data: bytes | Path) -> None:
        await obstore.put_async(self._store, check_name(name), data)

    async def get(self, name: str) -> bytes:
        try:
            answer = await obstore.get_async(self._store, check_name(name))
            return bytes(await answer.bytes_async())
        except FileNotFoundError:
            raise KeyError(name) from None

    async def size(self, name: str) -> int | None:
        try:
            return (await obstore.head_async(self._store, check_name(name)))["size"]
        except FileNotFoundError:
            return None

    async def delete(self, name: str) -> None:
        try:
            await obstore.delete_async(self._store, check_name(name))
        except FileNotFoundError:
            return

    async def names(self, prefix: str) -> tuple[str, ...]:
        # Object stores list whole folders; the rest of the prefix is matched here.
        folder = prefix.rpartition("/")[0]
        found: list[str] = []
        async for page in obstore.list(self._store, prefix=folder or None):
            found.extend(entry["path"] for entry in page)
        return tuple(sorted(n for n in found if n.startswith(prefix) and _NAME.fullmatch(n)))


class MemoryBlobStore(ObjectBlobStore):
    """Blobs in memory, for tests and simulations."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())


class LocalBlobStore(ObjectBlobStore):
    """Blobs in a folder: ``<root>/<name>``. One process writes at a time; made by `open`."""

    def __init__(self, root: Path, guard: DiskGuard) -> None:
        super().__init__(LocalStore(root))
        self._root = root
        self._guard = guard

    @classmethod
    async def open(cls, root: Path, *, guard: DiskGuard | None = None) -> LocalBlobStore:
        """Create the folder if need be and remove what an interrupted run left half written."""
        await asyncio.to_thread(_prepare, root)
        return cls(root, guard or DiskGuard(root))

    async def put(self, name: str, data: bytes | Path) -> None:
        # In one thread step: when cancelled, it still ends with the whole object or nothing.
        await asyncio.to_thread(self._write, check_name(name), data)

    def _write(self, name: str, data: bytes | Path) -> None:
        wanted = data.stat().st_size if isinstance(data, Path) else len(data)
        self._guard.require(wanted)
        target = self._root / name
        descriptor, temporary = tempfile.mkstemp(dir=self._root / _INCOMING)
        try:
            with os.fdopen(descriptor, "wb") as out:
                _fill(out, data)
                out.flush()
                os.fsync(out.fileno())
            _make_folders(target.parent, self._root)
            os.replace(temporary, target)  # noqa: PTH105  # Path.replace says the same, less plainly
            sync_folder(target.parent)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise StorageFull(f"The disk of {self._root} is full: free space there.") from error
            raise
        finally:
            Path(temporary).unlink(missing_ok=True)


def _prepare(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.rmtree(root / _INCOMING, ignore_errors=True)
    (root / _INCOMING).mkdir(exist_ok=True)
    sync_folder(root)
    sync_folder(root.parent)


def _fill(out: IO[bytes], data: bytes | Path) -> None:
    if isinstance(data, Path):
        with data.open("rb") as source:
            shutil.copyfileobj(source, out, 1024 * 1024)
    else:
        out.write(data)


def _make_folders(folder: Path, root: Path) -> None:
    """Make the folders down to ``folder``, each name durable before it is used."""
    if folder != root:
        _make_folders(folder.parent, root)
        folder.mkdir(exist_ok=True, mode=0o700)
        # Also when it was there: whoever made it may not have synced it yet.
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot sync folders and need not
            raise
    finally:
        os.close(descriptor)
