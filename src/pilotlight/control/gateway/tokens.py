"""Bearer tokens of OIDC issuers, for people and for CI (``Authorization: Bearer …``).

A token is believed only when one of the issuers that the operator named signed it with one of
three algorithms, for our audience, and its claims match a rule of the operator. Issuers of CI
services sign tokens for everybody in the world, so without a rule nobody gets in.

Sources: RFC 7519 (claims), RFC 8725 (best practices), RFC 6750 (the header).
"""

from __future__ import annotations

import binascii
import json
import re
import warnings
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

from pilotlight.control.gateway.issuers import Issuer, Key
from pilotlight.model.errors import ApiError
from pilotlight.model.ids import AccountId
from pilotlight.ports.auth import Caller
from pilotlight.ports.clock import Clock

_TOKEN_BYTES: Final = 16 * 1024
_LEEWAY_S: Final = 60
_PRINCIPAL_MAX: Final = 256
_KINDS: Final[Mapping[str, tuple[type[Key], str | None]]] = {
    "RS256": (RSAKey, None),
    "ES256": (ECKey, "P-256"),
    "EdDSA": (OKPKey, "Ed25519"),
}
"""Algorithms that are believed, with the kind of key and the curve each needs."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a token must say.

    Attributes:
        audience: must be among its ``aud``.
        allow: rules, one of which must match: pairs of claim and pattern (``*`` is any text),
            all of which must.
        principal_claim: the claim that names the caller.
    """

    audience: str
    allow: tuple[tuple[tuple[str, str], ...], ...]
    principal_claim: str = "sub"


def read_rule(text: str) -> tuple[tuple[str, str], ...]:
    """Read ``claim=pattern`` or ``claim=pattern&claim=pattern``.

    Raises:
        ValueError: it is neither.
    """
    pairs = tuple(tuple(part.split("=", 1)) for part in text.split("&"))
    if not all(len(pair) == 2 and all(pair) for pair in pairs):  # noqa: PLR2004
        raise ValueError(f"{text!r} is not CLAIM=PATTERN, several joined with &")
    return tuple((pair[0], pair[1]) for pair in pairs)


class TokenGate:
    """Makes callers of tokens.

    Args:
        issuers: whose tokens are believed.
        rules: what a token must say.
        account: whose callers they are.
        region: of their calls; a token names none.
        clock: wall time is used.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        rules: TokenRules,
        *,
        account: AccountId,
        region: str,
        clock: Clock,
    ) -> None:
        self._issuers = {issuer.url: issuer for issuer in issuers}
        self._rules = rules
        self._account = account
        self._region = region
        self._clock = clock

    async def caller(self, token: str) -> Caller:
        """Who a token is of.

        Raises:
            ApiError: UnrecognizedClientException, ExpiredTokenException, AccessDeniedException, or
                ServiceUnavailableException while its issuer is away.
        """
        header, unproven = _peek(token)
        issuer = self._issuers.get(str(unproven.get("iss")))
        key_id = header.get("kid")
        if issuer is None or not (key_id is None or isinstance(key_id, str)):
            raise _invalid()
        key = await issuer.key(key_id)
        if key is None:
            raise _invalid()
        claims = verified(
            token,
            key,
            algorithm=header.get("alg"),
            issuer=issuer.url,
            audience=self._rules.audience,
            now_s=self._clock.wall(),
        )
        name = claims.get(self._rules.principal_claim)
        if not isinstance(name, str) or not 0 < len(name) <= _PRINCIPAL_MAX:
            raise _invalid()
        if not any(_matches(claims, rule) for rule in self._rules.allow):
            raise ApiError(
                "AccessDeniedException",
                "The token is right, but no rule of [oidc] allow admits it.",
                status=403,
            )
        return Caller(
            account=self._account,
            access_key=f"oidc:{name}",
            region=self._region,
            service="lambda",
            body_sha256=None,
        )


def bearer_token(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """The token of a request, None where it has none (or more than one Authorization)."""
    found = [value for name, value in headers if name == b"authorization"]
    if len(found) != 1 or found[0][:7].lower() != b"bearer ":
        return None
    return found[0][7:].strip().decode("latin-1")


def verified(
    token: str,
    key: Key,
    *,
    algorithm: object,
    issuer: str,
    audience: str,
    now_s: float,
) -> Mapping[str, Any]:
    """The claims of a token that this key signed for us.

    Args:
        token: in compact form.
        key: of the issuer, chosen by the token's ``kid``.
        algorithm: that the token claims; its kind must be the key's own.
        issuer: must be its ``iss``.
        audience: must be among its ``aud``.
        now_s: seconds since the epoch.

    Raises:
        ApiError: UnrecognizedClientException, or ExpiredTokenException.
    """
    if not isinstance(algorithm, str) or algorithm not in _KINDS:
        raise _invalid()
    kind, curve = _KINDS[algorithm]
    document = key.as_dict(private=False)
    if not isinstance(key, kind) or (curve is not None and document.get("crv") != curve):
        raise _invalid()
    if document.get("alg") not in {None, algorithm}:
        raise _invalid()
    registry = jwt.JWTClaimsRegistry(
        now=int(now_s),
        leeway=_LEEWAY_S,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": audience},
        exp={"essential": True},
        iat={"essential": True},
    )
    try:
        with warnings.catch_warnings():
            # It warns of EdDSA's name only: the curve is checked above.
            warnings.simplefilter("ignore", SecurityWarning)
            claims: dict[str, Any] = jwt.decode(token, key, algorithms=[algorithm]).claims
        registry.validate(claims)
    except ExpiredTokenError:
        raise ApiError(
            "ExpiredTokenException", "The security token included in the request is expired"
        ) from None
    except (JoseError, ValueError, TypeError, OverflowError, RecursionError):
        raise _invalid() from None
    return claims


def _peek(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and claims, none of them proven: they only choose the key that proves them."""
    parts = token.split(".")
    if len(token) > _TOKEN_BYTES or len(parts) != 3 or not token.isascii():  # noqa: PLR2004
        raise _invalid()
    try:
        header, claims = (json.loads(urlsafe_b64decode(part + "===")) for part in parts[:2])
    except (binascii.Error, ValueError, RecursionError):
        raise _invalid() from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise _invalid()
    return header, claims


def _matches(claims: Mapping[str, Any], rule: tuple[tuple[str, str], ...]) -> bool:
    return all(_has(claims.get(name), pattern) for name, pattern in rule)


def _has(value: object, pattern: str) -> bool:
    if isinstance(value, list):
        return any(_has(item, pattern) for item in value if isinstance(item, str))
    if not isinstance(value, str):
        return False
    parts = [re.escape(part) for part in pattern.split("*")]
    return re.fullmatch(".*".join(parts), value, re.DOTALL) is not None


def _invalid() -> ApiError:
    return ApiError(
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        status=403,
    )
