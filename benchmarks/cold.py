"""Cold starts at the client, less a warm call, against ``python3 -I -c pass`` in the same run.

Each sample is a version that never ran on this worker, its code already in the worker's cache,
512 MB. A *hit* finds a blank sandbox waiting, a *miss* is forked from the zygote, *no zygote* is
the first invocation after a start with no blanks.
"""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Any

from benchmarks import functions
from benchmarks.report import Report
from pilotlight.testing.platform import Platform, running_platform

BODY = b'{"x":1}'


def bare_interpreter() -> str:
    """The program that starts fastest of those that ``python3`` may mean here.

    A script that looks for the interpreter, or start-up files of other packages, would make the
    base slow and our ratio good.
    """
    candidates = {str(Path(sys.executable).resolve()), "/usr/bin/python3"}
    times = {
        path: statistics.median(interpreter(5, path)) for path in candidates if Path(path).exists()
    }
    return min(times, key=times.__getitem__)


class Caller:
    """One kept connection; measures from the last byte sent to the first byte back."""

    def __init__(self, url: str) -> None:
        where = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
        self.connection.connect()

    def time_ms(self, path: str) -> float:
        """Post to ``path``; milliseconds until the answer's head is there."""
        self.connection.putrequest("POST", path)
        self.connection.putheader("content-type", "application/json")
        self.connection.putheader("content-length", str(len(BODY)))
        self.connection.endheaders(BODY)
        started = time.perf_counter()
        answer = self.connection.getresponse()
        taken = (time.perf_counter() - started) * 1e3
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body!r}")
        return taken


def paths_of(api: Any, count: int) -> list[tuple[str, str]]:
    """Deploy ``count`` different functions; base URL and path of each one's function URL."""
    found = []
    for number in range(count):
        name = f"cold-{number}"
        functions.deploy(api, name, f"# {number}\n{functions.ECHO_URL}")
        parts = urllib.parse.urlsplit(functions.public_url(api, name))
        found.append((f"{parts.scheme}://{parts.netloc}", parts.path))
    return found


def samples(platform: Platform, count: int, pause_s: float) -> list[float]:
    """Cold less warm, for ``count`` functions, ``pause_s`` apart so that a pool can refill."""
    api = functions.client(platform)
    targets = paths_of(api, count)
    caller = Caller(targets[0][0])
    taken = []
    for _, path in targets:
        time.sleep(pause_s)
        cold = caller.time_ms(path)
        warm = min(caller.time_ms(path) for _ in range(3))
        taken.append(cold - warm)
    return taken


def interpreter(count: int, path: str) -> list[float]:
    """Milliseconds to start a bare interpreter and end it."""
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        subprocess.run([path, "-I", "-c", "pass"], check=True)
        taken.append((time.perf_counter() - started) * 1e3)
    return taken


def sustained(platform: Platform, count: int) -> float:
    """Cold starts per second when functions that never ran are called one after another."""
    api = functions.client(platform)
    targets = paths_of(api, count)
    caller = Caller(targets[0][0])
    started = time.perf_counter()
    for _, path in targets:
        caller.time_ms(path)
    return count / (time.perf_counter() - started)


def measure(report: Report, *, count: int) -> None:
    """All kinds of cold start, interleaved with the bare interpreter."""
    bare_path = bare_interpreter()
    series: dict[str, list[float]] = {"python3 -I -c pass": interpreter(count, bare_path)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running_platform(folder / "hit") as platform:
            series["pool hit"] = samples(platform, count, 0.3)
        series["python3 -I -c pass"] += interpreter(count, bare_path)
        with running_platform(
            folder / "miss", environment={"PILOTLIGHT_BLANK_POOL": "0"}
        ) as platform:
            samples_of_first = samples(platform, count + 1, 0.02)
            series["pool miss (fork)"] = samples_of_first[1:]
        with running_platform(
            folder / "rate", environment={"PILOTLIGHT_BLANK_POOL": "0"}
        ) as platform:
            rate = sustained(platform, count)
        series["no zygote"] = []
        for number in range(3):
            folder_n = folder / f"first{number}"
            with running_platform(folder_n, environment={"PILOTLIGHT_BLANK_POOL": "0"}) as platform:
                series["no zygote"] += samples(platform, 1, 0.0)
    bare = statistics.median(series["python3 -I -c pass"])
    report.table(
        "cold start, container",
        ["path", "n", "min ms", "p50 ms", "p90 ms", "x python3 -I -c pass"],
        [_row(name, values, bare) for name, values in series.items()],
    )
    report.table(
        "sustained cold starts", ["path", "per second"], [["fork, one client", f"{rate:.0f}"]]
    )
    report.raw("cold", series)
    report.raw("cold/sustained per second", rate)


def _row(name: str, values: list[float], bare: float) -> list[str]:
    ordered = sorted(values)
    p90 = ordered[int((len(ordered) - 1) * 0.9)]
    middle = statistics.median(ordered)
    return [
        name,
        str(len(ordered)),
        f"{ordered[0]:.2f}",
        f"{middle:.2f}",
        f"{p90:.2f}",
        f"{middle / bare:.2f}",
    ]
