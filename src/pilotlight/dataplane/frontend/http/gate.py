"""Who is calling: checked on the head, confirmed by the body's hash (decision D21).

The API gateway's authenticator is the implementation; `roles` hands it in.
"""

from __future__ import annotations

from typing import Protocol

from pilotlight.ports.auth import Caller, SignedRequest


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
