"""Who is calling: checked on the head, confirmed by the body's hash (decision D21)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pilotlight.model.errors import ApiError
from pilotlight.model.ids import AccountId
from pilotlight.ports.auth import Caller, SignedRequest
from pilotlight.ports.clock import Clock
from pilotlight.wire import sigv4


class PendingCaller(Protocol):
    """A caller whose key, scope and date are good; only the body is not yet known."""

    @property
    def access_key(self) -> str:
        """The key that signed."""
        ...

    def finish(self, body_sha256: str) -> Caller:
        """Compare the signature.

        Raises:
            ApiError: the signature or the body's hash does not match.
        """
        ...


class Gate(Protocol):
    """Checks signatures in two steps, so that no body is read for a stranger."""

    def begin(self, request: SignedRequest) -> PendingCaller:
        """Check everything that needs no body.

        Raises:
            ApiError: not signed, unknown key, wrong scope or date, with the service's text.
        """
        ...


class SignatureGate:
    """Signature Version 4 with keys held in memory.

    Args:
        secret_of: secret of an access key, None for an unknown one.
        account_of: account of an access key, None for an unknown one.
        services: service names that a signature's scope may have.
        clock: for the age of signatures.
        cache: signing keys by day and scope.
    """

    def __init__(
        self,
        *,
        secret_of: Callable[[str], str | None],
        account_of: Callable[[str], AccountId | None],
        services: frozenset[str],
        clock: Clock,
        cache: sigv4.SigningKeys,
    ) -> None:
        self._secret_of = secret_of
        self._account_of = account_of
        self._services = services
        self._clock = clock
        self._cache = cache

    def begin(self, request: SignedRequest) -> PendingCaller:
        """See `Gate`."""
        pending = sigv4.begin(
            request,
            secret_of=self._secret_of,
            now_s=self._clock.wall(),
            services=self._services,
            cache=self._cache,
        )
        return _Pending(pending, self._account_of)


class _Pending:
    __slots__ = ("_account_of", "_pending")

    def __init__(
        self, pending: sigv4.Pending, account_of: Callable[[str], AccountId | None]
    ) -> None:
        self._pending = pending
        self._account_of = account_of

    @property
    def access_key(self) -> str:
        return self._pending.access_key

    def finish(self, body_sha256: str) -> Caller:
        verified = self._pending.finish(body_sha256)
        account = self._account_of(verified.access_key)
        if account is None:
            raise ApiError(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        return Caller(
            account=account,
            access_key=verified.access_key,
            region=verified.region,
            service=verified.service,
            body_sha256=verified.body_sha256,
        )
