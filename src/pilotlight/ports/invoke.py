"""The one way to run a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from pilotlight.model.errors import PlatformError
from pilotlight.model.invocation import Invocation, InvocationResult

Done = Callable[[InvocationResult | PlatformError], None]
"""Called exactly once for each submitted invocation, on the loop, maybe before submit returns."""


class StreamFlow(Protocol):
    """How the taker of a stream tells that it can take more."""

    def taken(self, count: int) -> None:
        """So many bytes were passed on, or thrown away; harmless when the stream has ended."""
        ...


@runtime_checkable
class StreamTaker(Protocol):
    """A `Done` that takes the answer in pieces; needed where an invocation wants a stream.

    A function may answer at once all the same: then only the call comes.
    """

    def began(self, content_type: str, flow: StreamFlow) -> None:
        """The function answers with a stream; see ``pilotlight_guest.frames`` for its types."""
        ...

    def chunk(self, data: bytes) -> None:
        """The next piece. The function waits when too many bytes were given and not `taken`."""
        ...

    def __call__(self, result: InvocationResult | PlatformError) -> None:
        """The invocation ended; a stream that began is complete if it was no error."""
        ...


class Invoker(Protocol):
    """Admits, assigns, runs. Function errors are results; `PlatformError` is ours (429, 5xx)."""

    def submit(self, invocation: Invocation, done: Done) -> None:
        """Run an invocation; never raises, never blocks.

        A caller that goes away does not stop the function: as on Lambda the invocation runs to
        its end or its timeout, and ``done`` is still called. ``done`` must be a `StreamTaker` for
        an invocation that wants a stream.
        """
        ...

    async def invoke(self, invocation: Invocation) -> InvocationResult:
        """The same, awaited.

        Raises:
            PlatformError: the invocation was refused or the platform failed.
        """
        ...

    async def drain(self, grace_s: float) -> None:
        """Refuse new invocations with 503, and return when all running ones have ended."""
        ...
