"""A zygote: a started interpreter that forks isolated sandboxes when the launcher asks.

One for each runtime and tenant. It is process 1 of its own pid namespace, in the tenant's user
namespace, on the sandbox root, without network use, secrets or a second thread; every descriptor
it holds is closed on exec. It never runs user code. When it ends, all its sandboxes end, because
their pid namespaces are inside its own; it ends when the launcher does (end of file, SIGKILL).

Protocol on the control socket (SOCK_SEQPACKET): the zygote says ``ready``; each request is JSON
``{"hostname": …, "is_blank": …}`` with descriptors: channel, log pipe, status pipe, then the ``cgroup.procs``
files to join. The answer is ``{"ok": true}`` with a pidfd, or ``{"error": …}``.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import resource
import signal
import socket
import struct
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from pilotlight_guest import immortal, init, linux, seccomp

MESSAGE_BYTES = 4096
DESCRIPTORS_MAX = 16
RUNTIME_MODULE = "pilotlight_guest.python.runtime"
REHEARSAL_MODULE = "pilotlight_guest.python.rehearsal"
_REHEARSALS = 20
"""Enough for the interpreter to have specialised all code that a start runs."""

CLONE = linux.NEWPID | linux.NEWNS | linux.NEWIPC | linux.NEWUTS
"""Namespaces made in the clone. The network namespace is there before, the cgroup namespace follows
once the cgroups are joined."""

_SAFE = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
_HIDDEN_FILES = (
    "kcore", "keys", "sysrq-trigger", "timer_list", "kmsg", "kpagecount",
    "cmdline",  # of the host's kernel: addresses, devices, now and then a password
    "interrupts",  # when others type and send
)  # fmt: skip
_HIDDEN_FOLDERS = ("acpi", "scsi")
_READ_ONLY = ("sys", "bus", "fs", "irq")
_EMPTY = "/var/empty"

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_OOM_FILE = "/proc/self/oom_score_adj"
_OOM_SCORE = b"800"

# AWS's own values (recorded from the service), except the number of processes: that limit is
# counted over all sandboxes of a tenant, so the pids cgroup holds it instead; and of core dumps: 1
# is the one value at which the kernel starts no handler of the host (core(5)), which would run
# as the host's root on memory that a function has prepared.
_LIMITS = {
    resource.RLIMIT_NOFILE: (1024, 1024),
    resource.RLIMIT_CORE: (1, 1),
    resource.RLIMIT_MEMLOCK: (65536, 65536),
    resource.RLIMIT_STACK: (8388608, resource.RLIM_INFINITY),
}


class Zygote:
    """State built once, before any fork.

    Args:
        uid: user inside the namespace that functions run as; ``gid`` likewise.
        processes_max: RLIMIT_NPROC where no pids cgroup bounds the sandbox; 0 for none.
    """

    def __init__(self, control: socket.socket, uid: int, gid: int, processes_max: int) -> None:
        self.control = control
        self.uid = uid
        self.gid = gid
        self.processes_max = processes_max
        self.filter = seccomp.Filter()
        self.runtime = importlib.import_module(RUNTIME_MODULE)
        self.rehearsal = importlib.import_module(REHEARSAL_MODULE)
        self.hidden = [f"/proc/{n}" for n in _HIDDEN_FILES if Path(f"/proc/{n}").exists()]
        self.emptied = [f"/proc/{n}" for n in _HIDDEN_FOLDERS if Path(f"/proc/{n}").exists()]
        self.read_only = [f"/proc/{n}" for n in _READ_ONLY if Path(f"/proc/{n}").exists()]
        self.own_oom_score = Path(_OOM_FILE).read_bytes().strip()
        self.has_network = False

    def serve(self) -> None:
        """Fork on request until the launcher closes the socket."""
        self._prepare_network()
        self.control.send(b"ready")
        while True:
            message, fds, _, _ = socket.recv_fds(self.control, MESSAGE_BYTES, DESCRIPTORS_MAX)
            if not message:
                return
            try:
                self._fork(json.loads(message), fds)
            finally:
                for fd in fds:
                    os.close(fd)
            with contextlib.suppress(OSError):  # the next fork tries again and tells
                self._prepare_network()

    def _prepare_network(self) -> None:
        """Enter the fresh network namespace that the next sandbox gets.

        To make one takes milliseconds, so it is there before it is asked for. We have no socket in
        it and leave it for another before the next fork.
        """
        if not self.has_network:
            linux.unshare(linux.NEWNET)
            raise_loopback()
            self.has_network = True

    def _fork(self, request: dict[str, Any], fds: list[int]) -> None:
        try:
            self._prepare_network()
            write_file(_OOM_FILE, _OOM_SCORE)  # inherited; we go back to our own at once
            try:
                pid, pidfd = linux.split_into(CLONE)
                if pid == 0:
                    self._child(request, fds)
            finally:
                write_file(_OOM_FILE, self.own_oom_score)
        except OSError as error:
            self.control.send(json.dumps({"error": str(error)}).encode())
            return
        self.has_network = False
        socket.send_fds(self.control, [b'{"ok": true}'], [pidfd])
        os.close(pidfd)

    def _child(self, request: dict[str, Any], fds: list[int]) -> NoReturn:
        """Process 1: fork the runtime at once, give up everything, be init.

        What is written to before the fork is copied for both. This process is not dumpable from
        before the fork, so that what it holds stays closed to the runtime, which has the same
        user.
        """
        channel, log, status, *cgroups = fds
        try:
            linux.prctl(linux.PR_SET_DUMPABLE, 0)
            runtime = linux.fork_last()
            if runtime == 0:
                self._furnish(request, channel, log, status, cgroups)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._join(cgroups)
            for fd in (self.control.fileno(), channel, log, 0, 1, 2):
                os.close(fd)
            self._confine()
            linux.prctl(linux.PR_SET_DUMPABLE, 0)  # where fs.suid_dumpable says otherwise
        except BaseException as error:  # told to the driver, then the process ends
            init.report_failure(status, error)
        init.run(runtime, status)

    def _furnish(
        self, request: dict[str, Any], channel: int, log: int, status: int, cgroups: list[int]
    ) -> NoReturn:
        """Process 2: close the sandbox off, then be the runtime."""
        try:
            self._join(cgroups)
            self._isolate(request["hostname"])
            self._confine()
            linux.prctl(linux.PR_SET_DUMPABLE, 1)
        except BaseException as error:  # told to the driver, then the sandbox ends
            init.report_failure(status, error)
        os.close(status)
        self._run(channel, log, is_blank=bool(request.get("is_blank")))

    def _join(self, cgroups: list[int]) -> None:
        os.setsid()
        for fd in cgroups:
            os.write(fd, b"0")
            os.close(fd)
        linux.unshare(linux.NEWCGROUP)

    def _confine(self) -> None:
        """The function's user, no capability, the system call filter."""
        if self.processes_max:
            set_limit(resource.RLIMIT_NPROC, self.processes_max, self.processes_max)
        linux.resign(self.uid, self.gid)
        self.filter.install()

    def _isolate(self, hostname: str) -> None:
        linux.mount("proc", "/proc", "proc", _SAFE)
        for path in self.hidden:
            linux.mount("/dev/null", path, None, linux.MS_BIND)
        for path in self.emptied:
            linux.mount(_EMPTY, path, None, linux.MS_BIND)
        for path in self.read_only:
            fd = linux.open_tree(path)
            linux.mount_setattr(fd, linux.ATTR_RDONLY | linux.ATTR_NOSUID | linux.ATTR_NODEV)
            linux.move_mount(fd, path)
            os.close(fd)
        linux.set_hostname(hostname.encode())

    def _run(self, channel: int, log: int, *, is_blank: bool) -> NoReturn:
        """Become the runtime: descriptors 0, 1, 2 and the channel as 3, nothing else."""
        try:
            os.dup2(log, 1)
            os.dup2(log, 2)
            high = fcntl.fcntl(channel, fcntl.F_DUPFD_CLOEXEC, 64)
            os.dup2(high, 3, inheritable=False)
            linux.close_from(4)
            gc.enable()
            self.runtime.main(3, before_ready=self.rehearsal.run if is_blank else None)
        except Exception:  # ours, not the user's: shown in the function's log
            traceback.print_exc()
        finally:
            os._exit(125)


