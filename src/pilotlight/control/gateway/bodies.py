"""Reading request bodies within limits: one for each request, one for all of them together."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive

from pilotlight.model.errors import ApiError

DEFAULT_BUDGET_BYTES: Final = 512 * 1024 * 1024
"""Bytes of bodies held at once by the process. A 70 MB upload is decoded to about three times
its size, so the peak is about three times this."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete; nobody to answer."""


@dataclass(frozen=True, slots=True)
class Body:
    """A whole body and the hex digest of its SHA-256."""

    data: bytes
    sha256: str


class Share:
    """What one request holds of the budget."""

    def __init__(self, budget: ByteBudget, key: str) -> None:
        self._budget = budget
        self._key = key
        self.held = 0

    def take(self, count: int) -> None:
        """Hold ``count`` bytes more.

        Raises:
            ApiError: ThrottlingException (this key's share is used up) or
                ServiceUnavailableException (the process's is).
        """
        self._budget.take(self._key, count)
        self.held += count


class ByteBudget:
    """Counts bytes of bodies in memory, for the process and for each access key.

    Args:
        most_bytes: for the process.
        most_per_key_bytes: for one key; by default three quarters of the process's.
    """

    def __init__(
        self, most_bytes: int = DEFAULT_BUDGET_BYTES, most_per_key_bytes: int | None = None
    ) -> None:
        self._most = most_bytes
        self._most_per_key = most_per_key_bytes or most_bytes * 3 // 4
        self._held: Counter[str] = Counter()

    @property
    def held_bytes(self) -> int:
        """Bytes held now."""
        return self._held.total()

    @contextmanager
    def share(self, key: str) -> Iterator[Share]:
        """Hold bytes for the time of one request."""
        share = Share(self, key)
        try:
            yield share
        finally:
            self._held[key] -= share.held
            if self._held[key] <= 0:
                del self._held[key]

    def take(self, key: str, count: int) -> None:
        """Count bytes for a key; see `Share.take`."""
        if self._held[key] + count > self._most_per_key:
            raise ApiError("ThrottlingException", "Too many bytes in flight for this key: retry.")
        if self.held_bytes + count > self._most:
            raise ApiError(
                "ServiceUnavailableException",
                "The server holds as many request bytes as it may: retry.",
                status=503,
            )
        self._held[key] += count


async def read_body(
    receive: Receive, *, declared: int | None, most: int, operation: str, share: Share
) -> Body:
    """Read a body of at most ``most`` bytes, hashing it as it comes.

    Raises:
        ApiError: RequestEntityTooLargeException, or the budget is used up.
        ClientGone: the connection ended.
    """
    too_large = ApiError(
        "RequestEntityTooLargeException",
        f"Request must be smaller than {most} bytes for the {operation} operation",
    )
    if declared is not None and declared > most:
        raise too_large
    digest, chunks, size = hashlib.sha256(), list[bytes](), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > most:
            raise too_large
        share.take(len(chunk))
        digest.update(chunk)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return Body(b"".join(chunks), digest.hexdigest())
