"""The pool of blank sandboxes: already isolated, runtime started, waiting for code.

Refilled by callbacks; a failure is retried later and later, so that a host in trouble is not
kept busy by its own pool.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from pilotlight.dataplane.sandboxes.container.cell import Cell
from pilotlight.model.errors import SandboxError
from pilotlight.ports.sandbox import BlankClass

_RETRY_MIN_S, _RETRY_MAX_S = 0.1, 30.0
_STARTING_MAX = 2
"""Blanks of one class that start at a time: a refill must not starve a cold start."""
_REFILL_AFTER_S = 0.1
"""From the moment a blank was taken: its function starts first, undisturbed."""


def retry_after_s(failures: int) -> float:
    """Pause after the n-th failure in a row: 0.1, 0.2, 0.4 … 30 s."""
    return float(min(_RETRY_MIN_S * 2 ** min(failures - 1, 20), _RETRY_MAX_S))


class BlankPool:
    """Blanks of one class.

    Args:
        make: begins one blank and later calls `ready` or `failed`.
        discard: destroys one.
    """

    def __init__(
        self,
        kind: BlankClass,
        make: Callable[[BlankPool], None],
        discard: Callable[[Cell], None],
    ) -> None:
        self.kind = kind
        self._make = make
        self._discard = discard
        self._target = 0
        self._starting = 0
        self._failures = 0
        self._last_error: SandboxError | None = None
        self._cells: deque[Cell] = deque()
        self._changed = asyncio.Event()
        self._retry: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._cells)

    async def keep(self, count: int) -> None:
        """Set how many; return once there are as many.

        Raises:
            SandboxError: one could not be made; the pool goes on trying.
        """
        self._target = count
        self._failures, self._last_error = 0, None
        while len(self._cells) > count:
            self._discard(self._cells.pop())
        self.refill()
        while len(self._cells) < self._target:
            self._changed.clear()
            await self._changed.wait()
            if self._last_error is not None:
                raise self._last_error

    def take(self) -> Cell | None:
        """A living blank, or None; a new one is begun in its place a little later."""
        while self._cells:
            cell = self._cells.popleft()
            if not cell.is_dying():
                self._refill_in(_REFILL_AFTER_S)
                return cell
            self._discard(cell)
        return None

    def refill(self) -> None:
        """Begin as many as are missing."""
        if self._retry is not None:
            return
        while self._starting < _STARTING_MAX and len(self._cells) + self._starting < self._target:
            self._starting += 1
            self._make(self)

    def ready(self, cell: Cell) -> None:
        """One that was begun waits for code now."""
        self._starting -= 1
        self._failures, self._last_error = 0, None
        if len(self._cells) < self._target:
            self._cells.append(cell)
        else:
            self._discard(cell)
        self._changed.set()
        self.refill()

    def failed(self, error: SandboxError) -> None:
        """One that was begun will never be."""
        self._starting -= 1
        self._failures += 1
        self._last_error = error
        self._changed.set()
        self._refill_in(retry_after_s(self._failures))

    def lost(self, cell: Cell) -> None:
        """A waiting one has died."""
        if cell in self._cells:
            self._cells.remove(cell)
            self._discard(cell)
            self._starting += 1
            self.failed(SandboxError("a blank sandbox died while it waited"))

    def _refill_in(self, delay_s: float) -> None:
        if self._retry is None and self._target:
            self._retry = asyncio.get_running_loop().call_later(delay_s, self._again)

    def _again(self) -> None:
        self._retry = None
        self.refill()

    def close(self) -> None:
        """Want none any more; those that wait are destroyed."""
        self._target = 0
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        while self._cells:
            self._discard(self._cells.pop())
        self._last_error = SandboxError("the driver is closing")
        self._changed.set()
