"""Waiting for a number that only grows. For one event loop."""

from __future__ import annotations

import asyncio


class Watermark:
    """A number and those who wait for it to pass a mark."""

    def __init__(self, value: int = 0) -> None:
        self._value = value
        self._moved = asyncio.Event()

    @property
    def value(self) -> int:
        """The highest number seen."""
        return self._value

    def raise_to(self, value: int) -> None:
        """Record a number; lower ones change nothing."""
        if value > self._value:
            self._value = value
            self._moved.set()
            # Those who wait hold the old event; who comes later waits for the next one.
            self._moved = asyncio.Event()

    async def beyond(self, mark: int) -> None:
        """Return as soon as the number is higher than ``mark``. Waits without limit by contract."""
        while self._value <= mark:
            await self._moved.wait()
