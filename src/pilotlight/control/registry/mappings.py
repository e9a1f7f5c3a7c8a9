"""Event source mappings: their records, and the part that finishes their changes.

Like a function's, a change is written first and finished by a part that works from the records
alone, so a process may die between any two steps.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from pilotlight.control.registry.collection import Collection
from pilotlight.model.errors import ApiError
from pilotlight.ports.clock import Clock
from pilotlight.ports.registry import RegistryStore
from pilotlight.wire import records
from pilotlight.wire.records import EventSourceMappingRecord

log = logging.getLogger(__name__)

ENABLED: Final = "Enabled"
DISABLED: Final = "Disabled"
REMOVED: Final = ""
_RETRY_S: Final = 5.0


def mappings(store: RegistryStore) -> Collection[EventSourceMappingRecord]:
    """The mappings of all accounts."""
    return Collection(store, records.EVENT_SOURCE_MAPPING, EventSourceMappingRecord)


def check_steady(record: EventSourceMappingRecord, verb: str) -> None:
    """Refuse a change while another is not finished.

    Raises:
        ApiError: ResourceInUseException.
    """
    if record.goal is not None:
        raise ApiError(
            "ResourceInUseException",
            f"Cannot {verb} the event source mapping because it is in use.",
        )


def started(
    record: EventSourceMappingRecord, *, state: str, goal: str, change: str, wall_s: float
) -> EventSourceMappingRecord:
    """The record with a change that is to be finished."""
    return records.replaced(record, state=state, goal=goal, change=change, modified_wall_s=wall_s)


def finished(
    record: EventSourceMappingRecord, change: str, wall_s: float
) -> EventSourceMappingRecord | None:
    """The record after its change, None when it goes; another change leaves it as it is."""
    if record.change != change or record.goal is None:
        return record
    if record.goal == REMOVED:
        return None
    return records.replaced(record, state=record.goal, goal=None, modified_wall_s=wall_s)


class MappingTransitions:
    """A `Part`. ``announce`` never blocks; announcing twice is harmless.

    Args:
        mappings: the records.
        clock: for times of changes.
        shows_s: how long a change is shown before it is finished.
    """

    name = "mapping-transitions"

    def __init__(
        self,
        mappings: Collection[EventSourceMappingRecord],
        clock: Clock,
        *,
        shows_s: float = 0.2,
    ) -> None:
        self._mappings = mappings
        self._clock = clock
        self._shows_s = shows_s
        self._due: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def announce(self, record: EventSourceMappingRecord) -> None:
        """Say that a mapping has a change to finish."""
        self._due.put_nowait((record.account, record.uuid))

    async def run(self, ready: Callable[[], None]) -> None:
        """Finish changes until cancelled, first those that an earlier run left."""
        for record in await self._mappings.everything():
            if record.goal is not None:
                self.announce(record)
        ready()
        while True:
            account, uuid = await self._due.get()
            try:
                await self._finish(account, uuid)
            except Exception:
                log.warning("mapping_not_finished", extra={"mapping": uuid}, exc_info=True)
                await asyncio.sleep(_RETRY_S)
                self._due.put_nowait((account, uuid))

    async def _finish(self, account: str, uuid: str) -> None:
        record = await self._mappings.get(account, uuid)
        if record is None or record.goal is None:
            return
        shown_s = max(0.0, self._clock.wall() - record.modified_wall_s)
        await asyncio.sleep(max(0.0, self._shows_s - shown_s))
        change, now_s = record.change, self._clock.wall()
        await self._mappings.change(account, uuid, lambda known: finished(known, change, now_s))
