"""Sign our own requests: the command line's, and the URLs we hand out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

from pilotlight.ports.auth import SignedRequest
from pilotlight.wire.sigv4 import canonical

_UNSIGNED_HEADERS = frozenset(
    {b"authorization", b"connection", b"expect", b"transfer-encoding", b"user-agent"}
)
"""Headers that proxies and clients change on the way."""


@dataclass(frozen=True, slots=True)
class SigningCredentials:
    """Who signs. The secret never appears in logs: it is left out of the representation."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def _canonical_headers(headers: Sequence[canonical.Pair]) -> list[canonical.Pair]:
    joined = canonical.join_headers(headers)
    return [(name, canonical.canonical_value(joined[name])) for name in sorted(joined)]


def sign(
    request: SignedRequest,
    *,
    credentials: SigningCredentials,
    region: str,
    service: str,
    now_s: float,
    body_sha256: str,
) -> list[tuple[bytes, bytes]]:
    """Return the headers to add to a request so that it is signed.

    Args:
        request: as it will be sent; its headers must contain ``host``. All of them are signed
            but those that may change on the way.
        credentials: who signs.
        region: of the scope; ARNs of the call take it.
        service: of the scope, for example ``lambda``.
        body_sha256: hex digest of the body, or ``UNSIGNED-PAYLOAD``. It is declared in
            ``x-amz-content-sha256``, so the server can check the signature before the body.
        now_s: seconds since the epoch.
    """
    timestamp = f"{datetime.fromtimestamp(now_s, UTC):%Y%m%dT%H%M%SZ}"
    added = [
        (b"x-amz-date", timestamp.encode()),
        (b"x-amz-content-sha256", body_sha256.encode()),
    ]
    if credentials.session_token is not None:
        added.append((b"x-amz-security-token", credentials.session_token.encode()))
    headers = _canonical_headers([*request.headers, *added])
    signed = [item for item in headers if item[0] not in _UNSIGNED_HEADERS]
    query = canonical.canonical_query(canonical.split_query(request.query))
    head = canonical.canonical_head(
        request.method, canonical.canonical_path(request.path), query, signed
    )
    scope = f"{timestamp[:8]}/{region}/{service}/{canonical.TERMINATOR}"
    key = canonical.signing_key(credentials.secret_key, timestamp[:8], region, service)
    signature = canonical.signature(key, timestamp, scope, head + body_sha256.encode())
    names = ";".join(name.decode("ascii") for name, _ in signed)
    authorization = (
        f"{canonical.ALGORITHM} Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return [*added, (b"authorization", authorization.encode())]


def presign(
    request: SignedRequest,
    *,
    credentials: SigningCredentials,
    region: str,
    service: str,
    now_s: float,
    expires_s: int,
) -> bytes:
    """Return the query that makes a URL good for anyone who holds it, until it expires.

    Args:
        request: without a body; its only header is ``host``, all that a plain GET can repeat.
        credentials: who signs.
        region: of the scope.
        service: of the scope.
        now_s: seconds since the epoch.
        expires_s: from 1 to 604,800.
    """
    timestamp = f"{datetime.fromtimestamp(now_s, UTC):%Y%m%dT%H%M%SZ}"
    scope = f"{timestamp[:8]}/{region}/{service}/{canonical.TERMINATOR}"
    headers = _canonical_headers(request.headers)
    claims = {
        "X-Amz-Algorithm": canonical.ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key}/{scope}",
        "X-Amz-Date": timestamp,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": ";".join(name.decode("ascii") for name, _ in headers),
    }
    if credentials.session_token is not None:
        claims["X-Amz-Security-Token"] = credentials.session_token
    pairs = canonical.split_query(request.query)
    pairs += [(name.encode(), quote(text, safe="").encode()) for name, text in claims.items()]
    query = canonical.canonical_query(pairs)
    head = canonical.canonical_head(
        request.method, canonical.canonical_path(request.path), query, headers
    )
    key = canonical.signing_key(credentials.secret_key, timestamp[:8], region, service)
    payload = canonical.EMPTY_SHA256.encode()
    signature = canonical.signature(key, timestamp, scope, head + payload)
    return query + b"&X-Amz-Signature=" + signature.encode()
