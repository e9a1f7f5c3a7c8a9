"""The real clock and the real source of identities; everything else gets them handed in."""

from __future__ import annotations

import secrets
import string
import time
import uuid

_LETTERS = string.ascii_lowercase
_LETTERS_AND_DIGITS = string.ascii_lowercase + string.digits


class SystemClock:
    """A `pilotlight.ports.clock.Clock` that reads the host's clocks."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        return time.monotonic()  # noqa: TID251  (JUSTIFICATION: this class is the Clock)

    def wall(self) -> float:
        """Seconds since 1970-01-01T00:00Z."""
        return time.time()  # noqa: TID251  (JUSTIFICATION: this class is the Clock)


class SystemIds:
    """A `pilotlight.ports.ids.IdSource` on the kernel's random numbers."""

    def uuid(self) -> str:
        """A version-4 UUID, 36 characters."""
        return str(uuid.uuid4())  # noqa: TID251  (JUSTIFICATION: this class is the IdSource)

    def token(self, length: int) -> str:
        """``length`` characters out of ``[a-z0-9]``, the first a letter.

        Raises:
            ValueError: the length is below 1.
        """
        if length < 1:
            raise ValueError(f"a token has at least one character, not {length}")
        rest = (secrets.choice(_LETTERS_AND_DIGITS) for _ in range(length - 1))
        return secrets.choice(_LETTERS) + "".join(rest)
