"""When a disk counts as full: the room that writes must leave untouched.

A file system that really runs out breaks things that cannot be refused any more (checkpoints,
logs, other programs). So every durable write asks here first, while there is still room.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pilotlight.model.errors import StorageFull

MIB = 1024 * 1024
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class DiskFloor:
    """Free space that must remain, whichever of the two asks for more.

    Attributes:
        bytes: absolute floor: room for a write-ahead log, its checkpoint and some logs.
        share: floor as a share of the file system's size, at most ``share_cap_bytes``, so that
            a very large disk is not refused with a hundred gigabytes free.
    """

    bytes: int = 128 * MIB
    share: float = 0.01
    share_cap_bytes: int = 2048 * MIB


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """What a file system has, in bytes, as an unprivileged process may use it."""

    free: int
    total: int


def measure(folder: Path) -> DiskSpace:
    """Ask the file system that holds ``folder``."""
    facts = os.statvfs(folder)
    return DiskSpace(free=facts.f_bavail * facts.f_frsize, total=facts.f_blocks * facts.f_frsize)


def lacking_bytes(space: DiskSpace, floor: DiskFloor, wanted: int) -> int:
    """Bytes missing for a write of ``wanted`` bytes that leaves the floor; 0 when it fits."""
    by_share = min(int(space.total * floor.share), floor.share_cap_bytes)
    return max(0, wanted + max(floor.bytes, by_share) - space.free)


class DiskGuard:
    """Refuses writes to one folder's file system while it is nearly full."""

    def __init__(
        self,
        folder: Path,
        floor: DiskFloor | None = None,
        measure: Callable[[Path], DiskSpace] = measure,
    ) -> None:
        self.folder = folder
        self._floor = floor or DiskFloor()
        self._measure = measure

    def require(self, wanted: int) -> None:
        """Return if ``wanted`` more bytes leave the floor untouched.

        Raises:
            StorageFull: they do not.
        """
        lacking = lacking_bytes(self._measure(self.folder), self._floor, wanted)
        if lacking:
            raise StorageFull(
                f"The disk of {self.folder} is nearly full: {-(-lacking // MIB)} MiB more must be "
                "free before anything is stored. Free space there, or lower the floor."
            )
