"""What the suite of sandbox drivers is made of.

A function to run, the worker's part of the protocol, cancellation at each await, and counts of what
must not leak.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Awaitable, Callable, Generator
from enum import StrEnum
from pathlib import Path
from typing import Any

from pilotlight.model.ids import Digest
from pilotlight.ports.sandbox import Sandbox, SandboxDriver, SandboxSpec
from pilotlight_guest.frames import (
    ERROR,
    HEADER,
    INIT,
    INIT_DONE,
    INVOKE,
    READY,
    RESULT,
    frame,
    invoke_body,
)

WITHIN_S = 10.0
"""Longest wait for anything that must happen; only reached by a driver that fails."""


class Ability(StrEnum):
    """What a driver may lack, because its kind of sandbox cannot have it."""

    RUNS_CODE = "runs the function's code"
    SIGNALS = "tells a signal from an exit"
    LOGS = "has a log pipe"
    FREEZES = "can stop and resume its processes"
    USAGE = "measures memory and CPU"
    RUNTIMES = "refuses a runtime that the host lacks"
    ADOPTS = "finds what a former worker left"


class Behaviour(StrEnum):
    """What the function in a sandbox does; the handler ``main.<name>`` of the suite's code."""

    ECHO = "echo"
    EXIT = "exit"
    KILLED = "killed"
    SPIN = "spin"
    STUBBORN = "stubborn"
    TALK = "talk"
    FAIL = "fail"


SpecFactory = Callable[[Behaviour, str], SandboxSpec]
DriverFactory = Callable[[], Awaitable[SandboxDriver]]

CODE = """\
import os, signal, sys


def echo(event, context):
    return event


def exit(event, context):
    sys.exit(7)


def killed(event, context):
    os.kill(os.getpid(), signal.SIGKILL)


def spin(event, context):
    while True:
        pass


def stubborn(event, context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return "deaf"


def talk(event, context):
    print("line on stdout")
    print("line on stderr", file=sys.stderr)
    return None


def fail(event, context):
    raise ValueError("wanted")
"""
"""The function of the suite, one handler for each `Behaviour`."""


def install_code(code_root: Path, source: str = CODE) -> Digest:
    """Put a function of one file, ``main.py``, where a code cache would; return its digest."""
    digest = Digest(hashlib.sha256(source.encode()).hexdigest())
    tree = code_root / digest
    tree.mkdir(parents=True, exist_ok=True)
    tree.chmod(0o755)
    (tree / "main.py").write_text(source)
    (tree / "main.py").chmod(0o644)
    return digest


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def child_processes() -> frozenset[int]:
    """Ids of this process's children, zombies included."""
    own = os.getpid()
    found = set[int]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == own:
                    found.add(int(entry.name))
    return frozenset(found)


async def eventually(check: Callable[[], bool], *, within_s: float = WITHIN_S) -> None:
    """Return when ``check`` is true.

    Raises:
        TimeoutError: it stayed false.
    """
    async with asyncio.timeout(within_s):
        while not check():  # noqa: ASYNC110  # what it waits for sends no event
            await asyncio.sleep(0.005)


class CancelledAt:
    """Awaits a coroutine and cancels its task at the coroutine's n-th suspension.

    Cancelling by suspension, not by time, reaches every ``await`` of a driver exactly once.
    ``suspensions`` tells afterwards how often it was suspended.
    """

    def __init__(self, inner: Awaitable[Any], at: int) -> None:
        self._inner = inner
        self._at = at
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._inner.__await__()
        resume: Callable[[], Any] = lambda: next(steps)  # noqa: E731  # replaced in the loop
        while True:
            try:
                waits_for = resume()
            except StopIteration as stop:
                return stop.value
            if self.suspensions == self._at:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            self.suspensions += 1
            resume = yield from self._wait(steps, waits_for)

    @staticmethod
    def _wait(steps: Generator[Any, Any, Any], waits_for: object) -> Generator[Any, Any, Any]:
        try:
            yield waits_for
        except BaseException as exc:  # noqa: BLE001  # handed on to the coroutine unchanged
            error = exc
            return lambda: steps.throw(error)
        return lambda: next(steps)


async def cancelled_at(inner: Awaitable[Any], at: int) -> bool:
    """Run ``inner`` in a task of its own, cancelled at suspension ``at``; whether it completed."""
    counted = CancelledAt(inner, at)

    async def run() -> None:
        await counted

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
    return not task.cancelled() and counted.suspensions <= at


class Guest:
    """The worker's part of the protocol, as much as a test needs.

    Args:
        sandbox: fresh out of ``create``; its READY frame is still on the channel.
        task_root: folder of the code as the runtime sees it.
        function: name in ``main.py``, a `Behaviour` of the suite's code or one of the test's own.
    """

    def __init__(self, sandbox: Sandbox, task_root: str, function: str) -> None:
        self.sandbox = sandbox
        self._task_root = task_root
        self._function = function
        self._sequence = 0

    async def receive(self) -> tuple[int, int, bytes]:
        """The next frame: sequence, type, body.

        Raises:
            EOFError: the sandbox is dead.
        """
        async with asyncio.timeout(WITHIN_S):
            length, sequence, kind = HEADER.unpack(await self._exactly(HEADER.size))
            return sequence, kind, await self._exactly(length)

    async def _exactly(self, count: int) -> bytes:
        data = b""
        loop = asyncio.get_running_loop()
        while len(data) < count:
            try:
                more = await loop.sock_recv(self.sandbox.channel, count - len(data))
            except ConnectionError:
                more = b""
            if not more:
                raise EOFError
            data += more
        return data

    async def initialize(self) -> None:
        """Take READY, send INIT, take INIT_DONE."""
        first = await self.receive()
        assert first == (0, READY, b""), f"expected READY, got {first}"
        await self.send_init()
        answer = await self.receive()
        assert answer == (0, INIT_DONE, b""), f"expected INIT_DONE, got {answer}"

    async def send_init(self) -> None:
        """Tell the runtime its function."""
        init = {
            "handler": f"main.{self._function}",
            "environment": {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.11", "TZ": ":UTC"},
            "task_root": self._task_root,
            "function_name": "suite",
            "function_version": "$LATEST",
            "memory_mib": 128,
            "log_group": "/aws/lambda/suite",
            "log_stream": "stream",
            "log_format": "Text",
            "log_level": None,
        }
        await self._send(INIT, json.dumps(init).encode())

    async def start_invoke(self, event: object) -> int:
        """Send an event; the sequence its answer will have."""
        self._sequence += 1
        head = "\0".join(["request-1", "arn:aws:lambda:us-east-1:0:function:suite", *[""] * 4])
        body = invoke_body(4_000_000_000_000, head.encode(), json.dumps(event).encode())
        await self._send(INVOKE, body)
        return self._sequence

    async def invoke(self, event: object) -> object:
        """Send an event and return the result.

        Raises:
            EOFError: the sandbox died.
        """
        wanted = await self.start_invoke(event)
        sequence, kind, body = await self.receive()
        assert sequence == wanted
        assert kind in {RESULT, ERROR}
        return json.loads(body)

    async def _send(self, kind: int, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(WITHIN_S):
            await loop.sock_sendall(self.sandbox.channel, frame(self._sequence, kind, body))
