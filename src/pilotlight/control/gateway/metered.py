"""The gateway's authenticator: each caller it has proven is noted for the audit log and charged.

It stands before the one that knows the keys, so every protocol of the listener has both for
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pilotlight.control.gateway.note import current_note
from pilotlight.control.gateway.tokens import TokenGate, bearer_token
from pilotlight.ports.auth import Caller, SignedRequest
from pilotlight.ports.rates import RateLimits, Unlimited


class Pending(Protocol):
    """A caller whose key, scope and date are right."""

    @property
    def access_key(self) -> str:
        """The key that is claimed."""
        ...

    def finish(self, body_sha256: str | None) -> Caller:
        """Check the signature over the body that was read."""
        ...


class Authenticator(Protocol):
    """Checks signatures in two steps; see `pilotlight.control.gateway.auth`."""

    def begin(self, request: SignedRequest, *, services: frozenset[str] | None = None) -> Pending:
        """Check what needs no body."""
        ...

    def authenticate(self, request: SignedRequest) -> Caller:
        """Do both steps, for a request whose body nobody reads."""
        ...


class _Metered:
    def __init__(self, pending: Pending, rates: RateLimits) -> None:
        self._pending = pending
        self._rates = rates

    @property
    def access_key(self) -> str:
        return self._pending.access_key

    def finish(self, body_sha256: str | None) -> Caller:
        return _admitted(self._pending.finish(body_sha256), self._rates)


@dataclass(frozen=True, slots=True)
class _Known:
    """A caller whose token says it all: it signs no body."""

    caller: Caller

    @property
    def access_key(self) -> str:
        return self.caller.access_key

    def finish(self, body_sha256: str | None) -> Caller:  # noqa: ARG002
        return self.caller


class MeteredAuthenticator:
    """An `Authenticator` around another.

    Args:
        inner: knows the keys.
        tokens: knows the issuers of bearer tokens; None: they are refused.
        rates: what each account and key may do at the control plane.
    """

    def __init__(
        self,
        inner: Authenticator,
        rates: RateLimits | None = None,
        tokens: TokenGate | None = None,
    ) -> None:
        self._inner = inner
        self._tokens = tokens
        self._rates = rates or Unlimited()

    async def open(self, request: SignedRequest) -> Pending:
        """Check what needs no body, a bearer token as well as a signature.

        Raises:
            ApiError: as `begin` and `TokenGate.caller`.
        """
        token = bearer_token(request.headers) if self._tokens is not None else None
        if token is None or self._tokens is None:
            return self.begin(request)
        current_note().claimed_key = "oidc"
        return _Metered(_Known(await self._tokens.caller(token)), self._rates)

    def begin(self, request: SignedRequest, *, services: frozenset[str] | None = None) -> Pending:
        """Check what needs no body.

        Raises:
            ApiError: as the inner one; and `finish` raises TooManyRequestsException too.
        """
        pending = self._inner.begin(request, services=services)
        current_note().claimed_key = pending.access_key
        return _Metered(pending, self._rates)

    def authenticate(self, request: SignedRequest) -> Caller:
        """Do both steps.

        Raises:
            ApiError: as the inner one, or TooManyRequestsException.
        """
        return _admitted(self._inner.authenticate(request), self._rates)


def _admitted(caller: Caller, rates: RateLimits) -> Caller:
    current_note().caller = caller
    rates.charge(caller.account, caller.access_key)
    return caller
