"""What a confined process can and cannot do, tried from inside by hostile programs."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from pathlib import Path

import pytest

from pilotlight.kernel.confined import ConfinedFailure, Confinement, run_confined

pytestmark = pytest.mark.anyio

PRELUDE = """
import ctypes, errno, os, resource, signal, socket, subprocess, sys, time

def tried(action):
    try:
        action()
    except BaseException as error:
        print(type(error).__name__, end="")
    else:
        print("done", end="")
"""


async def run(tmp_path: Path, body: str, limits: Confinement | None = None) -> str:
    program = tmp_path / "program.py"
    code = textwrap.indent(textwrap.dedent(body), "    ")
    program.write_text(f"{PRELUDE}\ndef main(arguments):\n{code}\n    return 0\n")
    cwd = tmp_path / "cwd"
    cwd.mkdir(exist_ok=True)
    stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        output = await run_confined(
            program,
            interpreter=Path(sys.executable),
            cwd=cwd,
            stdin=stdin,
            limits=limits or Confinement(wall_s=15),
        )
    finally:
        os.close(stdin)
    return output.decode()


@pytest.mark.parametrize(
    "action",
    [
        "os.fork()",
        "subprocess.run(['/bin/true'])",
        "os.execv('/bin/true', ['true'])",
        "socket.socket()",
        "os.kill(os.getppid(), 0)",
        "open('/etc/passwd')",
        "os.listdir('/')",
        "open('made', 'w')",
        "os.mkdir('made')",
        "os.setuid(65534) or open('/proc/1/environ')",
        "resource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))",
        "bytearray(2 * 1024 ** 3)",
    ],
)
async def test_what_is_not_needed_is_refused(tmp_path: Path, action: str) -> None:
    said = await run(tmp_path, f"tried(lambda: {action})")
    assert said not in ("", "done")
    assert list((tmp_path / "cwd").iterdir()) == []


async def test_nothing_is_inherited(tmp_path: Path) -> None:
    readable, writable = os.pipe()
    os.set_inheritable(writable, True)  # noqa: FBT003
    try:
        said = await run(
            tmp_path,
            """
            for fd in range(3, 64):
                try:
                    os.fstat(fd)
                except OSError:
                    continue
                print("open", fd)
            print(sorted(os.environ), os.getsid(0) == os.getpid())
            """,
        )
    finally:
        os.close(readable)
        os.close(writable)
    # The interpreter sets its own locale.
    assert said.strip() in ("[] True", "['LC_CTYPE'] True")


async def test_it_has_no_capabilities_and_gets_none(tmp_path: Path) -> None:
    said = await run(
        tmp_path,
        """
        libc = ctypes.CDLL(None)
        print(libc.prctl(39, 0, 0, 0, 0))
        data = (ctypes.c_uint32 * 6)()
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        libc.capget(header, data)
        print(list(data))
        """,
    )
    assert said.split("\n")[:2] == ["1", "[0, 0, 0, 0, 0, 0]"]


async def test_with_leave_to_write_it_writes_only_below_its_folder(tmp_path: Path) -> None:
    limits = Confinement(wall_s=15, writes=True, file_bytes=1000)
    said = await run(
        tmp_path,
        """
        tried(lambda: open("made", "w").write("x"))
        for action in (
            lambda: open("../outside", "w"),
            lambda: open("big", "wb", buffering=0).write(bytes(2000)) < 2000 and 1 / 0,
            lambda: os.mkfifo("pipe"),
        ):
            print(end=" ")
            tried(action)
        """,
        limits,
    )
    assert said == "done PermissionError ZeroDivisionError PermissionError"
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    ("body", "limits", "reason"),
    [
        ("time.sleep(60)", Confinement(wall_s=0.5), "timeout"),
        ("while True: pass", Confinement(wall_s=15, cpu_s=1), "crash"),
        ("while True: print('x' * 1000)", Confinement(wall_s=15, output_bytes=5000), "output"),
        ("sys.exit(3)", Confinement(wall_s=15), "crash"),
        ("ctypes.string_at(0)", Confinement(wall_s=15), "crash"),
        ("raise ValueError('bad')", Confinement(wall_s=15), "crash"),
    ],
)
async def test_what_goes_wrong_is_told(
    tmp_path: Path, body: str, limits: Confinement, reason: str
) -> None:
    with pytest.raises(ConfinedFailure) as caught:
        await run(tmp_path, body, limits)
    assert caught.value.reason == reason


async def test_a_cancelled_run_is_killed(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(tmp_path, "time.sleep(60)", Confinement(wall_s=60)))
        await asyncio.sleep(0.2)
        task.cancel()
    assert task.cancelled()
    assert not any(str(tmp_path) in command for command in _children())


def _children() -> list[str]:
    children = Path("/proc/self/task").glob("*/children")
    return [_command(pid) for path in children for pid in path.read_text().split()]


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
