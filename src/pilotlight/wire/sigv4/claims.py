"""What a request claims about its signature, read from the Authorization header or the query.

Everything here comes from an unauthenticated client: it is bounded, and nothing is believed.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from pilotlight.model.errors import ApiError
from pilotlight.wire.sigv4.canonical import ALGORITHM, Pair

_HEADER_LIMIT_BYTES = 8 * 1024
_EXPIRES_MAX_S = 7 * 24 * 3600
_REGION = re.compile(r"[a-z0-9-]{1,32}")
_TIMESTAMP = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_EXPIRES = re.compile(r"[0-9]{1,6}")
_CREDENTIAL_PARTS = 5
_CREDENTIAL_LIMIT = 256
_HEADER_PARTS = ("Credential", "Signature", "SignedHeaders")
_QUERY_PARTS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
    "X-Amz-Date",
)


@dataclass(frozen=True, slots=True)
class Scope:
    """The credential of a signature: whose key, and what the key is good for."""

    access_key: str
    date: str
    region: str
    service: str
    terminator: str

    def __str__(self) -> str:
        """The scope as it is signed, without the access key."""
        return f"{self.date}/{self.region}/{self.service}/{self.terminator}"


@dataclass(frozen=True, slots=True)
class Claims:
    """One claimed signature; every field is well-formed, none is verified.

    Attributes:
        signed_headers: lower-case names, sorted, without duplicates.
        timestamp: when it was signed, as ``YYYYMMDDTHHMMSSZ``.
        signed_s: the same in seconds since the epoch.
        expires_s: how long a presigned URL is good for; None for a signed header.
        session_token: of temporary credentials, if one came along.
    """

    scope: Scope
    signed_headers: tuple[bytes, ...]
    signature: bytes
    timestamp: str
    signed_s: float
    expires_s: int | None
    session_token: str | None


def incomplete(message: str) -> ApiError:
    """The signature lacks a part, or a part cannot be read."""
    return ApiError("IncompleteSignatureException", message, status=403)


_CLAIMED = re.compile(
    rb"Credential=[^/,&\s]{1,128}(?:/|%2F)\d{8}(?:/|%2F)[^/,&%\s]{1,32}(?:/|%2F)([a-z0-9-]{1,32})(?:/|%2F)"
)


def claimed_service(authorization: bytes, query: bytes) -> str | None:
    """The service a signature claims to be for; None when there is none to read.

    It only chooses which protocol answers: that one verifies the signature for this very service.
    """
    text = authorization or query
    match = _CLAIMED.search(text[:_HEADER_LIMIT_BYTES])
    return None if match is None else match[1].decode("ascii")


def from_header(value: bytes, headers: Mapping[bytes, bytes]) -> Claims:
    """Read a signature of the Authorization header.

    Args:
        value: of the header.
        headers: of the request by lower-case name, repeated ones joined.

    Raises:
        ApiError: IncompleteSignatureException.
    """
    if len(value) > _HEADER_LIMIT_BYTES:
        raise incomplete(f"Authorization header is too long. {_evidence(value)}")
    scheme, _, rest = value.strip().decode("latin-1").partition(" ")
    parts = _parts(rest, value) if scheme == ALGORITHM else {}
    stamp = headers.get(b"x-amz-date") or headers.get(b"date")
    missing = [
        f"Authorization header requires '{name}' parameter."
        for name in _HEADER_PARTS
        if not parts.get(name)
    ]
    if not stamp:
        missing.append(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        )
    if missing or not stamp:
        raise incomplete(f"{' '.join(missing)} {_evidence(value)}")
    timestamp, signed_s = _time(stamp.strip().decode("latin-1"))
    token = headers.get(b"x-amz-security-token")
    return Claims(
        scope=_scope(parts["Credential"]),
        signed_headers=_names(parts["SignedHeaders"]),
        signature=parts["Signature"].encode("latin-1"),
        timestamp=timestamp,
        signed_s=signed_s,
        expires_s=None,
        session_token=token.strip().decode("latin-1") if token else None,
    )


def from_query(pairs: list[Pair]) -> Claims:
    """Read a signature of a presigned URL.

    Raises:
        ApiError: IncompleteSignatureException.
    """
    found: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = unquote_to_bytes(raw_name).decode("latin-1")
        if name in found and name.startswith("X-Amz-"):
            raise incomplete(f"AWS query-string parameter '{name}' must occur once.")
        found[name] = unquote_to_bytes(raw_value).decode("latin-1")
    missing = [name for name in _QUERY_PARTS if not found.get(name)]
    if missing:
        wanted = " ".join(f"AWS query-string parameters must include '{n}'." for n in missing)
        raise incomplete(f"{wanted} Re-examine the query-string parameters.")
    if found["X-Amz-Algorithm"] != ALGORITHM:
        raise incomplete(f"X-Amz-Algorithm only supports '{ALGORITHM}'.")
    timestamp, signed_s = _time(found["X-Amz-Date"])
    return Claims(
        scope=_scope(found["X-Amz-Credential"]),
        signed_headers=_names(found["X-Amz-SignedHeaders"]),
        signature=found["X-Amz-Signature"].encode("latin-1"),
        timestamp=timestamp,
        signed_s=signed_s,
        expires_s=_expires(found.get("X-Amz-Expires", "")),
        session_token=found.get("X-Amz-Security-Token"),
    )


def _evidence(value: bytes) -> str:
    # The value may hold a secret pasted by mistake, so only its hash is repeated.
    digest = base64.b64encode(hashlib.sha256(value).digest()).decode()
    return f"(Hashed with SHA-256 and encoded with Base64) Authorization={digest}"


def _parts(rest: str, value: bytes) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in rest.split(","):
        name, equal, text = part.strip().partition("=")
        if not equal or name in parts:
            raise incomplete(
                f"Authorization header must be a list of distinct key=value pairs. {_evidence(value)}"
            )
        parts[name] = text
    return parts


# A client repeats its credential and its list of headers in every request, and clients that sign
# in the same second share a timestamp, so the three readers below remember what they read last.


@lru_cache(maxsize=512)
def _scope(credential: str) -> Scope:
    parts = credential.split("/")
    if len(parts) != _CREDENTIAL_PARTS or not parts[0] or len(credential) > _CREDENTIAL_LIMIT:
        raise incomplete(
            "Credential must have exactly 5 slash-delimited elements, "
            f"e.g. keyid/date/region/service/term, got '{credential[:_CREDENTIAL_LIMIT]}'"
        )
    access_key, date, region, service, terminator = parts
    if not _REGION.fullmatch(region):
        # The region becomes part of ARNs, so it may not be anything.
        raise incomplete(f"Credential should be scoped to a valid region, not '{region[:64]}'.")
    return Scope(access_key, date, region, service, terminator)


@lru_cache(maxsize=512)
def _names(signed_headers: str) -> tuple[bytes, ...]:
    return tuple(sorted({name.encode("latin-1") for name in signed_headers.lower().split(";")}))


@lru_cache(maxsize=512)
def _time(text: str) -> tuple[str, float]:
    """Read ``X-Amz-Date``, or the date of RFC 7231 that a ``Date`` header has."""
    try:
        if _TIMESTAMP.fullmatch(text):
            clock = (int(text[a:b]) for a, b in ((4, 6), (6, 8), (9, 11), (11, 13), (13, 15)))
            month, day, hour, minute, second = clock
            when = datetime(int(text[:4]), month, day, hour, minute, second, tzinfo=UTC)
            return text, when.timestamp()
        when = parsedate_to_datetime(text)
        when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
        return f"{when:%Y%m%dT%H%M%SZ}", when.timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        raise incomplete(
            f"Date must be in ISO-8601 'basic format'. Got '{text[:64]}'. "
            "See http://en.wikipedia.org/wiki/ISO_8601"
        ) from None


def _expires(text: str) -> int:
    if not (_EXPIRES.fullmatch(text) and 1 <= int(text) <= _EXPIRES_MAX_S):
        raise incomplete(
            f"X-Amz-Expires must be a number of seconds from 1 to {_EXPIRES_MAX_S} (a week)."
        )
    return int(text)
