"""Memory for request bodies: a budget for the process and one for each caller (decision D21)."""

from __future__ import annotations

from pilotlight.model.errors import ApiError

SMALL_BODY_BYTES = 64 * 1024
"""Bodies up to this size are not counted: the limit of connections bounds their sum."""


class ByteBudget:
    """Counts bytes that are promised to bodies. Every `take` is paired with one `give`."""

    __slots__ = ("_by_key", "_held", "_key_limit", "_limit")

    def __init__(self, limit_bytes: int, key_limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._key_limit = key_limit_bytes
        self._held = 0
        self._by_key: dict[str, int] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes promised at the moment."""
        return self._held

    def take(self, key: str, count: int) -> None:
        """Promise ``count`` bytes to a body of ``key``; nothing is taken when it raises.

        Raises:
            ApiError: 429 when the key's budget is used up, 503 when the process's is.
        """
        of_key = self._by_key.get(key, 0) + count
        if of_key > self._key_limit:
            raise ApiError(
                "TooManyRequestsException",
                "Too many request bodies of this caller are in memory at once. Wait for running"
                " requests, or raise the setting key_budget_bytes of the listener.",
                Reason="CallerRateLimitExceeded",
            )
        if self._held + count > self._limit:
            raise ApiError(
                "ServiceUnavailableException",
                "Too many request bodies are in memory at once. Try again, or raise the setting"
                " body_budget_bytes of the listener.",
                status=503,
            )
        self._by_key[key] = of_key
        self._held += count

    def give(self, key: str, count: int) -> None:
        """Return bytes taken before."""
        self._held -= count
        left = self._by_key[key] - count
        if left:
            self._by_key[key] = left
        else:
            del self._by_key[key]
