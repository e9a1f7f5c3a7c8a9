"""Verify signatures of AWS Signature Version 4, from memory, in two steps.

`begin` checks all that can be known before the body is read (decision D21): that the signature
is well-formed, in time, in scope, and of a known key. `Pending.finish` compares the signature.
SDKs other than S3's send no ``x-amz-content-sha256``, so the hash of the body is part of what
they sign and the comparison has to wait for it; where the header is sent, `begin` compares at
once.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pilotlight.model.errors import ApiError
from pilotlight.ports.auth import SignedRequest
from pilotlight.wire.sigv4 import canonical
from pilotlight.wire.sigv4.claims import Claims, from_header, from_query, incomplete

SKEW_S = 300
"""How far a client's clock may be off, either way."""

OBJECTS = "s3"
"""The one service that signs paths as they are, and presigned URLs without the payload
(https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html)."""

_HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your "
    "AWS Secret Access Key and signing method. Consult the service documentation for details."
)


class SigningKeys:
    """Derived signing keys, bounded: the oldest entry goes when a new one does not fit.

    The secret is part of the lookup, so a replaced secret never finds the old key.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._keys: dict[tuple[str, str, str, str], bytes] = {}

    def get(self, secret: str, date: str, region: str, service: str) -> bytes:
        """Return the signing key of this secret and scope, deriving it if it is not kept."""
        scope = (secret, date, region, service)
        key = self._keys.get(scope)
        if key is None:
            key = canonical.signing_key(secret, date, region, service)
            if len(self._keys) >= self._capacity:
                del self._keys[next(iter(self._keys))]
            self._keys[scope] = key
        return key


@dataclass(frozen=True, slots=True)
class Verified:
    """A signature that is right.

    Attributes:
        body_sha256: hex digest that the body must have; None where the client signed
            ``UNSIGNED-PAYLOAD``.
        is_presigned: the signature came in the query of a URL.
        session_token: token of temporary credentials that was signed along; whoever knows the
            key says whether it must have one.
    """

    access_key: str
    region: str
    service: str
    body_sha256: str | None
    is_presigned: bool = False
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that passed `begin`.

    Attributes:
        declared: the payload's hash as the client declared it, ``UNSIGNED-PAYLOAD``, or None;
            with a declaration the signature was compared already.
    """

    declared: str | None
    _claims: Claims = field(repr=False)
    _key: bytes = field(repr=False)
    _head: bytes = field(repr=False)

    @property
    def access_key(self) -> str:
        """Key that the client claims to have signed with; known, and proven after `finish`."""
        return self._claims.scope.access_key

    @property
    def needs_body_hash(self) -> bool:
        """Whether `finish` still has to compare the signature, and needs the body's hash."""
        return self.declared is None

    @property
    def body_sha256(self) -> str | None:
        """Hex digest that the client declared for the body, if it did."""
        return None if self.declared in canonical.UNSIGNED else self.declared

    def finish(self, body_sha256: str | None = None) -> Verified:
        """Compare what is left to compare.

        Args:
            body_sha256: hex digest of the body as it was read; may be left out only when
                `needs_body_hash` is False, and then the caller compares the body itself.

        Raises:
            ApiError: InvalidSignatureException.
            ValueError: the hash is needed and was not given.
        """
        expected = self.body_sha256
        if self.declared is None:
            if body_sha256 is None:
                raise ValueError("the hash of the body is part of this signature")
            _compare(self._claims, self._key, self._head, body_sha256)
            expected = body_sha256
        elif expected is not None and body_sha256 is not None and body_sha256 != expected:
            raise _invalid(
                "The value passed in the x-amz-content-sha256 header does not match the "
                "SHA-256 of the payload."
            )
        scope = self._claims.scope
        return Verified(
            access_key=scope.access_key,
            region=scope.region,
            service=scope.service,
            body_sha256=expected,
            is_presigned=self._claims.expires_s is not None,
            session_token=self._claims.session_token,
        )


def verify(
    request: SignedRequest,
    *,
    secret_of: Callable[[str], str | None],
    now_s: float,
    services: frozenset[str],
    cache: SigningKeys,
    body_sha256: str | None = None,
) -> Verified:
    """Do both steps at once, for a body that is already here; see `begin` and `Pending.finish`."""
    pending = begin(request, secret_of=secret_of, now_s=now_s, services=services, cache=cache)
    return pending.finish(body_sha256)


