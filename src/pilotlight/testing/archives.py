"""Zips for tests, well-formed and hostile ones."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Iterable

FILE = stat.S_IFREG | 0o644
LINK = stat.S_IFLNK | 0o777


def archive(
    entries: Iterable[tuple[str, bytes, int]], *, method: int = zipfile.ZIP_DEFLATED
) -> bytes:
    """A zip of (name, contents, Unix mode); names are written as they are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as out:
        for name, contents, mode in entries:
            info = zipfile.ZipInfo("placeholder", (2020, 2, 3, 4, 5, 6))
            info.filename = name
            info.create_system = 3
            info.external_attr = mode << 16
            info.compress_type = method
            # Duplicate names are what some tests want: the warning is not for them.
            out.NameToInfo.clear()
            out.writestr(info, contents)
    return buffer.getvalue()


def files(**contents: bytes) -> bytes:
    """A zip of ordinary files; ``__`` in a name stands for a slash."""
    return archive((name.replace("__", "/"), body, FILE) for name, body in contents.items())


def directory_of(package: bytes) -> int:
    """Where the central directory begins."""
    end = package.rindex(b"PK\x05\x06")
    return int(struct.unpack_from("<I", package, end + 16)[0])


def with_central(package: bytes, offset: int, value: bytes) -> bytes:
    """The archive with bytes of its first central header replaced."""
    at = directory_of(package) + offset
    return package[:at] + value + package[at + len(value) :]


def with_local(package: bytes, offset: int, value: bytes) -> bytes:
    """The archive with bytes of its first local header replaced."""
    return package[:offset] + value + package[offset + len(value) :]
