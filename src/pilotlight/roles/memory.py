"""Memory of this host, for the worker's budget and its watch on pressure."""

from __future__ import annotations

from pathlib import Path

_SHARE = 0.8
"""Part of the host's memory that environments may be charged with; the rest is ours and the
kernel's."""


def _read_mib(name: str) -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) // 1024
    return 0


def available_mib() -> int:
    """What could be used now without swapping."""
    return _read_mib("MemAvailable")


def budget_mib() -> int:
    """What all environments together may be charged with."""
    return int(_read_mib("MemTotal") * _SHARE)