def begin(
    request: SignedRequest,
    *,
    secret_of: Callable[[str], str | None],
    now_s: float,
    services: frozenset[str],
    cache: SigningKeys,
) -> Pending:
    """Check what needs no body.

    Args:
        request: as received.
        secret_of: the secret of an access key, or None for an unknown one.
        now_s: seconds since the epoch.
        services: names of services that the scope may have.
        cache: kept between calls.

    Raises:
        ApiError: MissingAuthenticationTokenException, IncompleteSignatureException,
            InvalidSignatureException, UnrecognizedClientException.
    """
    headers = canonical.join_headers(request.headers)
    pairs = canonical.split_query(request.query)
    claims = _claims(headers, pairs)
    _check_scope(claims, services)
    _check_time(claims, now_s)
    signed = _signed_headers(claims, headers)
    scope = claims.scope
    of_objects = scope.service == OBJECTS
    declared = _declared_payload(headers, of_objects=of_objects)
    if of_objects and declared is None and claims.expires_s is not None:
        declared = canonical.UNSIGNED_PAYLOAD  # whoever made the URL could not know the object
    secret = secret_of(scope.access_key)
    if secret is None:
        raise ApiError(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            status=403,
        )
    if claims.expires_s is not None:
        pairs = [pair for pair in pairs if pair[0] != b"X-Amz-Signature"]
    canonical_path = canonical.object_path if of_objects else canonical.canonical_path
    path, query = canonical_path(request.path), canonical.canonical_query(pairs)
    head = canonical.canonical_head(request.method, path, query, signed)
    key = cache.get(secret, scope.date, scope.region, scope.service)
    if declared is not None:
        _compare(claims, key, head, declared)
    return Pending(declared, claims, key, head)


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidSignatureException", message, status=403)


def _claims(headers: Mapping[bytes, bytes], pairs: list[canonical.Pair]) -> Claims:
    authorization = headers.get(b"authorization")
    if authorization:
        return from_header(authorization, headers)
    if any(name in {b"X-Amz-Signature", b"X-Amz-Algorithm"} for name, _ in pairs):
        return from_query(pairs)
    raise ApiError(
        "MissingAuthenticationTokenException", "Missing Authentication Token", status=403
    )


def _check_scope(claims: Claims, services: frozenset[str]) -> None:
    faults = []
    if claims.scope.service not in services:
        names = "', '".join(sorted(services))
        faults.append(f"Credential should be scoped to correct service: '{names}'.")
    if claims.scope.terminator != canonical.TERMINATOR:
        faults.append(
            f"Credential should be scoped with a valid terminator: '{canonical.TERMINATOR}', "
            f"not '{claims.scope.terminator[:64]}'."
        )
    signed_on = claims.timestamp[:8]
    if claims.scope.date != signed_on:
        faults.append(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from "
            f"HTTP: '{claims.scope.date[:64]}' != '{signed_on}', from '{claims.timestamp}'."
        )
    if faults:
        raise _invalid(" ".join(faults))


def _check_time(claims: Claims, now_s: float) -> None:
    lifetime_s = SKEW_S if claims.expires_s is None else claims.expires_s
    if claims.signed_s < now_s - lifetime_s:
        raise _invalid(
            f"Signature expired: {claims.timestamp} is now earlier than "
            f"{_stamp(now_s - lifetime_s)} ({_stamp(now_s)} - {_span(lifetime_s)})"
        )
    if claims.signed_s > now_s + SKEW_S:
        raise _invalid(
            f"Signature not yet current: {claims.timestamp} is still later than "
            f"{_stamp(now_s + SKEW_S)} ({_stamp(now_s)} + {_span(SKEW_S)})"
        )


def _stamp(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y%m%dT%H%M%SZ}"


def _span(span_s: int) -> str:
    minutes, rest_s = divmod(span_s, 60)
    return f"{span_s} s." if rest_s else f"{minutes} min."


def _signed_headers(claims: Claims, headers: Mapping[bytes, bytes]) -> list[canonical.Pair]:
    names = claims.signed_headers
    if b"host" not in names:
        raise _invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    # An x-amz- header changes what the request means, so nobody may add one on the way.
    loose = [name for name in headers if name.startswith(b"x-amz-") and name not in names]
    if loose:
        raise _invalid(
            "There were headers present in the request which were not signed: "
            + ", ".join(name.decode("latin-1")[:64] for name in loose[:8])
        )
    if any(name not in headers for name in names):
        raise _invalid(_MISMATCH)
    return [(name, canonical.canonical_value(headers[name])) for name in names]


def _declared_payload(headers: Mapping[bytes, bytes], *, of_objects: bool) -> str | None:
    """The payload's hash as the client declared it, one of `canonical.UNSIGNED`, or None.

    Only objects come in chunks with a trailer.
    """
    raw = headers.get(b"x-amz-content-sha256")
    if raw is None:
        return None
    declared = raw.strip().decode("latin-1")
    if declared == canonical.UNSIGNED_PAYLOAD or _HEX_SHA256.fullmatch(declared):
        return declared
    if of_objects and declared == canonical.UNSIGNED_CHUNKS:
        return declared
    raise incomplete(
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD or the SHA-256 of the payload in lower-case "
        "hexadecimal; signed streams of chunks are not supported."
    )


def _compare(claims: Claims, key: bytes, head: bytes, payload: str) -> None:
    request = head + payload.encode()
    expected = canonical.signature(key, claims.timestamp, str(claims.scope), request)
    if not hmac.compare_digest(expected.encode("ascii"), claims.signature):
        raise _invalid(_MISMATCH)
