"""Which files of the log store there are, and which have to go."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pilotlight.observability.segments import DAY_US

_NAME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}-([0-9]{1,18})\.db")
_COMPANIONS = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A file of the store; its name holds the day (UTC) and its first id."""

    path: Path
    first_id: int
    size_bytes: int

    @staticmethod
    def path_for(directory: Path, first_id: int) -> Path:
        """Where a file that begins with this id belongs."""
        day = datetime.fromtimestamp(first_id / 1e6, UTC).strftime("%Y-%m-%d")
        return directory / f"{day}-{first_id}.db"

    @property
    def day_end_us(self) -> int:
        """Its lines are not younger than this."""
        return (self.first_id // DAY_US + 1) * DAY_US

    def remove(self) -> None:
        """Delete it with its companions. Idempotent."""
        for suffix in _COMPANIONS:
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Rename it, so that it is kept for a look but not read."""
        for suffix in _COMPANIONS:
            file = self.path.with_name(self.path.name + suffix)
            if file.exists():
                file.rename(self.path.with_name(f"{self.path.name}.damaged{suffix}"))


def list_segments(directory: Path) -> list[SegmentFile]:
    """The files of a store, oldest first; empty where there is no store."""
    found = []
    for path in directory.glob("*.db"):
        name = _NAME.fullmatch(path.name)
        if name is not None:
            found.append(SegmentFile(path, int(name[1]), _size(path)))
    return sorted(found, key=lambda file: file.first_id)


def _size(path: Path) -> int:
    """Bytes of a file with its companions; 0 for what vanished meanwhile."""
    total = 0
    for suffix in _COMPANIONS:
        try:
            total += path.with_name(path.name + suffix).stat().st_size
        except FileNotFoundError:
            continue
    return total


def expired(
    files: Sequence[SegmentFile], *, now_us: int, retention_us: int, max_bytes: int
) -> Iterator[tuple[SegmentFile, str]]:
    """Files to remove, oldest first, each with its reason: ``age`` or ``size``.

    The newest file never goes for its size: a store smaller than one file would keep nothing.
    """
    total = sum(file.size_bytes for file in files)
    for file in files:
        if file.day_end_us < now_us - retention_us:
            reason = "age"
        elif total > max_bytes and file is not files[-1]:
            reason = "size"
        else:
            break
        total -= file.size_bytes
        yield file, reason
