"""Who is calling, and may they."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pilotlight.model.ids import AccountId


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The parts of an HTTP request that a signature covers, as received.

    Attributes:
        method: upper case.
        path: raw path, still percent-encoded, without the query.
        query: raw query string, without ``?``.
        headers: (lower-case name, value) in order, all of them.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    Attributes:
        region: from the signature's scope; ARNs of this call take it.
        body_sha256: hex digest the body must have, or None where the client did not sign it;
            whoever reads the body compares before acting (decision D21).
    """

    account: AccountId
    access_key: str
    region: str
    service: str
    body_sha256: str | None


class Authenticator(Protocol):
    """Checks signatures from memory; no I/O, some tens of microseconds."""

    def authenticate(self, request: SignedRequest) -> Caller:
        """Return who signed the request.

        Raises:
            ApiError: MissingAuthenticationTokenException, InvalidSignatureException,
                UnrecognizedClientException, IncompleteSignatureException with AWS's text.
        """
        ...
