"""Records of staged objects: code and layers that deployment tools upload before they name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from pilotlight.wire.records import Stored

BUCKET: Final = "bucket"
"""Kind of a `BucketRecord`; its key is the bucket's name."""
OBJECT: Final = "staged-object"
"""Kind of an `ObjectRecord`; its key is `object_key`."""
UPLOAD: Final = "staged-upload"
"""Kind of an `UploadRecord`; its key is the upload's id."""


class BucketRecord(Stored, frozen=True, kw_only=True):
    """A bucket of an account."""

    name: str
    created_s: float


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of an object: a blob of its own. ``md5`` is hexadecimal."""

    blob: str
    size: int
    md5: str


class ObjectVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an object: its parts, in order."""

    id: str
    parts: tuple[Part, ...]
    etag: str
    modified_s: float
    content_type: str

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)


class ObjectRecord(Stored, frozen=True, kw_only=True):
    """An object with its versions, the newest first; there is at least one."""

    account: str
    bucket: str
    name: str
    versions: tuple[ObjectVersion, ...]


class UploadRecord(Stored, frozen=True, kw_only=True):
    """An object that is uploaded in parts. ``parts`` are by number."""

    account: str
    id: str
    bucket: str
    name: str
    content_type: str
    started_s: float
    parts: Mapping[str, Part] = {}


def object_key(bucket: str, name: str) -> str:
    """Key of an object's record."""
    return f"{bucket}/{name}"
