"""CPU time and memory of process trees, from /proc."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from pilotlight.testing.platform import process_tree


@dataclass(frozen=True, slots=True)
class CpuSeconds:
    """CPU time of some process trees so far (living threads only).

    Attributes:
        main: of the first threads of the roots.
        threads: of the roots' other threads.
        children: of all descendants.
    """

    main: float
    threads: float
    children: float


def cpu_seconds(*roots: int) -> CpuSeconds:
    """CPU seconds that the trees under ``roots`` have used so far."""
    main = threads = children = 0
    for root in roots:
        for pid in process_tree(root):
            for task in Path(f"/proc/{pid}/task").glob("*"):
                used = _nanoseconds(task)
                if pid != root:
                    children += used
                elif task.name == str(root):
                    main += used
                else:
                    threads += used
    return CpuSeconds(main / 1e9, threads / 1e9, children / 1e9)


def _nanoseconds(task: Path) -> int:
    with contextlib.suppress(OSError):  # it may have ended meanwhile
        return int((task / "schedstat").read_text().split()[0])
    return 0


def pss_kib(pid: int) -> int:
    """Proportional memory of one process in KiB; 0 when it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def available_kib() -> int:
    """``MemAvailable`` of the host in KiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1])
    raise RuntimeError("no MemAvailable in /proc/meminfo")
