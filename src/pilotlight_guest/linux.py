"""The Linux system calls that Python's standard library lacks, by ctypes.

Namespaces, mounts (old and new interface), capabilities, and a fork into new namespaces.
Used by the privileged launcher, by zygotes and inside sandboxes. x86_64 and aarch64.

A raw ``clone`` by-passes `os.fork`: `fork_into` therefore calls the interpreter's own fork hooks,
else locks would be wrong and ``random`` would not be seeded again in the child. `split_into` leaves
them out, for a child that only makes system calls: the hooks write to some 200 pages, each of which
is then copied.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import sys
from pathlib import Path

NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x20000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
NAMESPACES = NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
CLONE_PIDFD, CLONE_PARENT = 0x1000, 0x8000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x100, 0x1000, 0x8000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC, MOVE_MOUNT_F_EMPTY_PATH = 1, 0o2000000, 4
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8
_RESOLVE_NO_XDEV, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 1, 4, 8
_FSOPEN_CLOEXEC, _FSMOUNT_CLOEXEC = 1, 1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP = 1, 4, 8, 24
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_SET_CHILD_SUBREAPER = 38, 47, 36
_PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
_CAPABILITY_VERSION_3 = 0x20080522

MACHINE = os.uname().machine
_COLUMN = {"x86_64": 0, "aarch64": 1}.get(MACHINE)
_NUMBERS = {
    "clone": (56, 220),
    "capset": (126, 91),
    "pivot_root": (155, 41),
    "setns": (308, 268),
    "seccomp": (317, 277),
    "pidfd_send_signal": (424, 424),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "pidfd_open": (434, 434),
    "close_range": (436, 436),
    "openat2": (437, 437),
    "mount_setattr": (442, 442),
}

libc = ctypes.CDLL(None, use_errno=True)
_raw = libc.syscall
_raw.restype = ctypes.c_long


def syscall(name: str, *args: object) -> int:
    """Call ``name``; integers are passed as unsigned longs.

    Raises:
        OSError: with the call's name and errno.
    """
    if _COLUMN is None:
        raise OSError(38, f"{name}: no system call table for {MACHINE}")
    words = [ctypes.c_ulong(a & 0xFFFFFFFFFFFFFFFF) if isinstance(a, int) else a for a in args]
    return check(_raw(_NUMBERS[name][_COLUMN], *words), name)


def check(result: int, what: str) -> int:
    """Return ``result``, or raise OSError with errno when it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Leave namespaces for fresh ones."""
    check(libc.unshare(flags), "unshare")


def setns(fd: int, flags: int) -> None:
    """Enter the namespaces of a process (pidfd) or one namespace (its descriptor)."""
    check(libc.setns(fd, flags), "setns")


def prctl(option: int, *args: int) -> int:
    """``prctl`` with missing arguments 0."""
    padded = [*args, 0, 0, 0, 0][:4]
    return check(libc.prctl(option, *[ctypes.c_ulong(a) for a in padded]), f"prctl {option}")


def set_hostname(name: bytes) -> None:
    """Set the host name of this UTS namespace."""
    check(libc.sethostname(name, len(name)), "sethostname")


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """``mount``; None for what a flag makes irrelevant."""
    result = libc.mount(
        _encoded(source), target.encode(), _encoded(kind), ctypes.c_ulong(flags), data.encode()
    )
    check(result, f"mount {source} on {target}")


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """``umount2``; detaches unless told otherwise."""
    check(libc.umount2(target.encode(), flags), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """Make ``new`` the root of this mount namespace."""
    syscall("pivot_root", new.encode(), old.encode())


def open_tree(path: str, *, dir_fd: int = AT_FDCWD, recursive: bool = True) -> int:
    """A detached clone of the mount tree at ``path``; the last component may not be a link.

    Unlike a plain directory descriptor, ``..`` stops at its root. An empty path means ``dir_fd``.
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    how = AT_SYMLINK_NOFOLLOW if path else AT_EMPTY_PATH
    return syscall("open_tree", dir_fd, path.encode(), flags | how)


def open_folder(path: str, *, dir_fd: int = AT_FDCWD) -> int:
    """An ``O_PATH`` descriptor of a directory; no component of ``path`` may be a link.

    Below ``dir_fd``, where one is given, and then on the same mount: neither ``..`` nor anything
    mounted there leads away.
    """
    resolve = _RESOLVE_NO_SYMLINKS
    if dir_fd != AT_FDCWD:
        resolve |= _RESOLVE_BENEATH | _RESOLVE_NO_XDEV
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    how = ctypes.create_string_buffer(struct.pack("QQQ", flags, 0, resolve), 24)
    return syscall("openat2", dir_fd, path.encode(), how, 24)


def mount_setattr(fd: int, attributes: int, *, recursive: bool = True) -> None:
    """Add attributes such as `ATTR_RDONLY` to a mount (and what is mounted below it)."""
    block = ctypes.create_string_buffer(struct.pack("QQQQ", attributes, 0, 0, 0), 32)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    syscall("mount_setattr", fd, b"", flags, block, 32)


def move_mount(fd: int, target: str) -> None:
    """Attach a detached mount at ``target`` in the current mount namespace."""
    syscall("move_mount", fd, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH)


