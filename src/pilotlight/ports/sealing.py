"""Encryption of what must not lie open in a file: the environment variables of functions."""

from __future__ import annotations

from typing import Protocol

from pilotlight.model.errors import PlatformError


class SealBroken(PlatformError):
    """Something sealed cannot be opened: another key, another owner, or changed bytes."""

    code = "KMSInvalidStateException"
    http_status = 502


class Sealer(Protocol):
    """Seals bytes for an owner; only the same installation opens them, for the same owner."""

    def seal(self, plain: bytes, owner: str) -> str:
        """Encrypt and authenticate; equal bytes are sealed differently each time."""
        ...

    def open(self, sealed: str, owner: str) -> bytes:
        """Decrypt.

        Raises:
            SealBroken: it was not sealed here for this owner.
        """
        ...
