"""The real clock and the real source of identities; everything else gets them handed in."""

from __future__ import annotations

import os
import secrets
import string
import time

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_LETTERS = string.ascii_lowercase
_LETTERS_AND_DIGITS = string.ascii_lowercase + string.digits


class SystemClock:
    """A `pilotlight.ports.clock.Clock` that reads the host's clocks.

    ``monotonic`` is seconds since an arbitrary start and never goes back; ``wall`` is seconds since
    1970-01-01T00:00Z. Both are the library's own functions: ten are read for each invocation.
    """

    monotonic = staticmethod(time.monotonic)  # noqa: TID251  (JUSTIFICATION: this is the Clock)
    wall = staticmethod(time.time)  # noqa: TID251  (JUSTIFICATION: this is the Clock)


_BATCH_BYTES = 4096
_UUID_BYTES = 16


class SystemIds:
    """A `pilotlight.ports.ids.IdSource` on the kernel's random numbers.

    Random bytes are fetched for many identities at once, because a system call costs more than
    the rest of one; a fork drops what is left, so that no two processes share any.
    """

    def __init__(self) -> None:
        self._random = b""
        self._at = 0
        os.register_at_fork(after_in_child=self._drop)

    def uuid(self) -> str:
        """A version-4 UUID, 36 characters."""
        at = self._at
        if at == len(self._random):
            self._random, at = os.urandom(_BATCH_BYTES), 0
        self._at = end = at + _UUID_BYTES
        digits = self._random[at:end].hex()
        # RFC 9562: digit 13 is the version; of digit 17 the two upper bits are the variant.
        variant = _VARIANT[digits[16]]
        return (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
        )

    def _drop(self) -> None:
        self._random = b""
        self._at = 0

    def token(self, length: int) -> str:
        """``length`` characters out of ``[a-z0-9]``, the first a letter.

        Raises:
            ValueError: the length is below 1.
        """
        if length < 1:
            raise ValueError(f"a token has at least one character, not {length}")
        rest = (secrets.choice(_LETTERS_AND_DIGITS) for _ in range(length - 1))
        return secrets.choice(_LETTERS) + "".join(rest)