def new_mount(kind: str, attributes: int, options: dict[str, str], source: str = "none") -> int:
    """A detached mount of a new filesystem of ``kind``.

    Args:
        kind: its type, such as ``ext4``.
        attributes: of the mount, such as `ATTR_NODEV`.
        source: device, where it has one.
        options: the filesystem's options; an empty value means a flag.
    """
    context = syscall("fsopen", kind.encode(), _FSOPEN_CLOEXEC)
    try:
        _configure(context, "source", source)
        for key, value in options.items():
            _configure(context, key, value)
        syscall("fsconfig", context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return syscall("fsmount", context, _FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)


def _configure(context: int, key: str, value: str) -> None:
    if value:
        syscall("fsconfig", context, _FSCONFIG_SET_STRING, key.encode(), value.encode(), 0)
    else:
        syscall("fsconfig", context, _FSCONFIG_SET_FLAG, key.encode(), None, 0)


def pidfd_send_signal(pidfd: int, signum: int) -> None:
    """Signal the process behind ``pidfd``; one that has ended is not an error."""
    try:
        syscall("pidfd_send_signal", pidfd, signum, None, 0)
    except ProcessLookupError:
        return


def last_capability() -> int:
    """Highest capability number that this kernel knows."""
    try:
        return int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 40


def drop_bounding_set(last_cap: int) -> None:
    """Give up what programs executed later could gain; the sets in effect stay as they are."""
    for capability in range(last_cap + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def become(uid: int, gid: int, last_cap: int) -> None:
    """Change to ``uid`` and ``gid`` and give up every capability, for good.

    Order matters: the bounding set needs CAP_SETPCAP, the ids need CAP_SETUID.
    """
    drop_bounding_set(last_cap)
    resign(uid, gid)


def resign(uid: int, gid: int) -> None:
    """`become` for a process whose bounding set is empty already."""
    with contextlib.suppress(PermissionError):
        os.setgroups([])  # a namespace with one mapped id forbids it; its groups are nobody there
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    prctl(PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    set_capabilities(0, 0, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """Set this thread's capability sets, each a bit mask."""
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), 8)
    sets = (effective, permitted, inheritable)
    low, high = [s & 0xFFFFFFFF for s in sets], [s >> 32 for s in sets]
    data = ctypes.create_string_buffer(struct.pack("6I", *low, *high), 24)
    syscall("capset", header, data)


def change_user_only(uid: int) -> None:
    """Change to ``uid`` and keep every capability we have."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    permitted = next(line for line in status.splitlines() if line.startswith("CapPrm:"))
    held = int(permitted.split()[1], 16)
    prctl(PR_SET_KEEPCAPS, 1)
    os.setresuid(uid, uid, uid)
    set_capabilities(held, held, 0)


def keep_capabilities_over_exec(last_cap: int) -> None:
    """Make all capabilities ambient, so that a user other than 0 keeps them over ``exec``."""
    everything = (1 << (last_cap + 1)) - 1
    set_capabilities(everything, everything, everything)
    for capability in range(last_cap + 1):
        prctl(PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def fork_into(flags: int) -> tuple[int, int]:
    """Fork into new namespaces; the caller must have one thread.

    Returns:
        (0, -1) in the child, (pid, pidfd) in the parent.
    """
    hooks = ctypes.pythonapi
    hooks.PyOS_BeforeFork()
    try:
        pid, pidfd = split_into(flags)
    except OSError:
        hooks.PyOS_AfterFork_Parent()
        raise
    if pid == 0:
        hooks.PyOS_AfterFork_Child()
    else:
        hooks.PyOS_AfterFork_Parent()
    return pid, pidfd


def split_into(flags: int) -> tuple[int, int]:
    """`fork_into` without the interpreter's hooks.

    For a child that does not use ``random``, ``threading``, ``logging`` or imports, nor does its
    parent rely on them having been told.
    """
    pidfd = ctypes.c_int(-1)
    pid = _clone(flags | CLONE_PIDFD, ctypes.byref(pidfd))
    return pid, pidfd.value if pid else -1


def _clone(flags: int, pidfd: object) -> int:
    if _COLUMN is None:
        raise OSError(38, f"clone: no system call table for {MACHINE}")
    zero = ctypes.c_ulong(0)
    word = ctypes.c_ulong(flags | signal.SIGCHLD)
    return check(_raw(_NUMBERS["clone"][_COLUMN], word, zero, pidfd, zero, zero), "clone")


def fork_last() -> int:
    """Fork where the parent will never import, log or fork again; as `os.fork` in the child.

    The parent is spared the hooks, and with them its own copies of what they write to.
    """
    hooks = ctypes.pythonapi
    hooks.PyOS_BeforeFork()
    pid = _clone(0, None)
    if pid == 0:
        hooks.PyOS_AfterFork_Child()
    return pid


def close_from(lowest: int) -> None:
    """Close every descriptor from ``lowest`` on."""
    try:
        syscall("close_range", lowest, 0xFFFFFFFF, 0)
    except OSError:  # before Linux 5.9
        os.closerange(lowest, _open_files_limit())


def _open_files_limit() -> int:
    try:
        return max(int(entry.name) for entry in Path("/proc/self/fd").iterdir()) + 1
    except (OSError, ValueError):
        return os.sysconf("SC_OPEN_MAX")


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def supported() -> bool:
    """Whether this machine is one whose system call numbers are known."""
    return sys.platform == "linux" and _COLUMN is not None
