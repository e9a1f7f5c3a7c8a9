"""The read-only root that sandboxes of one runtime share. Runs in a fork of the launcher.

A small tmpfs with system libraries, the interpreter and our guest code bound into it; nothing of
the host's ``/etc``, ``/home``, ``/var`` or ``/sys``. The process enters it for good.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pilotlight_guest import linux

_WORKBENCH = "/tmp"  # noqa: S108  # in a mount namespace of our own, covered by our own tmpfs
_USER = "sbx_user1051"

_SYSTEM = (
    "/usr/bin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/local/lib",
    "/usr/share/zoneinfo", "/usr/share/ca-certificates", "/usr/share/misc", "/usr/share/fonts",
    "/bin", "/lib", "/lib32", "/lib64",
    "/etc/ld.so.cache", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted", "/etc/alternatives", "/etc/mime.types", "/etc/fonts",
    "/etc/os-release", "/etc/protocols", "/etc/services",
)  # fmt: skip
_DEVICES = ("null", "zero", "full", "random", "urandom")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
_FOLDERS = (
    "proc", "sys", "dev", "tmp", "opt", "run", "root", "home", "etc", "usr", "mnt",
    "var/task", "var/runtime", "var/empty", "var/tmp", "var/lang/bin",
)  # fmt: skip
_FILES_MAX_BYTES = 16 << 20
_READ_ONLY = linux.ATTR_RDONLY | linux.ATTR_NOSUID | linux.ATTR_NODEV
_DEVICE = linux.ATTR_NOSUID | linux.ATTR_NOEXEC


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Plain facts of a runtime; see ``HostRuntime``."""

    name: str
    executable: str
    prefix: str


def etc_files(uid: int, gid: int) -> dict[str, str]:
    """Content of the sandbox's own ``/etc``."""
    return {
        "passwd": f"root:x:0:0:root:/root:/sbin/nologin\n{_USER}:x:{uid}:{gid}::/home/{_USER}:/sbin/nologin\n",
        "group": f"root:x:0:\n{_USER}:x:{gid}:\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
        "resolv.conf": "",
        "hostname": "sandbox\n",
    }


def binds(interpreter: Interpreter) -> tuple[str, ...]:
    """Host paths that appear in the root at the same place, outer before inner. Pure.

    The interpreter's prefix comes last, so that it wins over a system folder that holds it.
    """
    own: list[str] = []
    for path in (interpreter.prefix, interpreter.executable):
        covered = any(PurePosixPath(path).is_relative_to(p) for p in (*_SYSTEM, *own))
        if not covered and path not in {"/", "/usr"}:
            own.append(path)
    system = [p for p in _SYSTEM if not any(PurePosixPath(p).is_relative_to(o) for o in own)]
    return (*system, *own)


def enter(
    interpreter: Interpreter, guest: Iterable[tuple[str, bytes]], ids: tuple[int, int]
) -> None:
    """Build the root in this process's (private) mount namespace and make it ``/``.

    Args:
        interpreter: the runtime whose prefix appears.
        guest: files of ``pilotlight_guest``, by path below ``/var/runtime``.
        ids: user and group that functions run as.

    Raises:
        OSError: a mount was refused; its message names the path.
    """
    os.umask(0o022)
    found = [p for p in binds(interpreter) if Path(p).exists()]
    links = {p: Path(p).readlink() for p in found if Path(p).is_symlink()}
    clones = [(p, _clone(p, _READ_ONLY)) for p in found if p not in links]
    devices = [(f"/dev/{n}", _clone(f"/dev/{n}", _DEVICE)) for n in _DEVICES]
    proc = linux.open_tree("/proc")
    linux.mount(
        "tmpfs", _WORKBENCH, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=16m,mode=0755"
    )
    os.chdir(_WORKBENCH)
    for folder in _FOLDERS:
        Path(folder).mkdir(parents=True, exist_ok=True)
    for path, target in links.items():
        _place(path).symlink_to(target)
    for path, clone in [*clones, *devices]:
        _attach(path, clone)
    _attach("/proc", proc)
    _write_files(guest, ids)
    root = os.open(".", os.O_PATH | os.O_CLOEXEC)
    linux.mount_setattr(
        root, linux.ATTR_RDONLY | linux.ATTR_NOSUID | linux.ATTR_NODEV, recursive=False
    )
    os.close(root)
    linux.pivot_root(".", ".")
    linux.umount(".")
    os.chdir("/")


def _clone(path: str, attributes: int) -> int:
    """A detached mount of ``path``, safe to attach."""
    try:
        real = os.path.realpath(path)
        fd = linux.open_tree(real)
        linux.mount_setattr(fd, attributes)
    except OSError as error:
        raise OSError(error.errno, f"{path}: {error.strerror}") from error
    return fd


def _place(path: str) -> Path:
    """Where a host path appears on the workbench; its parents are made."""
    place = Path(path.lstrip("/"))
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _attach(path: str, clone: int) -> None:
    place = _place(path)
    is_folder = stat.S_ISDIR(os.fstat(clone).st_mode)
    if is_folder:
        place.mkdir(exist_ok=True)
    elif not place.exists():
        place.touch()
    linux.move_mount(clone, str(place))
    os.close(clone)


def _write_files(guest: Iterable[tuple[str, bytes]], ids: tuple[int, int]) -> None:
    for name, text in etc_files(*ids).items():
        Path("etc", name).write_text(text, encoding="ascii")
    for name, target in _DEVICE_LINKS.items():
        Path("dev", name).symlink_to(target)
    Path("etc/localtime").symlink_to("/usr/share/zoneinfo/UTC")
    for name, content in guest:
        place = Path("var/runtime", name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def guest_files(guest_root: str) -> list[tuple[str, bytes]]:
    """Sources of ``pilotlight_guest`` below ``guest_root``, read once.

    Raises:
        OSError: it is not there.
    """
    top = Path(guest_root)
    files = sorted((top / "pilotlight_guest").rglob("*.py"))
    content = [(str(p.relative_to(top)), p.read_bytes()) for p in files]
    if not content or sum(len(c) for _, c in content) > _FILES_MAX_BYTES:
        raise OSError(2, f"no guest code below {guest_root}")
    return content
