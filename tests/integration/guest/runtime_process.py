"""A runtime as a plain process, and the worker's end of its channel, without asyncio."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import pilotlight_guest
from pilotlight_guest.frames import (
    HEADER,
    INIT,
    INIT_DONE,
    INVOKE,
    READY,
    SHUTDOWN,
    frame,
    invoke_body,
)

GUEST_ROOT = Path(pilotlight_guest.__file__).parent.parent
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
ARN = "arn:aws:lambda:us-east-1:000000000000:function:fn"
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    "from pilotlight_guest.python.runtime import main; main(int(sys.argv[2]))"
)


def interpreter(version: str) -> str | None:
    """An interpreter of this version on this machine, None without."""
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return sys.executable
    built = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    found = str(built[-1]) if built else shutil.which(f"python{version}")
    if found is None:
        return None
    asked = subprocess.run(
        [found, "-c", "import sys; print(sys.version_info[:2])"],
        capture_output=True,
        check=False,
        text=True,
    )
    return found if asked.stdout.strip() == str(tuple(map(int, version.split(".")))) else None


class Runtime:
    """Started on a folder of code; use as a context manager."""

    def __init__(self, executable: str, task_root: Path) -> None:
        self._task_root = task_root
        self.sequence = 0
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(15)
        with theirs:
            self.process = subprocess.Popen(
                [executable, "-I", "-S", "-B", "-c", _BOOT, str(GUEST_ROOT), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={"LANG": "C.UTF-8", "LEFT_OVER": "1"},
                pass_fds=[theirs.fileno()],
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def receive(self) -> tuple[int, int, bytes]:
        length, sequence, kind = HEADER.unpack(self._exactly(HEADER.size))
        return sequence, kind, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                more = self.channel.recv(count - len(data))
            except ConnectionError:
                more = b""
            if not more:
                raise EOFError
            data += more
        return bytes(data)

    def initialize(self, handler: str, **changes: Any) -> tuple[int, int, bytes]:
        """READY, INIT and its answer."""
        assert self.receive() == (0, READY, b"")
        init = {
            "handler": handler,
            "environment": {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.11", "TZ": ":UTC"},
            "task_root": str(self._task_root),
            "function_name": "fn",
            "function_version": "$LATEST",
            "memory_mib": 128,
            "log_group": "/aws/lambda/fn",
            "log_stream": "stream",
            "log_format": "Text",
            "log_level": None,
            **changes,
        }
        self.channel.sendall(frame(0, INIT, json.dumps(init).encode()))
        return self.receive()

    def start(self, handler: str, **changes: Any) -> None:
        assert self.initialize(handler, **changes) == (0, INIT_DONE, b"")

    def invoke_frame(self, payload: bytes, trace: str = "") -> bytes:
        self.sequence += 1
        head = "\0".join([f"id-{self.sequence}", ARN, trace, "", "", ""]).encode()
        return frame(self.sequence, INVOKE, invoke_body(4_000_000_000_000, head, payload))

    def invoke(self, event: object = None, trace: str = "") -> Any:
        """The answer to an event, result or error payload, decoded."""
        self.channel.sendall(self.invoke_frame(json.dumps(event).encode(), trace))
        sequence, _, body = self.receive()
        assert sequence == self.sequence
        return json.loads(body)

    def shut_down(self) -> None:
        self.channel.sendall(frame(0, SHUTDOWN))

    def ended(self) -> tuple[int, str]:
        """Exit status and everything it wrote, once it has ended."""
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)
        output, _ = self.process.communicate(timeout=15)
        return self.process.returncode, output.decode()
