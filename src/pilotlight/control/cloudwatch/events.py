"""Reading the events of a log group, across the functions that write to it."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pilotlight.control.cloudwatch.groups import Group
from pilotlight.ports.telemetry import LogQuery, LogReader, StoredLine, StreamFacts

_PAGE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Window:
    """Which events: times in seconds, inclusive start, exclusive end; ids exclusive."""

    start_s: float | None = None
    end_s: float | None = None
    after_id: int = 0
    before_id: int | None = None


async def events(
    logs: LogReader,
    account: str,
    group: Group,
    streams: Sequence[StreamFacts],
    window: Window,
    *,
    newest_first: bool = False,
) -> AsyncIterator[StoredLine]:
    """Events of some streams of a group, ordered by id. Reads as far as it is asked."""
    start_s = max(window.start_s or 0.0, group.shown_from_s) or None
    sign = -1 if newest_first else 1
    readers = [
        _Reader(
            logs,
            LogQuery(
                account=account,
                function=function,
                start_s=start_s,
                end_s=window.end_s,
                after_id=window.after_id,
                before_id=window.before_id,
                limit=_PAGE,
                newest_first=newest_first,
                log_group=group.name,
                streams=tuple(s.stream for s in streams if s.function == function),
            ),
        )
        for function in sorted({stream.function for stream in streams})
    ]
    heap: list[tuple[int, int, StoredLine]] = []
    for number, reader in enumerate(readers):
        first = await reader.next()
        if first is not None:
            heap.append((sign * first.id, number, first))
    heapq.heapify(heap)
    while heap:
        _, number, line = heap[0]
        yield line
        following = await readers[number].next()
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (sign * following.id, number, following))


class _Reader:
    """The lines of one function, page by page."""

    def __init__(self, logs: LogReader, query: LogQuery) -> None:
        self._logs = logs
        self._query = query
        self._page: list[StoredLine] = []
        self._is_over = False

    async def next(self) -> StoredLine | None:
        if not self._page and not self._is_over:
            found = await self._logs.read(self._query)
            self._is_over = len(found) < self._query.limit
            if found:
                last = found[-1].id
                if self._query.newest_first:
                    self._query = replace(self._query, before_id=last)
                else:
                    self._query = replace(self._query, after_id=last)
            self._page = list(reversed(found))
        return self._page.pop() if self._page else None
