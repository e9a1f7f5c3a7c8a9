"""Sandbox driver without isolation: each runtime is a plain process. For development only.

What it cannot do, by its nature: the function sees the host's files, network and processes and
runs as the worker's user; there is no memory or CPU limit (an address space limit would break
programs that only reserve memory); ``/tmp`` is the host's, and ``ephemeral_mib`` only bounds each
single file. A process that a function detaches (double fork and its own session) is not found
again. It does hold that a runtime and its process group end with `destroy`, and with the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter_ns

import structlog

from pilotlight.model.errors import SandboxError
from pilotlight.model.function import Isolation
from pilotlight.model.ids import EnvironmentId, RuntimeName
from pilotlight.ports.runtimes import HostRuntime
from pilotlight.ports.sandbox import (
    SandboxExit,
    SandboxSpec,
    SandboxStart,
    SandboxStatus,
    SandboxUsage,
)

log = structlog.get_logger(__name__)

READY_TIMEOUT_S = 10.0
"""Longest start of an interpreter; reached only on a host that hardly runs."""
GONE_TIMEOUT_S = 2.0
"""How long `destroy` waits for killed children of a runtime to disappear."""
_OPEN_FILES = 1024
"""Descriptors a function may have, as on Lambda."""
_MARKER = "PILOTLIGHT_SANDBOX"
_LOG_TAIL_BYTES = 2048
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from pilotlight_guest.python.spawned import main; main(sys.argv[2:])"
)


class ProcessSandbox:
    """One runtime process, leader of its own session and group.

    Its exit is taken by a reader on a pidfd, so that it is reaped and, once doomed, closed even
    when nobody awaits it.
    """

    def __init__(
        self,
        spec: SandboxSpec,
        process: subprocess.Popen[bytes],
        channel: socket.socket,
        log_fd: int,
        on_gone: Callable[[ProcessSandbox], None],
    ) -> None:
        self.id = spec.id
        self.start = SandboxStart("spawn", {})
        self.channel = channel
        self.log_fd = log_fd
        self.exit: SandboxExit | None = None
        self._process = process
        self._on_gone = on_gone
        self._dead = asyncio.Event()
        self._is_doomed = False
        self._usage = SandboxUsage()
        self._pidfd = os.pidfd_open(process.pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pidfd, self.reap)

    @property
    def pid(self) -> int:
        """Id of the runtime process and of its group."""
        return self._process.pid

    def reap(self) -> None:
        """Take the exit status if the process has ended. Never blocks, idempotent."""
        if self.exit is not None:
            return
        pid = self._process.pid
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return
        # A group does not end with its leader; until the leader is reaped the id is its own.
        self._signal_group(signal.SIGKILL)
        _, status, used = os.wait4(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self._process.returncode = code
        # Not ru_maxrss: it remembers the worker's own memory, from before the exec.
        cpu_ns = int((used.ru_utime + used.ru_stime) * 1e9)
        self._usage = SandboxUsage(self._usage.peak_memory_bytes, cpu_ns)
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.exit = SandboxExit(code)
        self._dead.set()
        if self._is_doomed:
            self.close()

    def doom(self) -> None:
        """Kill it with all its descendants; it is closed and forgotten when it has died."""
        self._is_doomed = True
        if self.exit is not None:
            self.close()
            return
        _kill_tree(self._process.pid)

    def close(self) -> None:
        """Give up channel and log descriptor. Idempotent."""
        self.channel.close()
        if self.log_fd >= 0:
            os.close(self.log_fd)
            self.log_fd = -1
        self._on_gone(self)

    def terminate(self) -> None:
        """Ask the runtime to end."""
        if self.exit is None:
            os.kill(self._process.pid, signal.SIGTERM)
            self.thaw()

    def usage(self) -> SandboxUsage:
        """Of the runtime process; children count once they have ended and were waited for.

        After its death the peak is the one seen last.
        """
        if self.exit is None:
            # Gone between the two lines, or a /proc that hides it: what was known stays.
            with contextlib.suppress(OSError, ValueError, StopIteration):
                self._usage = _usage_of(self._process.pid)
        return self._usage

    def freeze(self) -> None:
        """Stop the process group."""
        if self.exit is None:
            self._signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the process group run."""
        if self.exit is None:
            self._signal_group(signal.SIGCONT)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def wait(self) -> SandboxExit:
        await self._dead.wait()
        assert self.exit is not None  # noqa: S101  # set before the event
        return self.exit

    async def ready(self) -> bool:
        """Wait for the first byte of READY, leaving it there; False when the process died."""
        readable = asyncio.Event()
        self._loop.add_reader(self.channel, readable.set)
        try:
            await readable.wait()
        finally:
            self._loop.remove_reader(self.channel)
        try:
            return bool(self.channel.recv(1, socket.MSG_PEEK))
        except ConnectionError:
            return False

    async def gone(self) -> None:
        """Wait until no process of the group is left, at most `GONE_TIMEOUT_S`."""
        await self._dead.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GONE_TIMEOUT_S):
                while _group_exists(self._process.pid):  # noqa: ASYNC110  # no event tells
                    await asyncio.sleep(0.002)

    def log_tail(self) -> str:
        """The last that the runtime wrote, for the message of a failed start."""
        try:
            return os.read(self.log_fd, 65536)[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            return ""


class ProcessDriver:
    """See `SandboxDriver` and the module's text for what it does not isolate.

    Args:
        code_root: folder of the unpacked packages, each under its digest.
        runtimes: interpreters by name.
        guest_root: folder that holds the package ``pilotlight_guest``.
        instance: name of the data directory, equal after a restart; `adopt` ends what bears it.
    """

    def __init__(
        self,
        *,
        code_root: Path,
        runtimes: Mapping[RuntimeName, HostRuntime],
        guest_root: Path,
        instance: str,
    ) -> None:
        self._code_root = code_root
        self._runtimes = runtimes
        self._guest_root = guest_root.resolve()
        self._instance = instance
        self._sandboxes: dict[EnvironmentId, ProcessSandbox] = {}
        self._starting: dict[EnvironmentId, asyncio.Event] = {}
        self._is_closed = False

    @property
    def isolation(self) -> Isolation:
        return Isolation.PROCESS

    def task_root(self, spec: SandboxSpec) -> str:
        """Folder of the function's code: there is no ``/var/task`` of its own."""
        return str(self._code_root / spec.code)

    def opt_root(self, spec: SandboxSpec) -> str:
        """Folder of the function's layers: there is no ``/opt`` of its own."""
        return "/opt" if spec.layers is None else str(self._code_root / spec.layers)

    async def create(self, spec: SandboxSpec) -> ProcessSandbox:
        while (busy := self._starting.get(spec.id)) is not None:
            await busy.wait()
        known = self._sandboxes.get(spec.id)
        if known is not None:
            return known
        if self._is_closed:
            raise SandboxError(f"sandbox {spec.id}: the process driver is closed")
        done = self._starting[spec.id] = asyncio.Event()
        try:
            return await self._create(spec)
        finally:
            del self._starting[spec.id]
            done.set()

    async def _create(self, spec: SandboxSpec) -> ProcessSandbox:
        began = perf_counter_ns()
        sandbox = self._spawn(spec)
        spawned = perf_counter_ns()
        self._sandboxes[spec.id] = sandbox
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await _until_ready(spec, sandbox)
        except TimeoutError as exc:
            await self._discard(sandbox)
            raise SandboxError(
                f"sandbox {spec.id}: {spec.runtime} was not ready after {READY_TIMEOUT_S:g} s"
            ) from exc
        except BaseException:
            await self._discard(sandbox)
            raise
        phases = {"spawn": spawned - began, "runtime": perf_counter_ns() - spawned}
        sandbox.start = SandboxStart("spawn", {step: ns // 1000 for step, ns in phases.items()})
        return sandbox

    async def _discard(self, sandbox: ProcessSandbox) -> None:
        sandbox.doom()
        await sandbox.gone()

    def _spawn(self, spec: SandboxSpec) -> ProcessSandbox:
        """Start the interpreter. On the loop's thread: the kernel ends a child with its thread."""
        runtime = self._runtimes.get(spec.runtime)
        if runtime is None:
            names = ", ".join(sorted(self._runtimes)) or "none"
            raise SandboxError(
                f"sandbox {spec.id}: this host has no runtime {spec.runtime!r} (it has: {names});"
                " add one with `pilotlight runtime add`"
            )
        if not (self._code_root / spec.code).is_dir():
            raise SandboxError(
                f"sandbox {spec.id}: package {spec.code} is not in {self._code_root}"
            )
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            log_read, log_write = os.pipe()
            undo.callback(os.close, log_read)
            with theirs, contextlib.closing(os.fdopen(log_write, "wb", 0)) as output:
                process = self._popen(spec, runtime, theirs.fileno(), output.fileno())
            undo.callback(_kill_and_reap, process)
            ours.settimeout(0)
            os.set_blocking(log_read, False)
            sandbox = ProcessSandbox(spec, process, ours, log_read, self._forget)
            undo.pop_all()
            return sandbox

    def _popen(
        self, spec: SandboxSpec, runtime: HostRuntime, channel: int, output: int
    ) -> subprocess.Popen[bytes]:
        limits = (channel, os.getpid(), _OPEN_FILES, spec.ephemeral_mib << 20)
        arguments = [str(self._guest_root), *map(str, limits)]
        try:
            return subprocess.Popen(
                [str(runtime.executable), "-I", "-S", "-B", "-c", _BOOT, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={_MARKER: f"{self._instance}/{spec.id}", "LANG": "C.UTF-8"},
                cwd="/",
                pass_fds=(channel,),
                start_new_session=True,
            )
        except OSError as exc:
            raise SandboxError(
                f"sandbox {spec.id}: cannot start {runtime.executable}: {exc.strerror}"
            ) from exc

    def _forget(self, sandbox: ProcessSandbox) -> None:
        if self._sandboxes.get(sandbox.id) is sandbox:
            del self._sandboxes[sandbox.id]

    async def poll(self, sandbox: EnvironmentId) -> SandboxStatus | None:
        known = self._sandboxes.get(sandbox)
        if known is None or sandbox in self._starting:
            return None
        known.reap()
        return SandboxStatus(sandbox, known.exit)

    async def destroy(self, sandbox: EnvironmentId, *, grace_s: float = 0.0) -> None:
        while (busy := self._starting.get(sandbox)) is not None:
            await busy.wait()
        known = self._sandboxes.get(sandbox)
        if known is None:
            return
        try:
            if grace_s > 0:
                known.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(grace_s):
                        await known.wait()
        finally:
            known.doom()  # also when cancelled: what is doomed closes itself when it has died
        await known.gone()

    async def adopt(self) -> tuple[EnvironmentId, ...]:
        """End what bears the mark of this instance; a channel cannot be taken over."""
        marker = f"{_MARKER}={self._instance}/".encode()
        left = await asyncio.to_thread(_marked, marker)
        for sandbox in self._sandboxes.values():
            left.pop(sandbox.pid, None)
        for pid, name in left.items():
            log.warning("leftover_sandbox_destroyed", environment=name, pid=pid)
            _kill_tree(pid)
        async with asyncio.timeout(GONE_TIMEOUT_S):
            while any(_is_alive(pid) for pid in left):  # noqa: ASYNC110  # no event tells
                await asyncio.sleep(0.005)
        return ()

    async def aclose(self) -> None:
        self._is_closed = True
        while self._starting:
            await next(iter(self._starting.values())).wait()
        async with asyncio.TaskGroup() as group:
            for name in tuple(self._sandboxes):
                group.create_task(self.destroy(name))


async def _until_ready(spec: SandboxSpec, sandbox: ProcessSandbox) -> None:
    if await sandbox.ready():
        return
    exit_ = await sandbox.wait()
    raise SandboxError(
        f"sandbox {spec.id}: {spec.runtime} ended with {exit_.exit_code} before it was ready;"
        f" it wrote: {sandbox.log_tail() or 'nothing'}"
    )


def _kill_and_reap(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _kill_tree(pid: int) -> None:
    """Kill a process, its group, and those of its descendants that left the group."""
    descendants = _descendants(pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    for member in (pid, *descendants):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(member, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    """Children of a process, their children, and so on; without those that end meanwhile."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _usage_of(pid: int) -> SandboxUsage:
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(int(field) for field in stat[11:15])  # user, system, and both of dead children
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    return SandboxUsage(peak_kib * 1024, ticks * _TICK_NS)


def _marked(marker: bytes) -> dict[int, str]:
    """Processes that were started with the marker: id to name of the sandbox."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                for variable in (entry / "environ").read_bytes().split(b"\0"):
                    if variable.startswith(marker):
                        name = variable[len(marker) :].decode(errors="replace")
                        found[int(entry.name)] = name
    return found


def _is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent to notice its end does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}
