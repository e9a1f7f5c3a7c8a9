"""Running a small program on hostile data in a process that can do almost nothing.

The parent's half: starts, feeds, bounds and ends the process. What the process gives up is in
``confined_child``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from pilotlight.kernel.confined_child import NOT_CONFINED

_CHILD = Path(__file__).with_name("confined_child.py")
_STDERR_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Confinement:
    """Limits of a confined process.

    Attributes:
        wall_s: time after which it is killed.
        cpu_s: processor time after which the kernel kills it.
        memory_bytes: address space, the interpreter's own 30 MB included.
        file_bytes: largest file it may write; 0 for none.
        open_files: descriptors.
        output_bytes: most it may answer; with more it is killed.
        writes: it may write below its working directory; else it sees no files at all.
    """

    wall_s: float = 60.0
    cpu_s: int = 30
    memory_bytes: int = 1024 * 1024 * 1024
    file_bytes: int = 0
    open_files: int = 32
    output_bytes: int = 64 * 1024
    writes: bool = False


class ConfinedFailure(RuntimeError):
    """The process gave no answer.

    Args:
        reason: ``timeout``, ``output``, ``crash`` or ``unconfined`` (the host cannot confine it).
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"the confined process failed ({reason}): {detail}")
        self.reason = reason


async def run_confined(
    program: Path,
    *arguments: str,
    interpreter: Path,
    cwd: Path,
    stdin: int,
    limits: Confinement,
) -> bytes:
    """Run ``main(arguments)`` of a program file confined; return what it wrote to its output.

    The process and all it could have started are gone when this returns or raises, also when it
    is cancelled.

    Args:
        program: a file of standard-library Python that defines ``main(arguments) -> int``.
        arguments: given to ``main``; must not be secrets.
        interpreter: the Python to run it with, 3.9 or later.
        cwd: working directory; the only files it can see.
        stdin: descriptor it reads from; stays open here.
        limits: what it may use.

    Raises:
        ConfinedFailure: it exited with another status than 0, was killed, or said too much.
    """
    process = await asyncio.create_subprocess_exec(
        str(interpreter),
        *("-I", "-S", "-B", "-X", "utf8", str(_CHILD), _encoded(limits)),
        str(program),
        *arguments,
        cwd=cwd,
        env={},
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limits.wall_s):
            output, complaint = await _collect(process, limits.output_bytes)
            status = await process.wait()
    except TimeoutError:
        raise ConfinedFailure("timeout", f"not done in {limits.wall_s} s") from None
    finally:
        await _end(process)
    if len(output) > limits.output_bytes:
        raise ConfinedFailure("output", f"more than {limits.output_bytes} bytes")
    if status == 0:
        return output
    reason = "unconfined" if status == NOT_CONFINED else "crash"
    raise ConfinedFailure(reason, f"status {status}: {complaint.decode('utf-8', 'replace')}")


def _encoded(limits: Confinement) -> str:
    return json.dumps(
        {
            "cpu_s": limits.cpu_s,
            "memory_bytes": limits.memory_bytes,
            "file_bytes": limits.file_bytes,
            "open_files": limits.open_files,
            "writes": limits.writes,
        }
    )


async def _collect(process: asyncio.subprocess.Process, limit: int) -> tuple[bytes, bytes]:
    """Both outputs to their end; a longer one is cut and the process killed."""
    if process.stdout is None or process.stderr is None:
        raise AssertionError("the process was started with pipes")
    async with asyncio.TaskGroup() as group:
        output = group.create_task(_read(process.stdout, limit + 1, process))
        complaint = group.create_task(_read(process.stderr, _STDERR_BYTES, process))
    return output.result(), complaint.result()


async def _read(
    stream: asyncio.StreamReader, limit: int, process: asyncio.subprocess.Process
) -> bytes:
    kept = bytearray()
    while chunk := await stream.read(65536):
        kept += chunk[: limit - len(kept)]
        if len(kept) >= limit:
            _kill(process)
    return bytes(kept)


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill and reap; the pipes are read to their end so that nothing of them stays open.

    Not bounded by a timeout: a killed process ends.
    """
    _kill(process)
    for stream in (process.stdout, process.stderr):
        while stream is not None and await stream.read(65536):
            pass
    await process.wait()
