"""The data directory: its layout, and the lock that keeps two processes from opening it."""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pilotlight.model.errors import ConfigurationError


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
        root.mkdir(parents=True, exist_ok=True, mode=0o755)
        for name in ("blobs", "cache", "logs"):
            (root / name).mkdir(exist_ok=True, mode=0o755)
        fd = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise ConfigurationError(
            f"the data directory {root} cannot be used: {exc.strerror}; choose another with --data-dir"
        ) from exc
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
    return DataDir(root.resolve(), fd)
