"""Control groups of the sandboxes, version 1 and 2. Runs in the launcher.

Every group is ``<hierarchy>/<our own group>/pilotlight-<instance>/<key>``, so that a later
launcher of the same data directory finds what an earlier one left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pilotlight.dataplane.sandboxes.container.protocol import Limits

_WANTED_V1 = ("memory", "cpu", "cpuacct", "pids", "freezer")
_WANTED_V2 = ("memory", "cpu", "pids")
_SHARES_MIN, _SHARES_MAX = 2, 262_144
_INIT_PROCESSES = 1
_SEARCH_DEPTH = 6
_KILLED_AT_ONCE = 256


def shares(cpu_millis: int) -> int:
    """Value of cgroup v1 ``cpu.shares``: 1024 for one CPU. 1000 → 1024, 72 → 74."""
    return max(_SHARES_MIN, min(_SHARES_MAX, cpu_millis * 1024 // 1000))


def weight(cpu_millis: int) -> int:
    """Value of cgroup v2 ``cpu.weight`` in proportion to the shares, 1 to 10000. 1000 → 39."""
    return 1 + (shares(cpu_millis) - _SHARES_MIN) * 9999 // (_SHARES_MAX - _SHARES_MIN)


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Where this process may make groups.

    Attributes:
        v1: directory of our own group by controller.
        v2: directory of our own group in a version 2 hierarchy, or None.
        v2_controllers: what version 2 offers there.
    """

    v1: Mapping[str, Path] = field(default_factory=dict)
    v2: Path | None = None
    v2_controllers: frozenset[str] = frozenset()

    @property
    def uses_v1(self) -> bool:
        """Version 1 is used where it holds the memory controller."""
        return "memory" in self.v1

    def controllers(self) -> frozenset[str]:
        """Controllers in effect, by version 1 names."""
        if self.uses_v1:
            return frozenset(self.v1)
        if not self.v2_controllers:
            return frozenset()
        return self.v2_controllers | {"freezer", "cpuacct"}


def parse_mounts(mountinfo: str, own: str) -> tuple[dict[str, Path], Path | None]:
    """Directory of our own group by v1 controller, and in v2. Pure but for the existence check.

    Args:
        mountinfo: text of ``/proc/self/mountinfo``.
        own: text of ``/proc/self/cgroup``.
    """
    paths: dict[str, str] = {}
    for line in own.splitlines():
        _, names, path = line.split(":", 2)
        paths.update(dict.fromkeys(names.split(","), path))
    v1: dict[str, Path] = {}
    v2 = None
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        point, root = left.split()[4], left.split()[3]
        kind, _, options = right.split(None, 2)
        if kind == "cgroup":
            for name in set(options.split(",")) & set(_WANTED_V1):
                v1[name] = _below(Path(point), root, paths.get(name, "/"))
        elif kind == "cgroup2":
            v2 = _below(Path(point), root, paths.get("", "/"))
    return v1, v2


def _below(point: Path, root: str, own: str) -> Path:
    """Our group under a mount of the subtree ``root``; the mount itself where it lies outside."""
    relative = os.path.relpath(own, root)
    if relative.startswith("..") or not (point / relative).is_dir():
        return point
    return point / relative


def find() -> Hierarchies:
    """Look at this host. Read only."""
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    except OSError:
        return Hierarchies()
    v1, v2 = parse_mounts(mountinfo, own)
    v1 = {name: path for name, path in v1.items() if os.access(path, os.W_OK)}
    if v2 is not None and os.access(_top(v2), os.W_OK):
        v2 = _top(v2)  # its root may hold processes and groups; a session's own group may not
    offered: frozenset[str] = frozenset()
    if v2 is not None and os.access(v2, os.W_OK):
        with contextlib.suppress(OSError):
            words = (v2 / "cgroup.controllers").read_text(encoding="ascii").split()
            offered = frozenset(words) & frozenset(_WANTED_V2)
    return Hierarchies(v1, v2 if offered else None, offered)


def _write(path: Path, value: object) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


