"""Collects tables for people and raw data for machines."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path


class Report:
    """What one run of the benchmarks found."""

    def __init__(self) -> None:
        self._tables: list[str] = []
        self._raw: dict[str, object] = {
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}",
            "python": platform.python_version(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "load average": os.getloadavg(),
        }

    def table(self, title: str, head: list[str], rows: list[list[str]]) -> None:
        """Print a table at once and keep it."""
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = [
            "| "
            + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            + " |"
            for row in [head, ["-" * width for width in widths], *rows]
        ]
        text = f"\n{title}\n\n" + "\n".join(lines)
        print(text, flush=True)
        self._tables.append(text)

    def raw(self, key: str, value: object) -> None:
        """Keep the measurements behind a table."""
        self._raw[key] = value

    def save(self, folder: Path) -> Path:
        """Write everything; return the file of the raw data."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        (folder / f"{stem}.md").write_text("\n".join(self._tables) + "\n")
        raw = folder / f"{stem}.json"
        raw.write_text(json.dumps(self._raw, indent=1))
        return raw
