"""Zygotes, seen from the launcher: start one for a tenant and runtime, ask it for forks.

What a zygote sends is believed only as far as its tenant: a process descriptor is accepted when
its process is alive and in the user namespace that was made for this zygote.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from pilotlight.dataplane.sandboxes.container import rootfs
from pilotlight_guest import linux

UID, GID = 993, 990
"""Who functions run as inside the sandbox, as on AWS."""
IDS_PER_TENANT = 65_536

_MESSAGE_BYTES = 4096
_BOOT = (
    "import json, sys; sys.path.insert(0, '/var/runtime'); "
    "from pilotlight_guest import zygote; zygote.main(3, json.loads(sys.argv.pop()))"
)
_OOM_SCORE = "300"
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "en_US.UTF-8",
    "LC_CTYPE": "C.UTF-8",
    "TZ": ":UTC",
    # Threads that numerical libraries start at import would not survive anything.
    "OPENBLAS_NUM_THREADS": "1",
}


class ZygoteFailed(Exception):
    """A zygote could not be started, could not fork or has lied."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What a zygote is started with.

    Attributes:
        first_uid: host id of the tenant's id 0; None where one id is all there is.
        processes_max: RLIMIT_NPROC where no pids cgroup exists, else 0.
        forks_max, age_max_s: after so many forks or seconds a fresh zygote takes its place, for
            all forks of one share its address layout and hash secret.
    """

    interpreter: rootfs.Interpreter
    guest: list[tuple[str, bytes]]
    first_uid: int | None
    processes_max: int
    forks_max: int
    age_max_s: int


@dataclass(slots=True)
class ForkJob:
    """One fork asked for; ``done`` gets a pidfd or an error, once."""

    fds: list[int]
    done: Callable[[int | None, str | None], None]
    is_blank: bool = False
    is_sent: bool = False

    def close(self) -> None:
        """Close the child's ends of the descriptors."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class Zygote:
    """One zygote process. The launcher calls `readable` when its socket is."""

    def __init__(self, seat: Seat) -> None:
        self.seat = seat
        self.sandboxes = 0
        self.pidfd: int | None = None
        self._born_ns = time.perf_counter_ns()
        self._forks = 0
        self._is_ready = False
        self._user_namespace = 0
        self._jobs: deque[ForkJob] = deque()
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._builder = os.fork()
        if self._builder == 0:
            self.socket.close()
            _build(seat, theirs)
        theirs.close()

    @property
    def is_old(self) -> bool:
        """Whether its age or count asks for a new one."""
        age_s = (time.perf_counter_ns() - self._born_ns) / 1e9
        return self._forks >= self.seat.forks_max or age_s > self.seat.age_max_s

    def fork(self, job: ForkJob) -> None:
        """Ask for a fork; jobs are answered in order."""
        self._forks += 1
        self._jobs.append(job)
        if self._is_ready:
            self._send(job)

    def _send(self, job: ForkJob) -> None:
        try:
            request = {"hostname": "sandbox", "is_blank": job.is_blank}
            socket.send_fds(self.socket, [json.dumps(request).encode()], job.fds)
        except OSError:
            return  # it has ended: `readable` sees the end of file and fails every job
        job.is_sent = True
        job.close()

    def readable(self) -> None:
        """Take one message.

        Raises:
            ZygoteFailed: it has ended or lied; every job has been failed.
        """
        try:
            message, fds, _, _ = socket.recv_fds(self.socket, _MESSAGE_BYTES, 4)
            if not message:
                raise ZygoteFailed("the zygote has ended; its message is in the log above")  # noqa: TRY301
            self._take(message, fds)
        except (OSError, ValueError) as error:
            self.fail(str(error))
            raise ZygoteFailed(str(error)) from error
        except ZygoteFailed as error:
            self.fail(str(error))
            raise

    def _take(self, message: bytes, fds: list[int]) -> None:
        if self.pidfd is None:
            self._started(message, fds)
        elif message == b"ready":
            self._is_ready = True
            for job in list(self._jobs):
                self._send(job)
        else:
            self._forked(message, fds)

    def _started(self, message: bytes, fds: list[int]) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._builder, 0)
        if message != b"started" or len(fds) != 1:
            raise ZygoteFailed(message.decode("utf-8", "replace"))
        self.pidfd = fds[0]
        self._user_namespace = user_namespace(fds[0])
        self.socket.send(b"go")

    def _forked(self, message: bytes, fds: list[int]) -> None:
        if not self._jobs or not self._jobs[0].is_sent:
            raise ZygoteFailed("an answer to nothing")
        answer = json.loads(message)
        job = self._jobs.popleft()
        if not isinstance(answer, dict) or len(fds) != 1 or answer.get("error"):
            for fd in fds:
                os.close(fd)
            job.done(None, f"the zygote could not fork: {answer}"[:500])
            return
        try:
            is_own = user_namespace(fds[0]) == self._user_namespace
        except OSError:
            is_own = True  # it has died already; the descriptor says so to whoever waits
        except ZygoteFailed:
            is_own = False
        if not is_own:
            os.close(fds[0])
            job.done(None, "the zygote named a foreign process")
            raise ZygoteFailed("it named a foreign process")
        job.done(fds[0], None)

    def fail(self, reason: str) -> None:
        """End it and all its sandboxes; jobs get ``reason``. Idempotent."""
        jobs, self._jobs = self._jobs, deque()
        self.kill()
        for job in jobs:
            job.close()
            job.done(None, reason)

    def kill(self) -> None:
        """SIGKILL; the kernel ends its whole pid namespace."""
        if self.pidfd is not None:
            linux.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def close(self) -> None:
        """Let go of its descriptors; it ends by end of file if it still lives."""
        self.socket.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def user_namespace(pidfd: int) -> int:
    """Identity of the user namespace that the process behind ``pidfd`` is in.

    Raises:
        OSError: it has ended.
        ZygoteFailed: the descriptor is something else.
    """
    pid = _pid_of(pidfd)
    found = Path(f"/proc/{pid}/ns/user").stat().st_ino
    _pid_of(pidfd)  # it lives, so its number was its own all the time
    return found


