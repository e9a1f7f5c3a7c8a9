"""CPU time and memory of process trees, from /proc."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pilotlight.testing.platform import process_tree


def cpu_seconds(*roots: int) -> float:
    """CPU seconds that the trees under ``roots`` have used so far (living threads only)."""
    used = 0
    for root in roots:
        for pid in process_tree(root):
            for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError):
                    used += int(task.read_text().split()[0])
    return used / 1e9


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
