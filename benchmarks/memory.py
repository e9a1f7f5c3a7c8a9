"""Memory of an idle environment: MemAvailable over many of them, and proportional memory."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import functions
from benchmarks.cpu import available_kib, pss_kib
from benchmarks.report import Report
from pilotlight.testing.platform import running_platform

SLEEPER = (
    "import time\ndef handler(event, context):\n    time.sleep(event.get('s', 0))\n    return 1\n"
)


def measure(report: Report, *, count: int) -> None:
    """Bring up ``count`` environments of one function at once, let them idle, compare."""
    with tempfile.TemporaryDirectory() as name, running_platform(Path(name) / "data") as platform:
        api = functions.client(platform)
        functions.deploy(api, "sleeper", SLEEPER, MemorySize=128)
        api.invoke(FunctionName="sleeper", Payload=b"{}")
        time.sleep(1)
        before_pids = set(platform.tree())
        before = available_kib()
        _all_at_once(api, count)
        time.sleep(3)
        after = available_kib()
        new = [pid for pid in platform.tree() if pid not in before_pids]
        each = (before - after) / count / 1024
        pss = sum(pss_kib(pid) for pid in new) / count / 1024
        report.table(
            "idle environments",
            ["environments", "processes", "MemAvailable, MiB each", "PSS, MiB each"],
            [[str(count), str(len(new)), f"{each:.2f}", f"{pss:.2f}"]],
        )
        report.raw("memory", {"count": count, "mem_available_mib": each, "pss_mib": pss})


def _all_at_once(api: Any, count: int) -> None:
    def one(_: int) -> None:
        answer = api.invoke(FunctionName="sleeper", Payload=b'{"s":6}')
        if "FunctionError" in answer:
            raise RuntimeError(answer["Payload"].read())

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(one, range(count)))
