"""The canonical form of a request that both sides of a signature compute.

Source of every rule here:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import quote_from_bytes, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
UNSIGNED_CHUNKS = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
UNSIGNED = frozenset({UNSIGNED_PAYLOAD, UNSIGNED_CHUNKS})
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_PLAIN_PATH = re.compile(rb"/[A-Za-z0-9_~/-][A-Za-z0-9_.~/-]*|/")
_PLAIN = re.compile(rb"[A-Za-z0-9_.~-]*")

Pair = tuple[bytes, bytes]


def canonical_path(path: bytes) -> bytes:
    """Normalise a raw path and encode it once more, as all services but S3 do.

    Empty and dot segments go; a ``%3A`` of the request becomes ``%253A``.
    """
    if _PLAIN_PATH.fullmatch(path) and b"//" not in path and b"/." not in path:
        return path
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in {b"", b"."}:
            kept.append(segment)
    tail = b"/" if kept and path.endswith(b"/") else b""
    normal = b"/" + b"/".join(kept) + tail
    return quote_from_bytes(normal, safe="/~").encode("ascii")


def object_path(path: bytes) -> bytes:
    """Encode a raw path as it is, once: names of objects may have empty and dot segments."""
    segments = (unquote_to_bytes(segment) for segment in path.split(b"/"))
    return "/".join([quote_from_bytes(segment, safe="~") for segment in segments]).encode("ascii")


def split_query(query: bytes) -> list[Pair]:
    """Split a raw query into (name, value), still encoded, in the order of the request."""
    if not query:
        return []
    parts = (pair.partition(b"=") for pair in query.split(b"&"))
    return [(name, value) for name, _, value in parts]


def _encoded(text: bytes) -> bytes:
    if _PLAIN.fullmatch(text):
        return text
    return quote_from_bytes(unquote_to_bytes(text), safe="-_.~").encode("ascii")


def canonical_query(pairs: Iterable[Pair]) -> bytes:
    """Encode pairs anew, so equal queries have one form, and sort them by name, then value."""
    encoded = sorted((_encoded(name), _encoded(value)) for name, value in pairs)
    return b"&".join(name + b"=" + value for name, value in encoded)


def canonical_value(value: bytes) -> bytes:
    """Trim a header's value and make one blank of each run of white space."""
    return b" ".join(value.split()) if b"  " in value or b"\t" in value else value.strip()


def join_headers(headers: Sequence[Pair]) -> dict[bytes, bytes]:
    """Values by lower-case name; repeated headers become canonical and are joined with commas."""
    joined = dict(headers)
    if len(joined) == len(headers):
        return joined
    repeated: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        repeated.setdefault(name, []).append(canonical_value(value))
    return {name: b",".join(values) for name, values in repeated.items()}


def canonical_head(method: bytes, path: bytes, query: bytes, signed: Sequence[Pair]) -> bytes:
    """Everything of the canonical request before the hash of the payload.

    Args:
        method: upper case.
        path: canonical.
        query: canonical.
        signed: (name, canonical value) of the signed headers, sorted by name.
    """
    lines = b"".join([name + b":" + value + b"\n" for name, value in signed])
    names = b";".join([name for name, _ in signed])
    return b"\n".join((method, path, query, lines, names, b""))


@lru_cache(maxsize=64)
def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Derive the key that signs requests of one day, region and service."""
    key = ("AWS4" + secret).encode()
    for part in (date, region, service, TERMINATOR):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def signature(key: bytes, timestamp: str, scope: str, canonical_request: bytes) -> str:
    """Sign a canonical request; hexadecimal.

    Args:
        key: from `signing_key`.
        timestamp: ``YYYYMMDDTHHMMSSZ``.
        scope: ``date/region/service/aws4_request``.
        canonical_request: `canonical_head` and the hash of the payload.
    """
    digest = hashlib.sha256(canonical_request).hexdigest()
    to_sign = f"{ALGORITHM}\n{timestamp}\n{scope}\n{digest}"
    return hmac.digest(key, to_sign.encode(), "sha256").hex()
