"""Closed-loop HTTP load by wrk, with CPU per request of the served process trees."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from benchmarks.cpu import cpu_seconds

BODY = '{"name":"world","n":1,"pad":"0123456789abcdefghijklmnopq"}'
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True, slots=True)
class Load:
    """What one run showed.

    Attributes:
        rate: answers per second.
        p50_ms, p99_ms: latency.
        cpu_us: CPU microseconds per request over the served trees; ``main_us``, ``threads_us``
            and ``children_us`` are its parts: first threads, other threads, child processes.
        errors: answers that were not 2xx, and socket errors.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    main_us: float
    threads_us: float
    children_us: float
    errors: int


def script(body: str = BODY, headers: Sequence[tuple[str, str]] = ()) -> str:
    """A wrk script that posts one body."""
    lines = [
        'wrk.method="POST"',
        f"wrk.body='{body}'",
        'wrk.headers["Content-Type"]="application/json"',
    ]
    lines += [f"wrk.headers['{name}']='{value}'" for name, value in headers]
    return "\n".join(lines)


def run(url: str, *, connections: int, seconds: int, served: Sequence[int], text: str = "") -> Load:
    """Load ``url`` for some seconds; ``served`` are the roots of the trees whose CPU counts."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(text or script())
        file.flush()
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--latency",
            "-s",
            file.name,
            url,
        ]
        before = cpu_seconds(*served)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = cpu_seconds(*served)
    said = done.stdout
    requests = int(_find(r"(\d+) requests in", said))
    failed = sum(int(x) for x in re.findall(r"Non-2xx or 3xx responses: (\d+)", said))
    failed += sum(
        int(x)
        for line in re.findall(r"Socket errors: (.*)", said)
        for x in re.findall(r"\d+", line)
    )
    main_us, threads_us, children_us = (
        (after_s - before_s) / max(1, requests) * 1e6
        for before_s, after_s in zip(astuple(before), astuple(after), strict=True)
    )
    return Load(
        rate=float(_find(r"Requests/sec:\s+([\d.]+)", said)),
        p50_ms=_latency(said, 50),
        p99_ms=_latency(said, 99),
        cpu_us=main_us + threads_us + children_us,
        main_us=main_us,
        threads_us=threads_us,
        children_us=children_us,
        errors=failed,
    )


def _find(pattern: str, said: str) -> str:
    found = re.search(pattern, said)
    if found is None:
        raise RuntimeError(f"wrk said something else: {said}")
    return found[1]


def _latency(said: str, percent: int) -> float:
    found = re.search(rf"\n\s+{percent}%\s+([\d.]+)(us|ms|s|m)\b", said)
    return float(found[1]) * _UNITS[found[2]] if found else float("nan")


def wrk_is_there() -> bool:
    """Whether the load generator is installed."""
    return any(Path(folder, "wrk").exists() for folder in ("/usr/bin", "/usr/local/bin"))
