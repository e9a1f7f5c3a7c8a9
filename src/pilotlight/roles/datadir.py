"""The data directory: its layout, and the lock that keeps two processes from opening it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pilotlight.model.errors import ConfigurationError

_LOCK = "lock"
_PASSABLE, _PRIVATE = 0o711, 0o700
_BEFORE_FIRST_START = frozenset({"credentials", "runtimes.json"})
"""What a user may have put there, or the command line, before the platform first ran."""

KEPT_BY_ROOT = frozenset({"sandbox", "runtimes.json"})
"""Never given to the service user: the launcher's own folder, and the list of programs that root
will run at the next start."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """Where everything is kept (design, section 5). The lock lives as long as ``lock_fd``."""

    root: Path
    lock_fd: int

    @property
    def registry(self) -> Path:
        """Functions, URLs, policies, settings of accounts."""
        return self.root / "registry.db"

    @property
    def queue(self) -> Path:
        """Asynchronous invocations: what waits, and how the others ended."""
        return self.root / "queue.db"

    @property
    def audit(self) -> Path:
        """Who called the control plane, for what."""
        return self.root / "audit.db"

    @property
    def blobs(self) -> Path:
        """Uploaded packages."""
        return self.root / "blobs"

    @property
    def cache(self) -> Path:
        """Unpacked code and other things that can be made again."""
        return self.root / "cache"

    @property
    def code(self) -> Path:
        """Unpacked packages, one folder each: what sandboxes mount."""
        return self.cache / "code"

    @property
    def logs(self) -> Path:
        """Function logs."""
        return self.root / "logs"

    @property
    def keys(self) -> Path:
        """Keys that encrypt environment variables."""
        return self.root / "keys.json"

    @property
    def view(self) -> Path:
        """The frontend's last view of the registry."""
        return self.root / "cache" / "view"

    @property
    def instance(self) -> str:
        """Short name of this directory: host resources are marked with it, to be found again."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:10]

    def close(self) -> None:
        """Give up the lock."""
        os.close(self.lock_fd)


def open_data_dir(path: Path) -> DataDir:
    """Create the directory if need be, and lock it for this process.

    Raises:
        ConfigurationError: it is in use, or cannot be written.
    """
    root = path.expanduser().absolute()
    try:
        root.mkdir(parents=True, exist_ok=True, mode=_PASSABLE)
        _refuse_foreign(root)
        fd = os.open(root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise _unusable(root, exc) from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise ConfigurationError(
            f"the data directory {root} is in use by the running Pilotlight process {holder}; "
            "stop that one, or choose another with --data-dir"
        ) from exc
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    try:
        _close_to_others(root)
    except OSError as exc:
        os.close(fd)
        raise _unusable(root, exc) from exc
    return DataDir(root.resolve(), fd)


def _unusable(root: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"the data directory {root} cannot be used: {error.strerror}; "
        "choose another with --data-dir"
    )


def _refuse_foreign(root: Path) -> None:
    """Not a directory that is used for something else: as root, all in it would change hands.

    Raises:
        ConfigurationError: it has no lock of ours, but files that are not ours.
    """
    names = {entry.name for entry in root.iterdir()}
    foreign = sorted(names - _BEFORE_FIRST_START)
    if foreign and _LOCK not in names:
        raise ConfigurationError(
            f"{root} is no data directory of Pilotlight: it holds {foreign[0]!r}; "
            "choose an empty one, or one that is not there yet, with --data-dir"
        )


def _close_to_others(root: Path) -> None:
    """Others may pass through to find the endpoint; code, logs and uploads are not theirs.

    Sandboxes need no way: their code is mounted for them.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchmod(top, _PASSABLE)
        for name in ("blobs", "cache", "logs"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, _PRIVATE, dir_fd=top)
            fd = os.open(name, flags, dir_fd=top)
            try:
                os.fchmod(fd, _PRIVATE)
                if name == "cache":  # the launcher opens it before anybody else runs
                    with contextlib.suppress(FileExistsError):
                        os.mkdir("code", 0o755, dir_fd=fd)
            finally:
                os.close(fd)
    finally:
        os.close(top)
