"""The view's file on local disk: versioned, checked, replaced atomically, for its owner only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from pilotlight.ports.registry import Change

_MAGIC: Final = b"pilotlight-view 1 "
_DIGEST_LENGTH: Final = 64


class SnapshotUnusable(Exception):
    """The file is damaged or of another version; it is as if there were none."""


class _Contents(msgspec.Struct, frozen=True):
    revision: int
    changes: tuple[Change, ...]


def save(
    path: Path, revision: int, changes: Sequence[Change], *, draft_suffix: str = ".new"
) -> None:
    """Write the file; on return it survives a power cut. Blocks for two disk flushes.

    Raises:
        OSError: the former file, if any, is still there.
    """
    body = msgspec.msgpack.encode(_Contents(revision, tuple(changes)))
    digest = hashlib.sha256(body).hexdigest().encode()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(path.name + draft_suffix)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_MAGIC + digest + b"\n" + body)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load(path: Path) -> tuple[int, tuple[Change, ...]] | None:
    """Read the file: its revision and records; None when there is none.

    Raises:
        SnapshotUnusable: it cannot be trusted.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise SnapshotUnusable(str(fault)) from fault
    head, _, body = data.partition(b"\n")
    if len(head) != len(_MAGIC) + _DIGEST_LENGTH or not head.startswith(_MAGIC):
        raise SnapshotUnusable("not a view of this version")
    if hashlib.sha256(body).hexdigest().encode() != head.removeprefix(_MAGIC):
        raise SnapshotUnusable("the digest does not match")
    try:
        contents = msgspec.msgpack.decode(body, type=_Contents)
    except msgspec.MsgspecError as fault:
        raise SnapshotUnusable(str(fault)) from fault
    return contents.revision, contents.changes
