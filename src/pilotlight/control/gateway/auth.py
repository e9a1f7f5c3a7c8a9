"""Who signed a request: the installation's root credentials, or a key of an account.

Checking has two steps, so that nothing is read from a stranger (decision D21): `begin` before the
body, with key, scope and date; `PendingCaller.finish` with the hash of the body as it was read.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from pilotlight.model.errors import ApiError
from pilotlight.model.ids import AccountId
from pilotlight.ports.auth import Caller, SignedRequest
from pilotlight.ports.clock import Clock
from pilotlight.wire import sigv4

SERVICES: Final = frozenset({"lambda"})
"""Names a signature's scope may have."""

_REGION = re.compile(r"(eusc-)?[a-z]{2}(-gov|-iso[a-z]?)?-[a-z]+-\d")


@dataclass(frozen=True, slots=True)
class RootCredentials:
    """The key pair made on first start; it may do everything in its account."""

    account: AccountId
    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PendingCaller:
    """A caller whose key, scope and date are right."""

    access_key: str
    _account: AccountId
    _pending: sigv4.Pending = field(repr=False)

    def finish(self, body_sha256: str | None) -> Caller:
        """Check the signature over the body that was read.

        Raises:
            ApiError: InvalidSignatureException.
        """
        verified = self._pending.finish(body_sha256)
        if not _REGION.fullmatch(verified.region):
            raise ApiError(
                "InvalidSignatureException", "Credential should be scoped to a valid region."
            )
        return Caller(
            account=self._account,
            access_key=verified.access_key,
            region=verified.region,
            service=verified.service,
            body_sha256=verified.body_sha256,
        )


class StaticAuthenticator:
    """An `Authenticator` over a fixed set of credentials, and what else is found; no I/O.

    Args:
        credentials: that are always there.
        clock: wall time is used.
        services: names a signature's scope may have.
        find: further keys; None: there are none.
    """

    def __init__(
        self,
        credentials: Iterable[RootCredentials],
        *,
        clock: Clock,
        services: frozenset[str] = SERVICES,
        find: Callable[[str], RootCredentials | None] | None = None,
    ) -> None:
        self._find = find
        self._known = {known.access_key: known for known in credentials}
        self._clock = clock
        self._services = services
        self._keys = sigv4.SigningKeys()

    def begin(
        self, request: SignedRequest, *, services: frozenset[str] | None = None
    ) -> PendingCaller:
        """Check what can be checked before the body is read.

        Args:
            request: as it came.
            services: names the signature's scope may have, by default those of the Lambda API.

        Raises:
            ApiError: as `Authenticator.authenticate`.
        """
        pending = sigv4.begin(
            request,
            secret_of=self._secret_of,
            now_s=self._clock.wall(),
            services=services or self._services,
            cache=self._keys,
        )
        if _has_token(request):
            # These credentials have no session; one that came along belongs to other ones.
            raise ApiError(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        known = self._credentials(pending.access_key)
        if known is None:  # it was deleted this very moment
            raise ApiError(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        return PendingCaller(pending.access_key, known.account, pending)

    def authenticate(self, request: SignedRequest) -> Caller:
        """See the port; for requests whose body is empty or whose hash was declared."""
        pending = hash_unless_declared(request)
        return self.begin(request).finish(pending)

    def _secret_of(self, access_key: str) -> str | None:
        # Not an early exit: how long a lookup takes must not tell how much of a key is right.
        found: str | None = None
        for known, credentials in self._known.items():
            if hmac.compare_digest(known.encode(), access_key.encode()):
                found = credentials.secret_key
        if found is None and self._find is not None:
            other = self._find(access_key)
            found = None if other is None else other.secret_key
        return found

    def _credentials(self, access_key: str) -> RootCredentials | None:
        known = self._known.get(access_key)
        return self._find(access_key) if known is None and self._find is not None else known


def hash_unless_declared(request: SignedRequest) -> str | None:
    """What the body must hash to when it is not read here: None where the client declared it."""
    declared = any(name == b"x-amz-content-sha256" for name, _ in request.headers)
    return None if declared else sigv4.EMPTY_SHA256


def _has_token(request: SignedRequest) -> bool:
    if any(name == b"x-amz-security-token" for name, _ in request.headers):
        return True
    return b"X-Amz-Security-Token=" in request.query
