"""Other servers with the same echo, started beside the platform for one run."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FUNCTIONS_FRAMEWORK = """
import functions_framework

@functions_framework.http
def echo(request):
    return request.get_json()
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A started server."""

    name: str
    url: str
    pid: int


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def functions_framework(folder: Path) -> Iterator[Peer]:
    """functions-framework as its documentation serves it: behind gunicorn with threads."""
    (folder / "main.py").write_text(FUNCTIONS_FRAMEWORK)
    port = free_port()
    command = [sys.executable, "-m", "functions_framework", "--target", "echo", "--port", str(port)]
    command += ["--host", "127.0.0.1"]
    with child(command, folder) as process:
        wait_for(port)
        yield Peer("functions-framework (gunicorn)", f"http://127.0.0.1:{port}/", process.pid)


@contextlib.contextmanager
def floor() -> Iterator[Peer]:
    """See `benchmarks.floor`."""
    command = [sys.executable, "-m", "benchmarks.floor"]
    with child(command, Path.cwd(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Peer("floor (raw protocol, socket echo)", f"http://127.0.0.1:{port}/", process.pid)


@contextlib.contextmanager
def child(
    command: list[str], folder: Path, stdout: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block."""
    process = subprocess.Popen(command, cwd=folder, stdout=stdout, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_for(port: int) -> None:
    """Return once an HTTP server answers on a port; RuntimeError after 15 s."""
    for _ in range(300):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("POST", "/", b"{}", {"content-type": "application/json"})
            connection.getresponse().read()
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing answers on port {port}")
