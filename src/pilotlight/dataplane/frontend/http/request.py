"""One request on a connection: its head, and its body as it arrives."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pilotlight.dataplane.frontend.http.budget import SMALL_BODY_BYTES, ByteBudget

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from pilotlight.dataplane.frontend.http.answers import Answer
    from pilotlight.dataplane.frontend.http.head import RequestHead
    from pilotlight.dataplane.frontend.http.route import Call


class Request:
    """State of one request; its connection is the only one that changes it.

    Attributes:
        head: None where the request was refused before its head could be read.
        refused: the answer that was decided before any route saw the request.
        call: set once a route took the request.
        cycle: set once the ASGI application took the request.
        size: bytes of the body so far.
        is_complete: the last byte of the request has arrived.
        is_answered: an answer was written or begun; nothing more may be.
    """

    __slots__ = (
        "_budget",
        "_digest",
        "_parts",
        "_taken",
        "call",
        "cycle",
        "head",
        "is_answered",
        "is_complete",
        "refused",
        "size",
    )

    def __init__(self, head: RequestHead | None, budget: ByteBudget) -> None:
        self.head = head
        self.refused: Answer | None = None
        self.call: Call | None = None
        self.cycle: RequestResponseCycle | None = None
        self.size = 0
        self.is_complete = False
        self.is_answered = False
        self._parts: list[bytes] = []
        self._digest: hashlib._Hash | None = None
        self._budget = budget
        self._taken = 0

    def add(self, data: bytes) -> None:
        """Keep a piece of the body.

        Raises:
            ApiError: there is no memory left for it (429, 503).
        """
        self.size += len(data)
        self._parts.append(data)
        if self.call is not None:
            self._account()
            if self._digest is not None:
                self._digest.update(data)

    def accept(self, call: Call) -> None:
        """A route takes the request: charge what came already and what was announced.

        Raises:
            ApiError: there is no memory left for it (429, 503).
        """
        self.call = call
        self._account()
        if call.wants_digest:
            self._digest = hashlib.sha256()
            for part in self._parts:
                self._digest.update(part)

    def take_parts(self) -> list[bytes]:
        """Hand over the pieces kept so far."""
        parts, self._parts = self._parts, []
        return parts

    def body(self) -> tuple[bytes, str]:
        """The whole body, and its SHA-256 in hex where the call wants it, else an empty text."""
        parts = self.take_parts()
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return body, self._digest.hexdigest() if self._digest is not None else ""

    def release(self) -> None:
        """Give the body's memory back to the budget; harmless when repeated."""
        if self._taken and self.call is not None:
            self._budget.give(self.call.key, self._taken)
            self._taken = 0
        self._parts = []

    def close(self) -> None:
        """The request was answered: let go of all it held.

        Request and call refer to each other; cutting that here frees both at once and spares
        the cycle collector a run every few hundred requests, which costs more than parsing.
        """
        self.release()
        self.call = None

    def _account(self) -> None:
        announced = self.head.content_length if self.head is not None else None
        needed = max(self.size, announced or 0)
        if self.call is not None and needed > SMALL_BODY_BYTES and needed > self._taken:
            self._budget.take(self.call.key, needed - self._taken)
            self._taken = needed
