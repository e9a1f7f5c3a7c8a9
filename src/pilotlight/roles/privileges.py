"""Gives up root for good, before anything hostile is read (decision D19).

Only the launcher stays privileged. Everything else becomes an ordinary user with no capability and
no way to get one. Two things stand in the way and are solved here: directories that only root may
enter on the way to our own files (a home directory is usually closed to others), and a process that
is not dumpable after such a change, which could then not read its own ``/proc/self``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pilotlight.model.errors import ConfigurationError
from pilotlight_guest import linux


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """Who the platform runs as when it was started by root; numeric, needs no passwd entry."""

    uid: int
    gid: int


def closed_ancestors(paths: Iterable[Path]) -> dict[Path, tuple[Path, ...]]:
    """Directories that another user may not enter, each with the given paths below it.

    The outermost closed directory stands for all inside it.
    """
    found: dict[Path, set[Path]] = {}
    for path in paths:
        for ancestor in reversed(path.parents):
            if not ancestor.stat().st_mode & stat.S_IXOTH:
                found.setdefault(ancestor, set()).add(path)
                break
    return {closed: _outermost(inside) for closed, inside in found.items()}


def _outermost(paths: set[Path]) -> tuple[Path, ...]:
    """Without those that lie below another one."""
    return tuple(sorted(p for p in paths if not paths.intersection(p.parents)))


def open_way(paths: Iterable[Path]) -> None:
    """Make ``paths`` reachable for another user, in a mount namespace of our own.

    A closed directory is covered by an empty one in which only these paths appear again, at the
    same names; the host's view and its permissions stay as they are. The caller is root.

    Raises:
        OSError: the mounts were refused.
    """
    closed = closed_ancestors(paths)
    if not closed:
        return
    linux.unshare(linux.NEWNS)
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    for directory, inside in closed.items():
        trees = [(path, linux.open_tree(str(path))) for path in inside]
        linux.mount(
            "tmpfs", str(directory), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755,size=1m"
        )
        for path, tree in trees:
            path.mkdir(parents=True, exist_ok=True)
            linux.move_mount(tree, str(path))
            os.close(tree)


def give(root: Path, user: ServiceUser, keep: frozenset[str] = frozenset()) -> None:
    """Hand a directory and all in it to the service user.

    The directory belongs to that user since the last start, so nothing in it is believed: no
    link is followed, not even one put there meanwhile, and a file with a second name elsewhere
    (a hard link) stays whose it is.

    Args:
        root: the directory.
        user: who gets it.
        keep: names directly in it that stay ours.
    """
    for folder, names, files, folder_fd in os.fwalk(root):
        if folder == os.fspath(root):
            names[:] = [name for name in names if name not in keep]
            files = [name for name in files if name not in keep]  # noqa: PLW2901  (of this folder)
        for name in (".", *names, *files):
            if os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_uid != user.uid:
                _give_one(name, folder_fd, user)


def _give_one(name: str, folder_fd: int, user: ServiceUser) -> None:
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        facts = os.fstat(fd)
        is_file = stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1
        if is_file or stat.S_ISDIR(facts.st_mode):
            os.chown(f"/proc/self/fd/{fd}", user.uid, user.gid)
    finally:
        os.close(fd)


def drop(user: ServiceUser) -> None:
    """Become the service user: no capability in any set, no new privileges ever.

    Raises:
        ConfigurationError: something is left; the process must not go on.
    """
    linux.become(user.uid, user.gid, linux.last_capability())
    linux.prctl(linux.PR_SET_DUMPABLE, 1)
    left = capabilities()
    if any(left.values()) or os.geteuid() != user.uid:
        raise ConfigurationError(f"privileges could not be given up: {left}, uid {os.geteuid()}")


def capabilities(pid: int | str = "self") -> dict[str, int]:
    """All capability sets of a process, by their names in ``/proc/PID/status``."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {
        name: int(value, 16)
        for name, _, value in (line.partition(":") for line in lines)
        if name.startswith("Cap")
    }
