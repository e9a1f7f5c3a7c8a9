"""The launcher: the only privileged process. One thread, one loop, a closed vocabulary.

It makes root directories, zygotes, cgroups and mounts, and hands the driver descriptors. It reads
nothing from functions and takes only the requests of ``protocol``. When the driver goes (end of
file) it destroys everything and ends. Imports the standard library and our own code alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pilotlight.dataplane.sandboxes.container import cgroups, protocol, rootfs
from pilotlight.dataplane.sandboxes.container.furnish import OPT, TASK, Furnisher
from pilotlight.dataplane.sandboxes.container.scratch import Scratch, Scratches
from pilotlight.dataplane.sandboxes.container.zygotes import (
    GID,
    IDS_PER_TENANT,
    UID,
    ForkJob,
    Seat,
    Zygote,
    ZygoteFailed,
)
from pilotlight_guest import linux

_READY_SCRATCHES = 4
_TENANTS_MAX = 16_384
_SANDBOXES_MAX = 8192
_ZYGOTES_MAX = 512
"""Far more than a worker's memory holds; they bound what a driver that was taken over can do."""
_RETRY_S = 0.002
_PREPARE_AFTER_S = 0.015
"""How long nothing must have happened before scratches are prepared: a start goes first, as long as
enough are left for the next ones."""
_END_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the launcher is started with, as JSON of plain values."""

    data_dir: str
    code_root: str
    guest_root: str
    instance: str
    runtimes: list[list[str]]
    tenant_base: int
    zygote_forks_max: int
    zygote_age_max_s: int


@dataclass(slots=True)
class _Sandbox:
    """One sandbox, from the request to its last trace.

    Attributes:
        scratch: its ``/tmp``; None before it has one.
        farewells: replies to send once nothing of it is left; not empty means that it is dying.
    """

    key: int
    tenant: str
    zygote: Zygote
    group: cgroups.Group
    ours: dict[str, int]
    pidfd: int | None = None
    is_dead: bool = False
    is_blank: bool = False
    ephemeral_mib: int = 0
    scratch: Scratch | None = None
    old_scratches: list[Scratch] = field(default_factory=list)
    farewells: list[protocol.Reply] = field(default_factory=list)
    phases_us: dict[str, int] = field(default_factory=dict)

    def close_ours(self) -> None:
        """Close our ends of what the driver has, or will never get."""
        for fd in self.ours.values():
            os.close(fd)
        self.ours = {}


class Launcher:
    """The loop and everything that lives in it."""

    def __init__(self, settings: Settings, driver: socket.socket, *, is_privileged: bool) -> None:
        self._settings = settings
        self._driver = driver
        self._is_privileged = is_privileged
        self._runtimes = {r[0]: rootfs.Interpreter(*r) for r in settings.runtimes}
        self._guest = rootfs.guest_files(settings.guest_root)
        self._furnisher = Furnisher(settings.code_root)
        self._groups = cgroups.Groups(cgroups.find(), settings.instance)
        self._groups.prepare()
        folder = _scratch_folder(settings.data_dir) if is_privileged else None
        self._scratches = Scratches(
            folder, settings.instance, protocol.BLANK_LIMITS.ephemeral_mib, _READY_SCRATCHES
        )
        if folder is not None:
            self._prove_disk(folder)
        self._sandboxes: dict[int, _Sandbox] = {}
        self._tenants: dict[str, int] = {}
        self._zygotes: dict[tuple[str, str], Zygote] = {}
        self._retired: list[Zygote] = []
        self._epoll = select.epoll()
        self._readable: dict[int, Callable[[], None]] = {}
        self._is_over = False
        self._watch(driver.fileno(), self._request)
        self._child_ended, wake = os.pipe()
        for fd in (self._child_ended, wake):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the loop, which reaps
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._watch(self._child_ended, lambda: _empty(self._child_ended))

    def _prove_disk(self, folder: int) -> None:
        try:
            self._scratches.prepare_one()
        except OSError as error:
            log(f"no loop files here ({error}): /tmp is in memory, added to the limit")
            os.close(folder)
            self._scratches = Scratches(None, self._settings.instance, 0, 0)

    def hello(self) -> dict[str, object]:
        """What this launcher can give."""
        return {
            "privileged": self._is_privileged,
            "controllers": sorted(self._groups.controllers),
            "disk": self._scratches.is_on_disk,
        }

    def run(self) -> None:
        """Serve until the driver has gone, then destroy everything."""
        while not self._is_over:
            events = self._epoll.poll(self._timeout())
            if not events and not self._is_burying():
                self._prepare()
            for fd, _ in events:
                action = self._readable.get(fd)
                if action is not None:
                    action()
            self._bury()
            _reap()
        self._end()

    def _timeout(self) -> float:
        if self._is_burying():
            return _RETRY_S
        if not self._scratches.wants_more:
            return -1
        return 0 if self._scratches.is_short else _PREPARE_AFTER_S

    def _is_burying(self) -> bool:
        return any(s.farewells for s in self._sandboxes.values())

    def _prepare(self) -> None:
        try:
            self._scratches.prepare_one()
        except OSError as error:
            log(f"a scratch file could not be prepared: {error}")

    def _watch(self, fd: int, action: Callable[[], None]) -> None:
        self._readable[fd] = action
        self._epoll.register(fd, select.EPOLLIN)

    def _forget(self, fd: int) -> None:
        if self._readable.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    # --- requests ---

    def _request(self) -> None:
        try:
            message, fds, _, _ = socket.recv_fds(self._driver, protocol.MESSAGE_BYTES, 1)
        except OSError:
            message, fds = b"", []
        for fd in fds:
            os.close(fd)  # no request brings one
        if not message:
            self._is_over = True
            return
        try:
            request = protocol.decode(message)
        except protocol.ProtocolViolation as error:
            log(f"the driver sent what it never should: {error}; ending")
            self._is_over = True
            return
        self._carry_out(request)

    def _carry_out(self, request: protocol.Request) -> None:
        try:
            if isinstance(request, protocol.Make):
                self._make(request)
            elif isinstance(request, protocol.Claim):
                self._claim(request)
            elif isinstance(request, protocol.Terminate):
                self._terminate(request)
            elif isinstance(request, protocol.Destroy):
                self._destroy(request)
            else:
                self._reply(protocol.Reply(request.n, count=self._clean()))
        except (OSError, ZygoteFailed) as error:
            self._reply(protocol.Reply(request.n, error=str(error)))

    def _reply(self, reply: protocol.Reply, fds: tuple[int, ...] = ()) -> None:
        try:
            socket.send_fds(self._driver, [protocol.encode_reply(reply)], fds)
        except OSError:
            self._is_over = True

    def _make(self, request: protocol.Make) -> None:
        if request.key in self._sandboxes:
            raise ZygoteFailed(f"sandbox {request.key} exists")
        if len(self._sandboxes) >= _SANDBOXES_MAX:
            raise ZygoteFailed(f"more than {_SANDBOXES_MAX} sandboxes on this host")
        started = time.perf_counter_ns()
        zygote = self._zygote(request.tenant, request.runtime)
        group = self._groups.create(request.key, request.limits, self._extra(request.limits))
        ours: dict[str, int] = {}
        theirs: list[int] = []
        try:
            _endpoints(self._first_uid(request.tenant), ours, theirs)
            ours.update(group.control_fds())
            theirs += group.join_fds()
        except OSError:
            for fd in (*ours.values(), *theirs):
                os.close(fd)
            group.remove()
            raise
        sandbox = _Sandbox(
            request.key, request.tenant, zygote, group, ours, is_blank=request.code is None
        )
        self._sandboxes[request.key] = sandbox
        zygote.sandboxes += 1
        sandbox.phases_us["cgroup"] = _since_us(started)
        forked = time.perf_counter_ns()

        def done(pidfd: int | None, error: str | None) -> None:
            sandbox.phases_us["clone"] = _since_us(forked)
            self._made(request, sandbox, pidfd, error)

        zygote.fork(ForkJob(theirs, done, sandbox.is_blank))

    def _made(
        self, request: protocol.Make, sandbox: _Sandbox, pidfd: int | None, error: str | None
    ) -> None:
        if pidfd is None:
            sandbox.is_dead = True
            self._doom(sandbox, protocol.Reply(request.n, error=error))
            return
        sandbox.pidfd = pidfd
        self._watch(pidfd, lambda: self._died(sandbox))
        if sandbox.farewells:  # destroyed meanwhile
            self._doom(sandbox, protocol.Reply(request.n, error="destroyed while it was made"))
            return
        try:
            self._furnish(sandbox, request)
        except OSError as failure:
            self._doom(sandbox, protocol.Reply(request.n, error=str(failure)))
            return
        names = ("pidfd", *sandbox.ours)
        reply = protocol.Reply(request.n, phases_us=sandbox.phases_us, names=names)
        self._reply(reply, (pidfd, *sandbox.ours.values()))
        sandbox.close_ours()

    def _claim(self, request: protocol.Claim) -> None:
        sandbox = self._sandboxes.get(request.key)
        if sandbox is None or sandbox.farewells or sandbox.is_dead or not sandbox.is_blank:
            raise ZygoteFailed(f"there is no blank sandbox {request.key}")
        sandbox.is_blank = False  # for ever: a sandbox serves one function version
        started = time.perf_counter_ns()
        sandbox.group.set_limits(request.limits, self._extra(request.limits))
        phases = {"cgroup": _since_us(started)}
        self._furnish(sandbox, request)
        phases["mount"] = sandbox.phases_us["mount"]
        self._reply(protocol.Reply(request.n, phases_us=phases))

    def _terminate(self, request: protocol.Terminate) -> None:
        sandbox = self._sandboxes.get(request.key)
        if sandbox is not None and sandbox.pidfd is not None:
            linux.pidfd_send_signal(sandbox.pidfd, signal.SIGTERM)
            sandbox.group.thaw()
        self._reply(protocol.Reply(request.n))

    def _destroy(self, request: protocol.Destroy) -> None:
        sandbox = self._sandboxes.get(request.key)
        if sandbox is None:
            self._reply(protocol.Reply(request.n))
        else:
            self._doom(sandbox, protocol.Reply(request.n))

    # --- zygotes ---

    def _first_uid(self, tenant: str) -> int | None:
        """Host id of the tenant's id 0; None for a launcher that has one id only."""
        index = self._tenants.get(tenant)
        if index is None:
            if len(self._tenants) >= _TENANTS_MAX:
                raise ZygoteFailed(f"more than {_TENANTS_MAX} tenants on this host")
            index = self._tenants[tenant] = len(self._tenants)
        if not self._is_privileged:
            return None
        return self._settings.tenant_base + IDS_PER_TENANT * index

    def _zygote(self, tenant: str, runtime: str) -> Zygote:
        interpreter = self._runtimes.get(runtime)
        if interpreter is None:
            raise ZygoteFailed(f"this host has no runtime {runtime}")
        zygote = self._zygotes.get((tenant, runtime))
        if zygote is not None and not zygote.is_old:
            return zygote
        if zygote is None and len(self._zygotes) >= _ZYGOTES_MAX:
            raise ZygoteFailed(f"more than {_ZYGOTES_MAX} zygotes on this host")
        if zygote is not None and zygote.sandboxes:
            self._retired.append(zygote)  # stays as long as its sandboxes, which end with it
        elif zygote is not None:
            self._drop_zygote(zygote)
        processes = 0 if "pids" in self._groups.controllers else 1024
        limits = (self._settings.zygote_forks_max, self._settings.zygote_age_max_s)
        seat = Seat(interpreter, self._guest, self._first_uid(tenant), processes, *limits)
        fresh = Zygote(seat)
        self._zygotes[tenant, runtime] = fresh
        self._watch(fresh.socket.fileno(), lambda: self._zygote_speaks(fresh))
        return fresh

    def _zygote_speaks(self, zygote: Zygote) -> None:
        try:
            zygote.readable()
        except ZygoteFailed as error:
            log(f"a zygote has failed: {error}")
            self._drop_zygote(zygote)

    def _drop_zygote(self, zygote: Zygote) -> None:
        self._forget(zygote.socket.fileno())
        zygote.kill()
        zygote.close()
        self._zygotes = {k: z for k, z in self._zygotes.items() if z is not zygote}
        self._retired = [z for z in self._retired if z is not zygote]

    # --- mounts ---

    def _extra(self, limits: protocol.Limits) -> int:
        return 0 if self._scratches.is_on_disk else limits.ephemeral_mib

    def _furnish(self, sandbox: _Sandbox, request: protocol.Make | protocol.Claim) -> None:
        """Give it ``/tmp`` of the right size and, where there is code, ``/var/task`` and ``/opt``."""
        limits = request.limits
        started = time.perf_counter_ns()
        if sandbox.pidfd is None:
            raise OSError(3, "the sandbox has no process")
        replaced = sandbox.scratch
        if replaced is None or sandbox.ephemeral_mib != limits.ephemeral_mib:
            sandbox.scratch = self._scratches.take(limits.ephemeral_mib)
            sandbox.ephemeral_mib = limits.ephemeral_mib
        if replaced is not None and replaced is not sandbox.scratch:
            sandbox.old_scratches.append(replaced)
        fresh = sandbox.scratch if sandbox.scratch is not replaced else None
        first_uid = self._first_uid(sandbox.tenant)
        trees = {TASK: request.code, OPT: request.layers}
        self._furnisher.attach(
            sandbox.pidfd, fresh, first_uid, trees, replaces=replaced is not None
        )
        sandbox.phases_us["mount"] = _since_us(started)

    # --- ends ---

    def _died(self, sandbox: _Sandbox) -> None:
        """Its process 1 has ended, and with it every process it had."""
        if sandbox.pidfd is not None:
            self._forget(sandbox.pidfd)
            os.close(sandbox.pidfd)
            sandbox.pidfd = None
        sandbox.is_dead = True

    def _doom(self, sandbox: _Sandbox, farewell: protocol.Reply) -> None:
        """Kill it; ``farewell`` is sent when nothing of it is left. May be called again."""
        sandbox.farewells.append(farewell)
        if sandbox.pidfd is not None:
            linux.pidfd_send_signal(sandbox.pidfd, signal.SIGKILL)
        sandbox.group.kill()

    def _bury(self) -> None:
        """Remove what is left of the dying, as far as the kernel has let go of it."""
        for sandbox in [s for s in self._sandboxes.values() if s.farewells]:
            if self._is_gone(sandbox):
                del self._sandboxes[sandbox.key]
                sandbox.close_ours()
                self._leave_zygote(sandbox.zygote)
                for reply in sandbox.farewells:
                    self._reply(reply)

    def _is_gone(self, sandbox: _Sandbox) -> bool:
        if not sandbox.is_dead:
            return False
        scratches = [*sandbox.old_scratches, *([sandbox.scratch] if sandbox.scratch else [])]
        for scratch in scratches:
            scratch.drop()
        if not sandbox.group.remove():
            sandbox.group.kill()
            return False
        return all(scratch.is_gone() for scratch in scratches)

    def _leave_zygote(self, zygote: Zygote) -> None:
        zygote.sandboxes -= 1
        if zygote in self._retired and zygote.sandboxes == 0:
            self._drop_zygote(zygote)

    def _clean(self) -> int:
        """Remove the groups that former launchers left, with their processes; how many."""
        left = list(self._groups.leftovers())
        count = len(left)
        deadline = time.perf_counter() + _END_WITHIN_S
        while left and time.perf_counter() < deadline:
            for group in left:
                group.kill()
            left = [group for group in left if not group.remove()]
            time.sleep(_RETRY_S)
        if left:
            raise OSError(16, f"{len(left)} old sandboxes could not be removed: {left[0].folders}")
        self._groups.remove_empty_homes()
        return count

    def _end(self) -> None:
        """Destroy everything, within bounds."""
        for sandbox in self._sandboxes.values():
            self._doom(sandbox, protocol.Reply(0))
        for zygote in {id(z): z for z in (*self._zygotes.values(), *self._retired)}.values():
            self._forget(zygote.socket.fileno())
            zygote.fail("the launcher is ending")
            zygote.close()
        deadline = time.perf_counter() + _END_WITHIN_S
        while self._sandboxes and time.perf_counter() < deadline:
            for fd, _ in self._epoll.poll(_RETRY_S):
                if fd != self._driver.fileno() and fd in self._readable:
                    self._readable[fd]()
            for sandbox in self._sandboxes.values():
                sandbox.group.kill()
            self._bury()
            _reap()
        self._scratches.close()
        self._groups.remove_homes()