def _pid_of(pidfd: int) -> int:
    text = Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii")
    match = re.search(r"^Pid:\s+(-?\d+)$", text, re.MULTILINE)
    if match is None:
        raise ZygoteFailed("it sent a descriptor that is no process")
    if int(match[1]) <= 0:
        raise ProcessLookupError("the process has ended")
    return int(match[1])


def _build(seat: Seat, control: socket.socket) -> NoReturn:
    """Fork of the launcher: make the root, then the zygote in its own namespaces, then end."""
    try:
        # With CAP_SYS_RESOURCE this is also the lowest that functions can go back to.
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
        linux.unshare(linux.NEWNS)
        linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
        rootfs.enter(seat.interpreter, seat.guest, (UID, GID))
        if seat.first_uid is not None:
            # What is counted in a user namespace (inotify instances, queued signals) is counted
            # for the user who made it, too: functions would use up what the host's root has.
            linux.change_user_only(seat.first_uid)
        mapped, done = os.pipe()
        pid, pidfd = linux.fork_into(linux.NEWUSER | linux.NEWPID | linux.NEWNS)
        if pid == 0:
            os.close(done)
            _become_zygote(seat, control, mapped)
        os.close(mapped)
        _map_ids(pid, seat.first_uid)
        os.write(done, b"m")
        socket.send_fds(control, [b"started"], [pidfd])
    except BaseException as error:  # noqa: BLE001  # told to the launcher, then the fork ends
        traceback.print_exc()
        control.send(f"the sandbox root could not be made: {error}".encode()[:2000])
    finally:
        os._exit(0)


def _map_ids(pid: int, first: int | None) -> None:
    """Whole range for a tenant of a privileged launcher, else one id: the function's user."""
    users = f"0 {first} {IDS_PER_TENANT}" if first is not None else f"{UID} {os.getuid()} 1"
    groups = f"0 {first} {IDS_PER_TENANT}" if first is not None else f"{GID} {os.getgid()} 1"
    Path(f"/proc/{pid}/uid_map").write_text(users, encoding="ascii")
    Path(f"/proc/{pid}/gid_map").write_text(groups, encoding="ascii")


def _become_zygote(seat: Seat, control: socket.socket, mapped: int) -> NoReturn:
    """Process 1 of the zygote's namespaces: take the ids, then become the interpreter."""
    try:
        if os.read(mapped, 1) != b"m":
            os._exit(1)
        if seat.first_uid is not None:
            os.setgroups([])
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        else:
            linux.keep_capabilities_over_exec(linux.last_capability())
        options = {"uid": UID, "gid": GID, "processes_max": seat.processes_max}
        os.dup2(control.fileno(), 3, inheritable=True)
        executable = seat.interpreter.executable
        arguments = [executable, "-I", "-S", "-B", "-c", _BOOT, json.dumps(options)]
        os.execve(executable, arguments, _ENVIRONMENT)  # noqa: S606  # no shell on purpose
    except BaseException:  # noqa: BLE001  # shown in the launcher's log; the socket's end tells it
        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
    finally:
        os._exit(1)
