"""Immutable objects by name: uploaded packages and, later, layers, images and snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class BlobStore(Protocol):
    """Objects that never change once written. Names are ``[a-z0-9./-]+`` without ``..``."""

    async def put(self, name: str, data: bytes | Path) -> None:
        """Store; durable (file and directory synced) when it returns. Idempotent.

        Raises:
            StorageFull: nothing was stored.
        """
        ...

    async def get(self, name: str) -> bytes:
        """The whole object. Raises KeyError when absent."""
        ...

    async def size(self, name: str) -> int | None:
        """Size in bytes, None when absent."""
        ...

    async def delete(self, name: str) -> None:
        """Remove; absent is not an error."""
        ...

    async def names(self, prefix: str) -> tuple[str, ...]:
        """All names that start with ``prefix``, sorted."""
        ...