def write_file(path: str, content: bytes) -> None:
    """Write a file of ``/proc`` with as little code as can be."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def raise_loopback() -> None:
    """Bring up ``lo`` of a fresh network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fd = probe.fileno()
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(fd, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(fd, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


def open_pipe_streams() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` anew on a pipe, which they are in every fork.

    A stream asks its descriptor once whether it can seek; the ones that we were started with may
    be files.
    """
    readable, writable = os.pipe()
    errors = os.dup(2)
    for fd in (1, 2):
        os.dup2(writable, fd)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # as long as we live
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115  # as long as we live
    for fd in (1, 2):
        os.dup2(errors, fd)
    for fd in (readable, writable, errors):
        os.close(fd)


def set_limit(which: int, soft: int, hard: int) -> None:
    """Set a resource limit; never above the hard limit we already have."""
    _, ceiling = resource.getrlimit(which)
    if ceiling != resource.RLIM_INFINITY:
        hard = ceiling if hard == resource.RLIM_INFINITY else min(hard, ceiling)
        soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(which, (soft, hard))


def _inherit() -> None:
    """Do once what every sandbox inherits: signals that init waits for, limits, bounding set."""
    signal.pthread_sigmask(signal.SIG_BLOCK, init.BLOCKED)
    for which, wanted in _LIMITS.items():
        set_limit(which, *wanted)
    linux.drop_bounding_set(linux.last_capability())


def main(control_fd: int, options: dict[str, int]) -> NoReturn:
    """Prepare, then serve until the launcher ends. Called once, by the launcher's exec."""
    control = socket.socket(fileno=control_fd)
    control.set_inheritable(False)
    if control.recv(16) != b"go":  # sent once the process that made us has gone:
        os._exit(0)  # from then on the launcher is our parent
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    linux.mount("proc", "/proc", "proc", _SAFE)
    with contextlib.suppress(OSError):  # the system call filter forbids it, too
        Path("/proc/sys/user/max_user_namespaces").write_text("0", encoding="ascii")
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    open_pipe_streams()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the kernel
    _inherit()
    zygote = Zygote(control, options["uid"], options["gid"], options["processes_max"])
    zygote.rehearsal.run(_REHEARSALS)
    gc.collect()
    immortal.immortalize()
    gc.freeze()
    try:
        zygote.serve()
    finally:
        sys.stderr.flush()
        os._exit(0)
