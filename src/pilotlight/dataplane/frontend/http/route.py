"""What a listener asks of the code that answers requests on its own path (no ASGI, no task)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pilotlight.dataplane.frontend.http.answers import Answer
from pilotlight.dataplane.frontend.http.head import RequestHead
from pilotlight.dataplane.frontend.http.streams import StreamAnswer

Reply = Callable[[Answer | StreamAnswer], None]
"""Called exactly once for each call that was run; may be called before `Call.run` returns."""


class Call(Protocol):
    """One request that a route takes, after its head was checked and before its body is read."""

    @property
    def key(self) -> str:
        """Whom the body's memory is charged to: an access key or a URL id."""
        ...

    @property
    def body_limit(self) -> int:
        """Largest body in bytes; a larger one is answered with `too_large`, unread."""
        ...

    @property
    def wants_digest(self) -> bool:
        """Whether `run` needs the SHA-256 of the body."""
        ...

    def too_large(self) -> Answer:
        """The answer to a body above the limit."""
        ...

    def failed(self, error: Exception) -> Answer:
        """The answer to an error, a bug included, in the form this route's clients know."""
        ...

    def run(self, body: bytes, digest: str, reply: Reply) -> None:
        """Act on the complete request.

        Raises:
            PlatformError: refused; ``reply`` was not and will not be called.
        """
        ...


class Route(Protocol):
    """Chooses the requests of one listener that are answered without ASGI."""

    def open(self, head: RequestHead) -> Call | Answer | None:
        """Decide by the head alone: take it, answer it at once, or leave it to ASGI (None)."""
        ...
