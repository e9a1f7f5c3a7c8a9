"""How a package gets from an upload to a read-only tree that sandboxes mount."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pilotlight.model.function import Code
from pilotlight.model.ids import Digest, RuntimeName


@dataclass(frozen=True, slots=True)
class AcceptedCode:
    """A package that passed intake; its blob is durable."""

    code: Code
    unzipped_bytes: int
    files: int


class CodeIntake(Protocol):
    """Checks and stores uploaded packages."""

    async def accept(self, package: bytes | Path) -> AcceptedCode:
        """Check a zip in a confined process, then store it. Idempotent for equal bytes.

        Raises:
            PackageRejected: with its reason; nothing is left behind.
            StorageFull: nothing is left behind.
        """
        ...


class CodeCache(Protocol):
    """L1: unpacked, read-only trees on the worker's disk."""

    async def ensure(self, code: Digest, runtime: RuntimeName | None) -> Path:
        """Return the tree's directory, unpacking it and compiling its bytecode if need be.

        Concurrent calls for one digest do the work once. The directory is ``<root>/<digest>``;
        an incomplete tree is never visible under that name.

        Raises:
            KeyError: no such package in any tier.
            PackageRejected: the package is not acceptable.
        """
        ...

    async def ensure_merged(self, packages: Sequence[Digest], runtime: RuntimeName | None) -> Path:
        """Return the directory of packages unpacked over one another, later over earlier.

        Its name is their `merged_digest`; for the rest see `ensure`.

        Raises:
            KeyError: one of them is in no tier.
            PackageRejected: one of them is not acceptable.
        """
        ...

    def is_cached(self, code: Digest) -> bool:
        """Whether `ensure` would return at once."""
        ...
