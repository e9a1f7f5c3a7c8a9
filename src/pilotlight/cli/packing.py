"""From a folder to a package: the same bytes for the same content, whoever packs it and when."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from pilotlight.cli.errors import CommandFailed
from pilotlight.config.project import PROJECT_FILE
from pilotlight.model import limits

ALWAYS_IGNORED = (
    ".*", "__pycache__", "*.pyc", "*.pyo", "venv", "node_modules", "*.dist-info/RECORD",
    PROJECT_FILE,
)  # fmt: skip
"""Never part of a package: hidden files (version control, environments, our build folder), what
Python makes by itself, and the project file. RECORD holds paths of the machine that packs."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(
    roots: Sequence[Path], ignore: Sequence[str], *, max_bytes: int = limits.PACKAGE_BYTES
) -> bytes:
    """Zip folders into one tree; the first one that has a name wins.

    Args:
        roots: folders whose content goes to the top of the package.
        ignore: patterns matched with the path inside the root and with each name in it.
        max_bytes: largest package the service takes.

    Raises:
        CommandFailed: a file cannot be read, a link leads out, or the package is too large.
    """
    files: dict[str, Path] = {}
    for root in roots:
        for path in _walk(root, (*ALWAYS_IGNORED, *ignore)):
            files.setdefault(path.relative_to(root).as_posix(), path)
    if not files:
        raise CommandFailed(f"{roots[0]} has no files to deploy.")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        for name, path in sorted(files.items()):
            _add(package, name, path)
    if out.tell() > max_bytes:
        largest = sorted(files.values(), key=lambda path: -path.stat().st_size)[:3]
        raise CommandFailed(
            f"The package has {out.tell() >> 20} MiB; the limit is {max_bytes >> 20} MiB.",
            "Leave files out with `ignore = [...]` in function.toml. The largest: "
            + ", ".join(path.name for path in largest),
        )
    return out.getvalue()


def is_ignored(name: str, patterns: Sequence[str]) -> bool:
    """Whether a path inside a root, or its last name, matches a pattern."""
    return any(fnmatch(name, pattern) or fnmatch(Path(name).name, pattern) for pattern in patterns)


def _walk(root: Path, patterns: Sequence[str]) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        inside = here.relative_to(root)
        folders[:] = [
            f for f in sorted(folders) if not is_ignored((inside / f).as_posix(), patterns)
        ]
        for name in folders:
            if (here / name).is_symlink():
                raise CommandFailed(
                    f"{here / name} is a link to a folder, which a package cannot hold.",
                    "Copy the folder, or leave it out with `ignore = [...]` in function.toml.",
                )
        for name in sorted(names):
            if not is_ignored((inside / name).as_posix(), patterns):
                yield _inside(root, here / name)


def _inside(root: Path, path: Path) -> Path:
    """A regular file; a link only where it stays in its root.

    Raises:
        CommandFailed: it is a device, a socket, a broken link, or a link to elsewhere.
    """
    target = path.resolve()
    if not target.is_file() or not target.is_relative_to(root.resolve()):
        raise CommandFailed(
            f"{path} is not a regular file inside {root}.",
            "Copy the file, or leave it out with `ignore = [...]` in function.toml.",
        )
    return path


def _add(package: zipfile.ZipFile, name: str, path: Path) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # Unix: the mode below counts
    try:
        runs = path.stat().st_mode & stat.S_IXUSR
        info.external_attr = (stat.S_IFREG | (0o755 if runs else 0o644)) << 16
        package.writestr(info, path.read_bytes())
    except OSError as exc:
        raise CommandFailed(f"{path} cannot be read: {exc.strerror}") from exc
