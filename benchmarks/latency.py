"""Added latency: one caller, a function URL against calling the handler's process directly.

The direct call is the platform's own runtime in a plain child process, driven over a socket pair
by a blocking caller: the same frames, handler and event, and nothing between. Hot calls follow
each other at once; frozen ones come after a pause in which the platform has stopped the idle
environment's processes. The direct calls are paused alike: caches cool down for both.
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pilotlight_guest
from benchmarks import functions
from benchmarks.load import BODY
from benchmarks.report import Report
from pilotlight.testing.platform import running_platform
from pilotlight_guest.frames import (
    HEADER,
    INIT,
    INIT_DONE,
    INVOKE,
    READY,
    RESULT,
    frame,
    invoke_body,
)

PAUSE_S = 0.3
"""Longer than the idle time after which the platform freezes (0.1 s) and its sweep."""
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    "from pilotlight_guest.python.runtime import main; main(int(sys.argv[2]))"
)
_HEAD = "\0".join(
    ["request", "arn:aws:lambda:us-east-1:000000000000:function:direct", "", "", "", ""]
)
Call = Callable[[], None]


def measure(report: Report, *, hot: int, frozen: int) -> None:
    """Time direct and platform calls in turn, and report medians and their ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running_platform(folder / "data") as platform:
            api = functions.client(platform)
            functions.deploy(api, "latency", functions.ECHO_URL)
            url = functions.public_url(api, "latency")
            with _direct(folder) as direct, _through(url) as through:
                times = _times({"direct": direct, "function URL": through}, hot, frozen)
    rows = []
    for state in ("hot", "frozen"):
        ours = times["function URL", state]
        base = times["direct", state]
        report.raw(f"latency/{state}", {"direct": base, "function URL": ours})
        p50_us, base_us = (statistics.median(values) * 1e6 for values in (ours, base))
        rows.append(
            [
                state,
                f"{base_us:.0f}",
                f"{p50_us:.0f}",
                f"{p50_us - base_us:.0f}",
                f"{p50_us / base_us:.2f}",
            ]
        )
    report.table(
        "added latency, 1 connection",
        ["environment", "direct p50 µs", "function URL p50 µs", "added µs", "x direct"],
        rows,
    )


def _times(calls: dict[str, Call], hot: int, frozen: int) -> dict[tuple[str, str], list[float]]:
    times: dict[tuple[str, str], list[float]] = {}
    for call in calls.values():
        _timed(call, 200)  # warm up
    for _ in range(10):  # in turn, so that a disturbance meets both
        for name, call in calls.items():
            times.setdefault((name, "hot"), []).extend(_timed(call, hot // 10))
    for _ in range(frozen):
        time.sleep(PAUSE_S)
        for name, call in calls.items():
            times.setdefault((name, "frozen"), []).extend(_timed(call, 1))
    return times


def _timed(call: Call, count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        began_s = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began_s)
    return seconds


@contextlib.contextmanager
def _through(url: str) -> Iterator[Call]:
    """Calls over one kept connection; a raw socket, so that the client costs next to nothing."""
    where = urllib.parse.urlsplit(url)
    request = (
        f"POST {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
    ).encode()
    with socket.create_connection((where.hostname, where.port or 80), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def call() -> None:
            connection.sendall(request)
            answer = connection.recv(65536)
            while not answer.endswith(BODY[-8:].encode()):
                more = connection.recv(65536)
                if not more or not answer.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"the function URL answered {answer[:200]!r}")
                answer += more

        yield call


@contextlib.contextmanager
def _direct(folder: Path) -> Iterator[Call]:
    """Calls of the same handler in a plain process."""
    (folder / "app.py").write_text(functions.ECHO_URL)
    ours, theirs = socket.socketpair()
    guest = str(Path(pilotlight_guest.__file__).parent.parent)
    command = [sys.executable, "-c", _BOOT, guest, str(theirs.fileno())]
    with ours, theirs, subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
        try:
            _expect(ours, READY)
            ours.sendall(frame(0, INIT, _init(folder)))
            _expect(ours, INIT_DONE)
            event = json.dumps(
                {"version": "2.0", "headers": {"x": "y" * 600}, "body": BODY}
            ).encode()
            body = invoke_body(int((time.time() + 3600) * 1000), _HEAD.encode(), event)
            request = frame(1, INVOKE, body)

            def call() -> None:
                ours.sendall(request)
                _expect(ours, RESULT)

            yield call
        finally:
            process.kill()


def _init(folder: Path) -> bytes:
    document = {
        "handler": "app.handler",
        "environment": {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.11"},
        "task_root": str(folder),
        "function_name": "direct",
        "function_version": "$LATEST",
        "memory_mib": 512,
        "log_group": "/aws/lambda/direct",
        "log_stream": "direct",
        "log_format": "Text",
        "log_level": None,
    }
    return json.dumps(document).encode()


def _expect(channel: socket.socket, wanted: int) -> None:
    data = channel.recv(65536)
    while data:
        if len(data) >= HEADER.size:
            length, _, kind = HEADER.unpack_from(data)
            if len(data) >= HEADER.size + length:
                if kind == wanted:
                    return
                break
        data += channel.recv(65536)
    raise RuntimeError(f"the runtime answered {data[:200]!r}, not a frame of type {wanted}")
