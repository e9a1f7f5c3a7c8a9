"""Follows the registry's change feed and answers lookups from memory.

When the registry is away the view goes on answering with what it has, at start with what it saved.
When the registry is back the view is read anew from the beginning and swapped in one step: what
was saved is never mixed with what is true.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from pilotlight.dataplane.view import snapshot
from pilotlight.dataplane.view.index import Index
from pilotlight.model.events import AsyncConfig
from pilotlight.model.function import FunctionUrl, FunctionVersion
from pilotlight.model.routing import Draw
from pilotlight.ports.clock import Clock
from pilotlight.ports.functions import Resolved
from pilotlight.ports.registry import RegistryStore

log = logging.getLogger(__name__)

_PAGE: Final = 1000
_RETRY_FIRST_S: Final = 0.1
_RETRY_MOST_S: Final = 5.0
_SAVE_EVERY_S: Final = 1.0
"""Least time between two saves; a burst of changes is saved once."""


class RegistryView:
    """A `FunctionView`, an `AsyncConfigs` and the `Part` that feeds it.

    Args:
        path: file the view saves itself in; None keeps it in memory only.
        draw: see `Index`; None draws from a generator of its own.
    """

    name = "registry-view"

    def __init__(
        self,
        store: RegistryStore,
        *,
        clock: Clock,
        path: Path | None = None,
        draw: Draw | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._path = path
        self._draw = draw or random.Random().random  # noqa: S311  shares of traffic, no secret
        self._index = Index(self._draw)
        self._advanced = asyncio.Event()
        self._dirty = asyncio.Event()
        self._is_ready = False
        self._saved_revision = -1
        self._away_since_s: float | None = clock.monotonic()

    @property
    def revision(self) -> int:
        """See the port."""
        return self._index.revision

    @property
    def age_s(self) -> float:
        """Seconds since the registry was lost; 0 while the view follows it (decision D20)."""
        since = self._away_since_s
        return 0.0 if since is None else max(self._clock.monotonic() - since, 0.0)

    @property
    def unreadable(self) -> int:
        """Records whose newest state this release cannot read."""
        return len(self._index.unreadable)

    @property
    def reservations(self) -> Mapping[tuple[str, str], int]:
        """See the port."""
        return self._index.reservations

    @property
    def provisioned(self) -> Mapping[tuple[str, str, str], int]:
        """See the port."""
        return self._index.provisioned

    def resolve(self, account: str, name: str, qualifier: str | None) -> Resolved | None:
        """See the port."""
        return self._index.resolve(account, name, qualifier)

    def async_config(self, account: str, name: str, qualifier: str | None) -> AsyncConfig:
        """See `AsyncConfigs`."""
        return self._index.async_config(account, name, qualifier)

    def url(self, url_id: str) -> FunctionUrl | None:
        """See the port."""
        return self._index.url(url_id)

    def functions(self) -> tuple[FunctionVersion, ...]:
        """Every function as it would run now."""
        return self._index.functions()

    async def reached(self, revision: int) -> None:
        """Return once the view contains a revision."""
        while self._index.revision < revision:
            await self._advanced.wait()

    async def run(self, ready: Callable[[], None]) -> None:
        """Follow the feed until cancelled; ready once there is something to answer from."""
        has_snapshot = await self._start_from_snapshot()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._save_loop(), name=f"{self.name}-save")
                await self._follow(ready, has_snapshot=has_snapshot)
        finally:
            self._save_now()

    async def _start_from_snapshot(self) -> bool:
        if self._path is None:
            return False
        try:
            loaded = await asyncio.to_thread(snapshot.load, self._path)
        except snapshot.SnapshotUnusable as fault:
            log.warning("view_snapshot_unusable", extra={"fault": str(fault)})
            return False
        if loaded is None:
            return False
        revision, changes = loaded
        index = Index(self._draw)
        index.apply(changes)
        index.revision = revision
        self._saved_revision = revision
        self._swap(index)
        return True

    async def _follow(self, ready: Callable[[], None], *, has_snapshot: bool) -> None:
        retry_s = _RETRY_FIRST_S
        while True:
            try:
                await self._rebuild()
                self._away_since_s = None
                self._announce(ready)
                retry_s = _RETRY_FIRST_S
                while True:
                    await self._store.wait_beyond(self._index.revision)
                    await self._advance()
            except Exception:
                # Whatever ails the registry, the data plane serves on (decision D6).
                log.warning("registry_away", extra={"revision": self.revision}, exc_info=True)
            if self._away_since_s is None:
                self._away_since_s = self._clock.monotonic()
            if has_snapshot:
                self._announce(ready)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, _RETRY_MOST_S)

    def _announce(self, ready: Callable[[], None]) -> None:
        if not self._is_ready:
            self._is_ready = True
            ready()

    async def _rebuild(self) -> None:
        index = Index(self._draw)
        while True:
            changes = await self._store.changes(index.revision, _PAGE)
            if not changes:
                break
            index.apply(changes)
        index.inherit(self._index)
        self._swap(index)

    async def _advance(self) -> None:
        index = self._index
        while True:
            changes = await self._store.changes(index.revision, _PAGE)
            if not changes:
                return
            index.apply(changes)
            self._wake()

    def _swap(self, index: Index) -> None:
        self._index = index
        self._wake()

    def _wake(self) -> None:
        """Let everyone who waits for a revision look again."""
        self._advanced.set()
        self._advanced = asyncio.Event()
        self._dirty.set()

    async def _save_loop(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            index = self._index
            await self._save(index.revision, index)
            await asyncio.sleep(_SAVE_EVERY_S)

    async def _save(self, revision: int, index: Index) -> None:
        if self._path is None or revision == self._saved_revision:
            return
        changes = index.snapshot()
        try:
            await asyncio.to_thread(snapshot.save, self._path, revision, changes)
        except OSError as fault:
            log.warning("view_not_saved", extra={"fault": str(fault)})
            return
        self._saved_revision = revision

    def _save_now(self) -> None:
        """Save what the loop has not saved yet; runs while the part ends, so it does not await."""
        if self._path is None or self._index.revision == self._saved_revision:
            return
        try:
            # Its own draft: a save that was cancelled may still be writing in its thread.
            snapshot.save(
                self._path, self._index.revision, self._index.snapshot(), draft_suffix=".last"
            )
        except OSError as fault:
            log.warning("view_not_saved", extra={"fault": str(fault)})


class InProcessBarrier:
    """`ViewBarrier` over views of this process: all of them are live as long as it is."""

    def __init__(self, views: Sequence[RegistryView]) -> None:
        self._views = tuple(views)

    async def acknowledged(self, revision: int) -> None:
        """See the port."""
        for view in self._views:
            await view.reached(revision)
