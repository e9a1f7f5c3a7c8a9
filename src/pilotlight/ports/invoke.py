"""The one way to run a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pilotlight.model.errors import PlatformError
from pilotlight.model.invocation import Invocation, InvocationResult

Done = Callable[[InvocationResult | PlatformError], None]
"""Called exactly once for each submitted invocation, on the loop, maybe before submit returns."""


class Invoker(Protocol):
    """Admits, assigns, runs. Function errors are results; `PlatformError` is ours (429, 5xx)."""

    def submit(self, invocation: Invocation, done: Done) -> None:
        """Run an invocation; never raises, never blocks.

        A caller that goes away does not stop the function: as on Lambda the invocation runs to
        its end or its timeout, and ``done`` is still called.
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
