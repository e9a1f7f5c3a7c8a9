"""Removes packages that no function and no layer refers to any more.

A blob is removed only when two sweeps in a row found it unreferenced and no upload is between
storing its package and naming it in a record: uploads hold `UploadGuard.naming`, and removal
waits for them and holds new ones back for the moment it takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from pilotlight.control.registry.functions import Functions
from pilotlight.control.registry.layers import Layers
from pilotlight.model.ids import Digest
from pilotlight.ports.blobs import BlobStore
from pilotlight.wire.records import FunctionRecord, LayerVersionRecord, VersionRecord

log = logging.getLogger(__name__)


class UploadGuard:
    """Many namings at once, or one removal; a waiting removal goes before new namings.

    Releases are synchronous, so a cancellation cannot skip them.
    """

    def __init__(self) -> None:
        self._namings = 0
        self._no_naming = asyncio.Event()
        self._no_naming.set()
        self._no_removal = asyncio.Event()
        self._no_removal.set()
        self._one_removal = asyncio.Lock()

    @asynccontextmanager
    async def naming(self) -> AsyncIterator[None]:
        """Hold while a package is stored and until a record names it."""
        while not self._no_removal.is_set():
            await self._no_removal.wait()
        self._namings += 1
        self._no_naming.clear()
        try:
            yield
        finally:
            self._namings -= 1
            if self._namings == 0:
                self._no_naming.set()

    @asynccontextmanager
    async def removing(self) -> AsyncIterator[None]:
        """Hold while unreferenced packages are searched again and removed."""
        async with self._one_removal:
            self._no_removal.clear()
            try:
                await self._no_naming.wait()
                yield
            finally:
                self._no_removal.set()


def referenced(
    functions: Iterable[FunctionRecord],
    versions: Iterable[VersionRecord] = (),
    layers: Iterable[LayerVersionRecord] = (),
) -> set[Digest]:
    """Packages that are served, shown, or about to be, those of layers among them."""
    digests = {layer.code.package for layer in layers}
    used = [version.function for version in versions]
    for record in functions:
        used.append(record.current)
        if record.serving is not None:
            used.append(record.serving)
    for version in used:
        digests.add(version.code.package)
        digests.update(version.layer_packages)
    return digests


class BlobCollector:
    """A `Part`.

    Args:
        prefix: blobs that are packages; nothing else is ever touched.
        blob_name: name of a package's blob.
        every_s: time between sweeps.
    """

    name = "blob-collector"

    def __init__(
        self,
        *,
        functions: Functions,
        layers: Layers,
        blobs: BlobStore,
        guard: UploadGuard,
        prefix: str,
        blob_name: Callable[[Digest], str],
        every_s: float = 600.0,
    ) -> None:
        self._functions = functions
        self._layers = layers
        self._blobs = blobs
        self._guard = guard
        self._prefix = prefix
        self._blob_name = blob_name
        self._every_s = every_s
        self._candidates: frozenset[str] = frozenset()

    async def run(self, ready: Callable[[], None]) -> None:
        """Sweep until cancelled."""
        ready()
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.sweep()
            except Exception:
                log.warning("blob_collection_failed_for_now", exc_info=True)

    async def sweep(self) -> tuple[str, ...]:
        """Remove what two sweeps found unreferenced; return the names removed."""
        unused = await self._unused()
        due = self._candidates & unused
        removed: list[str] = []
        if due:
            async with self._guard.removing():
                for name in sorted(due & await self._unused()):
                    await self._blobs.delete(name)
                    removed.append(name)
        self._candidates = unused - set(removed)
        if removed:
            log.info("packages_removed", extra={"count": len(removed)})
        return tuple(removed)

    async def _unused(self) -> frozenset[str]:
        stored = await self._blobs.names(self._prefix)
        versions = await self._functions.every_version()
        layers = await self._layers.versions.everything()
        functions = await self._functions.everything()
        digests = referenced(functions, versions, layers)
        used = {self._blob_name(digest) for digest in digests}
        return frozenset(stored) - used
