"""Fresh identities, as a dependency: tests and simulations give their own."""

from __future__ import annotations

from typing import Protocol


class IdSource(Protocol):
    """Makes identities that no one can guess and that never repeat."""

    def uuid(self) -> str:
        """A version-4 UUID, 36 characters."""
        ...

    def token(self, length: int) -> str:
        """``length`` characters out of ``[a-z0-9]``, the first a letter."""
        ...