def _since_us(started_ns: int) -> int:
    return (time.perf_counter_ns() - started_ns) // 1000


def _endpoints(first_uid: int | None, ours: dict[str, int], theirs: list[int]) -> None:
    """Add our ends by name, and the sandbox's ends: channel, log pipe, status pipe.

    Raises:
        OSError: no more descriptors; what was made until then is in ``ours`` and ``theirs``.
    """
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours["channel"] = near.detach()
    theirs.append(far.detach())
    for name in ("log", "status"):
        ours[name], write = os.pipe()
        theirs.append(write)
        if name == "log" and first_uid is not None:  # so that a function may open /dev/stdout
            os.fchown(write, first_uid + UID, first_uid + GID)


def _scratch_folder(data_dir: str) -> int:
    """``<data_dir>/sandbox``, a directory of ours that nobody else may enter."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    top = os.open(data_dir, flags)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir("sandbox", 0o700, dir_fd=top)
        fd = os.open("sandbox", flags, dir_fd=top)
    finally:
        os.close(top)
    os.fchown(fd, os.geteuid(), os.getegid())
    os.fchmod(fd, 0o700)
    return fd


def _empty(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 4096)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def log(text: str) -> None:
    """One line on the standard error that the platform gave us."""
    sys.stderr.write(f"sandbox launcher: {text}\n")
    sys.stderr.flush()
