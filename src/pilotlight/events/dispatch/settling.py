"""Writes settlements in batches, and does not give up while the queue's file fails."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pilotlight.model.events import Settlement
from pilotlight.ports.events import EventQueue

log = logging.getLogger(__name__)

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Settled:
    """A settlement that was written, or whose receipt was stale."""

    settlement: Settlement
    is_stale: bool


class Settler:
    """Takes settlements and writes them, those that wait together in one commit.

    Args:
        done: called on the loop for each.
        retry_s: wait after the queue's file failed.
    """

    def __init__(
        self, queue: EventQueue, done: Callable[[Settled], None], *, retry_s: float
    ) -> None:
        self._queue = queue
        self._done = done
        self._retry_s = retry_s
        self._waiting: deque[Settlement] = deque()
        self._news = asyncio.Event()

    def add(self, settlement: Settlement) -> None:
        """Write a settlement soon."""
        self._waiting.append(settlement)
        self._news.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                if not await self._write():
                    await asyncio.sleep(self._retry_s)

    async def finish(self) -> None:
        """Write what waits, once; what cannot be written is tried again after the next start."""
        while self._waiting:
            if not await self._write():
                log.error("events_not_settled events=%d", len(self._waiting))
                return

    async def _write(self) -> bool:
        batch = [self._waiting[i] for i in range(min(len(self._waiting), _BATCH))]
        try:
            stale = set(await self._queue.settle(batch))
        except Exception:  # the leases are kept, so nobody else tries the events meanwhile
            log.exception("queue_failed_for_now")
            return False
        for settlement in batch:
            self._waiting.popleft()
            receipt = settlement.lease.receipt
            if receipt in stale:
                log.warning(
                    "stale_receipt", extra={"request_id": settlement.lease.event.request_id}
                )
            self._done(Settled(settlement, receipt in stale))
        return True