class Group:
    """The groups of one sandbox, one directory a controller (v1) or one in all (v2)."""

    def __init__(self, folders: Mapping[str, Path], *, is_v1: bool) -> None:
        self.folders = folders
        self.is_v1 = is_v1
        self._remaining = list(dict.fromkeys(folders.values()))

    def make(self) -> None:
        """Make the directories."""
        for folder in self._remaining:
            folder.mkdir()

    def join_fds(self) -> list[int]:
        """Files to write ``0`` to for the child that joins; the caller closes them.

        On version 1 ``tasks``: a single thread that moves itself needs no lock over all processes
        of the host, which the kernel takes for ``cgroup.procs`` and which costs a wait for RCU,
        10 ms and more.
        """
        name = "tasks" if self.is_v1 else "cgroup.procs"
        found: list[int] = []
        try:
            for folder in dict.fromkeys(self.folders.values()):
                fd = os.open(folder / name, os.O_WRONLY | os.O_CLOEXEC)
                found.append(fd)
        except OSError:
            _close_all(found)
            raise
        return found

    def control_fds(self) -> dict[str, int]:
        """Files that the driver uses without privilege; the caller closes them."""
        wanted = {
            "freeze": ("freezer", "freezer.state" if self.is_v1 else "cgroup.freeze", os.O_RDWR),
            "peak": ("memory", "memory.max_usage_in_bytes" if self.is_v1 else "memory.peak", 0),
            "cpu": ("cpuacct", "cpuacct.usage" if self.is_v1 else "cpu.stat", 0),
            "oom": ("memory", "memory.oom_control" if self.is_v1 else "memory.events", 0),
        }
        found: dict[str, int] = {}
        try:
            for name, (controller, file, flags) in wanted.items():
                folder = self.folders.get(controller)
                if folder is not None:
                    with contextlib.suppress(FileNotFoundError):  # memory.peak: Linux 5.19
                        found[name] = os.open(folder / file, flags | os.O_CLOEXEC)
        except OSError:
            _close_all(found.values())
            raise
        return found

    def set_limits(self, limits: Limits, extra_mib: int = 0) -> None:
        """Rewrite the limits; ``extra_mib`` is memory that a tmpfs takes from the group."""
        bytes_ = (limits.memory_mib + extra_mib) << 20
        processes = limits.pids_max + _INIT_PROCESSES
        if "memory" in self.folders:
            if self.is_v1:
                self._set_memory_v1(bytes_)
            else:
                self._set_memory_v2(bytes_)
        if "cpu" in self.folders:
            file, value = (
                ("cpu.shares", shares(limits.cpu_millis))
                if self.is_v1
                else ("cpu.weight", weight(limits.cpu_millis))
            )
            _write(self.folders["cpu"] / file, value)
        if "pids" in self.folders:
            _write(self.folders["pids"] / "pids.max", processes)

    def _set_memory_v1(self, limit: int) -> None:
        folder = self.folders["memory"]
        plain, with_swap = folder / "memory.limit_in_bytes", folder / "memory.memsw.limit_in_bytes"
        if not with_swap.exists():
            _write(plain, limit)
            return
        try:  # memory + swap may never be below memory: the order depends on the direction
            _write(plain, limit)
            _write(with_swap, limit)
        except OSError:
            _write(with_swap, limit)
            _write(plain, limit)

    def _set_memory_v2(self, limit: int) -> None:
        folder = self.folders["memory"]
        _write(folder / "memory.max", limit)
        for name, value in (("memory.swap.max", 0), ("memory.oom.group", 1)):
            with contextlib.suppress(FileNotFoundError):
                _write(folder / name, value)

    def kill(self) -> None:
        """SIGKILL to every process, frozen ones too. On v1 a frozen process dies once thawed."""
        if not self.is_v1 and self._kill_v2():
            return
        self._kill_listed()
        self.thaw()

    def _kill_listed(self) -> None:
        """SIGKILL to some of our processes; whoever waits for the end calls again.

        A number may belong to another process by the time of the signal. So each is held first,
        and killed only if the group still lists it: then what is held is, or was, a process of
        ours.
        """
        held: dict[int, int] = {}
        try:
            for pid in sorted(self.pids())[:_KILLED_AT_ONCE]:
                with contextlib.suppress(OSError):
                    held[pid] = os.pidfd_open(pid)
            for pid in self.pids() & held.keys():
                with contextlib.suppress(OSError):
                    signal.pidfd_send_signal(held[pid], signal.SIGKILL)
        finally:
            for pidfd in held.values():
                os.close(pidfd)

    def _kill_v2(self) -> bool:
        try:
            for folder in self._remaining:
                _write(folder / "cgroup.kill", 1)
        except OSError as error:
            return error.errno == errno.ENODEV  # gone already; else an old kernel without it
        return True

    def thaw(self) -> None:
        """Let frozen processes run."""
        folder = self.folders.get("freezer")
        if folder is not None:
            with contextlib.suppress(OSError):
                _write(
                    *(folder / "freezer.state", "THAWED")
                    if self.is_v1
                    else (folder / "cgroup.freeze", 0)
                )

    def pids(self) -> set[int]:
        """Processes in any of the groups, as this process numbers them."""
        found: set[int] = set()
        for folder in self._remaining:
            with contextlib.suppress(OSError):
                words = (folder / "cgroup.procs").read_text(encoding="ascii").split()
                found.update(pid for pid in map(int, words) if pid > 0)
        return found

    def remove(self) -> bool:
        """Remove what is empty; True once nothing is left."""
        left = []
        for folder in self._remaining:
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                left.append(folder)
        self._remaining = left
        return not left


