"""One sandbox as the driver sees it: descriptors, readiness, death. No privilege is needed.

A cell is *starting* until the runtime's READY frame is in the channel (it stays there for the
worker), then *ready*, and *dead* once its process 1 has ended; it is *gone* when the launcher
said that nothing of it is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import socket
from collections.abc import Callable, Mapping

from pilotlight.model.errors import SandboxError
from pilotlight.model.ids import EnvironmentId
from pilotlight.ports.sandbox import SandboxExit, SandboxStart, SandboxUsage
from pilotlight_guest.frames import HEADER
from pilotlight_guest.init import STATUS

_STATUS_BYTES = 4096
_CONTROL_BYTES = 512
_LOG_TAIL_BYTES = 1000
_KILLED = -int(signal.SIGKILL)


class Cell:
    """Owns the descriptors of one sandbox until `close`.

    Args:
        fds: from the launcher: channel, log, status, pidfd and what control files the host has.
        on_change: called when it became ready or died.
    """

    def __init__(self, key: int, fds: Mapping[str, int], on_change: Callable[[Cell], None]) -> None:
        self.key = key
        self.channel = socket.socket(fileno=fds["channel"])
        self.log_fd = fds["log"]
        self._status_fd = fds["status"]
        self._pidfd = fds["pidfd"]
        self._controls = {n: fds[n] for n in ("freeze", "peak", "cpu", "oom") if n in fds}
        self._on_change = on_change
        self._usage = SandboxUsage()
        self._oom_killed = False
        self._is_v1 = True
        self.is_ready = False
        self.settled = asyncio.Event()
        self.dead = asyncio.Event()
        self.exit: SandboxExit | None = None
        self.failure: str | None = None
        self._pidfd_poll = select.poll()
        self._pidfd_poll.register(self._pidfd, select.POLLIN)
        self._loop = asyncio.get_running_loop()
        self.channel.settimeout(0)
        for fd in (self.log_fd, self._status_fd):
            os.set_blocking(fd, False)  # the function takes no keyword
        if "freeze" in self._controls:
            self._is_v1 = not self._read("freeze").strip().isdigit()
        self._loop.add_reader(self.channel.fileno(), self._channel_readable)
        self._loop.add_reader(self._pidfd, self._pidfd_readable)

    # --- becoming ready ---

    def _channel_readable(self) -> None:
        try:
            seen = self.channel.recv(HEADER.size, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            seen = b""
        if seen and len(seen) < HEADER.size:
            return
        self._loop.remove_reader(self.channel.fileno())
        if seen:
            self.is_ready = True
            self.settled.set()
            self._on_change(self)
        # The end of the channel is told by the pidfd, which follows.

    # --- death ---

    def _pidfd_readable(self) -> None:
        self.note_death()

    def note_death(self) -> None:
        """Work out how it ended. Idempotent."""
        if self.exit is not None:
            return
        self._loop.remove_reader(self._pidfd)
        if not self.is_ready and self.channel.fileno() >= 0:
            self._loop.remove_reader(self.channel.fileno())
        self.remember()
        code = self._exit_code()
        self.exit = SandboxExit(code, oom_killed=self._oom_killed)
        self.dead.set()
        self.settled.set()
        self._on_change(self)

    def _exit_code(self) -> int:
        """The runtime's own end where process 1 told it; SIGKILL took both otherwise."""
        try:
            message = os.read(self._status_fd, _STATUS_BYTES)
        except OSError:
            message = b""
        if len(message) < STATUS.size:
            return _KILLED
        kind, value = STATUS.unpack_from(message)
        if kind == b"E":
            text, _, _ = message[STATUS.size :].partition(b"\n")
            self.failure = text.decode("utf-8", "replace")
            return 125
        return os.waitstatus_to_exitcode(value)

    def is_dying(self) -> bool:
        """Whether process 1 has ended, though its event may not have been handled yet."""
        return self.exit is not None or bool(self._pidfd_poll.poll(0))

    # --- counters and the freezer, through descriptors ---

    def _read(self, name: str) -> str:
        fd = self._controls.get(name)
        if fd is None:
            return ""
        try:
            return os.pread(fd, _CONTROL_BYTES, 0).decode("ascii", "replace")
        except OSError:
            return ""  # its cgroup is gone: the last known values stand

    def remember(self) -> None:
        """Read the counters while the cgroup is there."""
        peak = self._read("peak").strip()
        cpu = self._read("cpu")
        killed = re.search(r"^oom_kill (\d+)$", self._read("oom"), re.MULTILINE)
        if killed is not None and int(killed[1]) > 0:
            self._oom_killed = True
        usage = re.search(r"^usage_usec (\d+)$", cpu, re.MULTILINE)
        cpu_ns = int(usage[1]) * 1000 if usage else int(cpu) if cpu.strip().isdigit() else 0
        self._usage = SandboxUsage(
            peak_memory_bytes=int(peak) if peak.isdigit() else self._usage.peak_memory_bytes,
            cpu_ns=max(cpu_ns, self._usage.cpu_ns),
        )

    def usage(self) -> SandboxUsage:
        """Counters now, or as they were last."""
        self.remember()
        return self._usage

    def set_frozen(self, *, frozen: bool) -> None:
        """Freeze or thaw; nothing happens where the host has no freezer."""
        fd = self._controls.get("freeze")
        if fd is None:
            return
        v1 = b"FROZEN" if frozen else b"THAWED"
        with contextlib.suppress(OSError):  # gone: nothing is left to freeze
            os.pwrite(fd, v1 if self._is_v1 else b"1" if frozen else b"0", 0)

    def log_tail(self) -> str:
        """What the runtime wrote last, for the message of a failed start."""
        try:
            return os.read(self.log_fd, 1 << 16)[-_LOG_TAIL_BYTES:].decode("utf-8", "replace")
        except OSError:
            return ""

    def close(self) -> None:
        """Close every descriptor. Idempotent."""
        self.note_death()
        self.channel.close()
        for fd in (self.log_fd, self._status_fd, self._pidfd, *self._controls.values()):
            if fd >= 0:
                os.close(fd)
        self.log_fd = self._status_fd = self._pidfd = -1
        self._controls = {}


class ContainerSandbox:
    """A claimed cell: bound to one environment for ever."""

    def __init__(self, sandbox: EnvironmentId, cell: Cell, start: SandboxStart) -> None:
        self._id = sandbox
        self.cell = cell
        self._start = start

    @property
    def id(self) -> EnvironmentId:
        return self._id

    @property
    def start(self) -> SandboxStart:
        return self._start

    @property
    def channel(self) -> socket.socket:
        return self.cell.channel

    @property
    def log_fd(self) -> int:
        return self.cell.log_fd

    def usage(self) -> SandboxUsage:
        return self.cell.usage()

    def freeze(self) -> None:
        self.cell.set_frozen(frozen=True)

    def thaw(self) -> None:
        self.cell.set_frozen(frozen=False)

    async def wait(self) -> SandboxExit:
        await self.cell.dead.wait()
        if self.cell.exit is None:
            raise SandboxError(f"sandbox {self._id} is dead without an exit")
        return self.cell.exit
