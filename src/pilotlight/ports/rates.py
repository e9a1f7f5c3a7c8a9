"""How often an account and each of its keys may call."""

from __future__ import annotations

from typing import Protocol


class RateLimits(Protocol):
    """Counts the calls of one kind; in memory, about a microsecond."""

    def charge(self, account: str, access_key: str) -> None:
        """Count one call of a proven caller, or refuse it and count nothing.

        Raises:
            ApiError: TooManyRequestsException with ``Reason`` and ``Retry-After``.
        """
        ...


class Unlimited(RateLimits):
    """Lets every call through."""

    def charge(self, account: str, access_key: str) -> None:
        """See the port."""