class Groups:
    """All groups of one instance."""

    def __init__(self, hierarchies: Hierarchies, instance: str) -> None:
        self._hierarchies = hierarchies
        self._name = f"pilotlight-{instance}"
        self._token = os.urandom(4).hex()  # tells our groups from those of another launcher
        self.controllers = hierarchies.controllers()
        self._homes: dict[str, Path] = {}

    def prepare(self) -> None:
        """Make the instance's own directories and turn controllers on. Idempotent.

        Raises:
            OSError: a hierarchy refuses it.
        """
        if self._hierarchies.uses_v1:
            self._homes = {c: p / self._name for c, p in self._hierarchies.v1.items()}
        elif self._hierarchies.v2 is not None and self.controllers:
            enable(self._hierarchies.v2, self._hierarchies.v2_controllers)
            home = self._hierarchies.v2 / self._name
            self._homes = dict.fromkeys(self.controllers, home)
        for home in set(self._homes.values()):
            home.mkdir(exist_ok=True)
        if not self._hierarchies.uses_v1 and self._homes:
            enable(next(iter(self._homes.values())), self._hierarchies.v2_controllers)

    def create(self, key: int, limits: Limits, extra_mib: int = 0) -> Group:
        """Make the groups of one sandbox with their limits; nothing is left when it fails."""
        group = self._group(f"{self._token}-{key}")
        try:
            for home in set(self._homes.values()):
                home.mkdir(exist_ok=True)  # a launcher that ends removes an empty one
            group.make()
            group.set_limits(limits, extra_mib)
        except OSError:
            group.remove()
            raise
        return group

    def _group(self, name: str) -> Group:
        folders = {controller: home / name for controller, home in self._homes.items()}
        return Group(folders, is_v1=self._hierarchies.uses_v1)

    def leftovers(self) -> Iterator[Group]:
        """Groups of this instance that are not ours, wherever an earlier start made them."""
        is_v1 = self._hierarchies.uses_v1
        found: dict[str, dict[str, Path]] = {}  # names are unique: each launcher has its token
        for controller, folder in self._roots().items():
            for home in _homes_named(_top(folder), self._name):
                for child in _folders(home):
                    if not child.name.startswith(f"{self._token}-"):
                        found.setdefault(child.name, {})[controller] = child
        for folders in found.values():
            yield Group(folders, is_v1=is_v1)

    def remove_empty_homes(self) -> None:
        """Remove directories of this instance that other launchers left."""
        for controller, folder in self._roots().items():
            for home in _homes_named(_top(folder), self._name):
                if home != self._homes.get(controller):
                    with contextlib.suppress(OSError):
                        home.rmdir()

    def _roots(self) -> Mapping[str, Path]:
        if self._hierarchies.uses_v1:
            return self._hierarchies.v1
        if self._hierarchies.v2 is None:
            return {}
        return dict.fromkeys(self.controllers, self._hierarchies.v2)

    def remove_homes(self) -> None:
        """Remove the instance's directories where they are empty."""
        for home in set(self._homes.values()):
            with contextlib.suppress(OSError):
                home.rmdir()


def _top(folder: Path) -> Path:
    """Mount point of the hierarchy that ``folder`` is in."""
    while folder.parent != folder and (folder.parent / "cgroup.procs").exists():
        folder = folder.parent
    return folder


def _folders(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.iterdir() if entry.is_dir()]
    except OSError:
        return []


def _homes_named(top: Path, name: str) -> Iterator[Path]:
    """Directories called ``name`` below ``top``, not deeper than `_SEARCH_DEPTH`."""
    level = [top]
    for _ in range(_SEARCH_DEPTH):
        level = [child for folder in level for child in _folders(folder)]
        yield from (folder for folder in level if folder.name == name)
        level = [folder for folder in level if folder.name != name]


def enable(folder: Path, controllers: frozenset[str]) -> None:
    """Offer ``controllers`` to the children of a version 2 group.

    A group with processes of its own cannot: they move to a leaf first (the rule of no internal
    processes; https://docs.kernel.org/admin-guide/cgroup-v2.html).
    """
    words = " ".join(f"+{name}" for name in sorted(controllers))
    control = folder / "cgroup.subtree_control"
    if controllers <= set(control.read_text(encoding="ascii").split()):
        return
    try:
        _write(control, words)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        leaf = folder / "pilotlight-host"
        leaf.mkdir(exist_ok=True)
        for pid in (folder / "cgroup.procs").read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):
                _write(leaf / "cgroup.procs", pid)
        _write(control, words)
