"""A real Pilotlight as a child process, for end-to-end tests and benchmarks."""

from __future__ import annotations

import contextlib
import http.client
import os
import select
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ACCESS_KEY = "AKIAPILOTLIGHTTEST00"
SECRET_KEY = "only-for-tests-0123456789abcdefghijklmnop"  # noqa: S105  (given to the child below)


class PlatformFailed(RuntimeError):
    """The platform ended or did not become ready; the message has what it said."""


@dataclass(slots=True)
class Platform:
    """A running platform.

    Attributes:
        url: base URL of the API, as the platform printed it.
        stderr: file that collects its diagnosis.
    """

    process: subprocess.Popen[str]
    url: str
    data_dir: Path
    stderr: Path

    @property
    def pid(self) -> int:
        """Process id of the main process."""
        return self.process.pid

    def credentials(self) -> dict[str, str]:
        """Keyword arguments for a boto3 client of this platform."""
        return {
            "endpoint_url": self.url,
            "region_name": "us-east-1",
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET_KEY,
        }

    def get(self, path: str) -> tuple[int, bytes]:
        """An unsigned GET."""
        where = urllib.parse.urlsplit(self.url)
        with contextlib.closing(
            http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
        ) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def tree(self) -> list[int]:
        """Process ids of the platform and of all its descendants, sandboxes included."""
        return process_tree(self.pid)

    def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM, wait, return the exit code; SIGKILL and raise when it takes too long."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired as exc:
            self.kill()
            said = self.stderr.read_text(errors="replace")[-4000:]
            raise PlatformFailed(f"did not end within {within_s} s of SIGTERM\n{said}") from exc

    def kill(self) -> None:
        """SIGKILL to the main process alone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        self.close()

    def close(self) -> None:
        """Close our end of its standard output."""
        if self.process.stdout is not None:
            self.process.stdout.close()


def process_tree(pid: int) -> list[int]:
    """``pid`` and all its descendants that live now."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in task.read_text().split()]
    return found


def start_platform(
    data_dir: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    ready_within_s: float = 60.0,
) -> Platform:
    """Start ``pilotlight up`` on free loopback ports and wait until it is ready.

    Args:
        data_dir: its data directory.
        arguments: further arguments of ``up``.
        environment: further variables.
        prefix: a command to run it with, for example to change the user.
        ready_within_s: patience.

    Raises:
        PlatformFailed: it ended before it was ready, or took too long.
    """
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    stderr = data_dir.parent / f"{data_dir.name}.stderr"
    command = [
        *prefix, sys.executable, "-m", "pilotlight", "up", "--data-dir", str(data_dir),
        "--listen", "127.0.0.1:0", "--url-listen", "127.0.0.1:0", *arguments,
    ]  # fmt: skip
    variables = {
        **os.environ,  # noqa: TID251  (a child of a test inherits what the test has)
        "PILOTLIGHT_ROOT_ACCESS_KEY_ID": ACCESS_KEY,
        "PILOTLIGHT_ROOT_SECRET_ACCESS_KEY": SECRET_KEY,
        **(environment or {}),
    }
    with stderr.open("a") as errors:
        process = subprocess.Popen(  # noqa: S603  (our own command)
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=variables,
            cwd=data_dir.parent,
        )
    line = _first_line(process, ready_within_s)
    if not line.startswith("ready: "):
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        said = stderr.read_text(errors="replace")[-6000:]
        raise PlatformFailed(f"not ready, said {line!r}, exit code {process.returncode}\n{said}")
    return Platform(process, line.removeprefix("ready: ").strip(), data_dir, stderr)


def _first_line(process: subprocess.Popen[str], within_s: float) -> str:
    if process.stdout is None:
        raise PlatformFailed("no standard output")
    readable, _, _ = select.select([process.stdout], [], [], within_s)
    return process.stdout.readline() if readable else ""


@contextlib.contextmanager
def running_platform(
    data_dir: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Platform]:
    """A platform for the length of a ``with`` block; ended with SIGTERM, and checked to end."""
    platform = start_platform(data_dir, *arguments, environment=environment)
    try:
        yield platform
    finally:
        code = platform.stop()
        platform.close()
    if code != 0:
        raise PlatformFailed(f"exit code {code}\n{platform.stderr.read_text()[-4000:]}")


def eventually(within_s: float = 10.0, every_s: float = 0.02) -> Iterator[None]:
    """Yield again and again until the caller leaves its loop.

    Example: ``for _ in eventually(5): if done(): break``.

    Raises:
        TimeoutError: the loop was not left in time.
    """
    end = time.monotonic() + within_s  # noqa: TID251  (a real edge)
    while time.monotonic() < end:  # noqa: TID251
        yield
        time.sleep(every_s)
    raise TimeoutError(f"not within {within_s} s")
