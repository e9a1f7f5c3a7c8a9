"""Where records live: ordered, revisioned, changed atomically, and followed by a feed.

The store knows nothing of functions: a record is bytes under (kind, account, key). The rules are
in ``pilotlight.control.registry``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """One stored value. ``revision`` is the store-wide number of the commit that wrote it (> 0)."""

    kind: str
    account: str
    key: str
    body: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write a record. ``if_revision``: 0 = must not exist, n = must be at n, None = any."""

    kind: str
    account: str
    key: str
    body: bytes
    if_revision: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a record; absent is not an error unless ``if_revision`` is given."""

    kind: str
    account: str
    key: str
    if_revision: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the feed. ``body`` is None for a removal."""

    revision: int
    kind: str
    account: str
    key: str
    body: bytes | None


class RegistryStore(Protocol):
    """Durable records. A commit that returned survives a power cut."""

    async def get(self, kind: str, account: str, key: str) -> Record | None:
        """The record now, or None."""
        ...

    async def list(
        self, kind: str, account: str | None, *, prefix: str = "", after: str = "", limit: int = 100
    ) -> tuple[Record, ...]:
        """Records of a kind whose key starts with ``prefix`` and sorts after ``after``.

        Ordered by (account, key), bytewise. ``account`` None lists all accounts (then ``after``
        must be empty and the limit is the caller's care).
        """
        ...

    async def commit(self, changes: Sequence[Put | Delete]) -> int:
        """Apply all changes or none; return the commit's revision.

        A commit names each record at most once (else ValueError). One that changes nothing
        returns the current revision.

        Raises:
            RevisionConflict: a condition did not hold; nothing was changed.
            StorageFull: the disk is nearly full; nothing was changed.
        """
        ...

    async def changes(self, after_revision: int, limit: int = 1000) -> tuple[Change, ...]:
        """The feed after a revision, in commit order, at least the latest change of each key.

        Whole commits: the answer is longer than ``limit`` where the last commit reaches beyond it.
        Removals are kept for a bounded time; revision 0 always gives everything that exists.

        Raises:
            FeedCompacted: removals after ``after_revision`` (> 0) are gone; begin again with an
                empty view and revision 0.
        """
        ...

    async def wait_beyond(self, revision: int) -> None:
        """Return as soon as a commit beyond ``revision`` exists."""
        ...
