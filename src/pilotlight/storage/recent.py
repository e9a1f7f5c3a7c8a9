"""Records that were read lately, for a store that alone writes its database.

A read from the file costs two changes of thread; most calls of the control plane read a record
that was read or written a moment ago.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from pilotlight.ports.registry import Record
from pilotlight.storage.keys import Name

_OVERHEAD_BYTES = 400


class RecentRecords:
    """The records used last, within a budget of bytes. For one thread.

    Invariant: what is kept is the newest committed state. A commit drops what it wrote before its
    caller is answered, and a read that overlapped with any commit is not kept.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._bytes = 0
        self._commits = 0
        self._records: OrderedDict[Name, Record] = OrderedDict()

    def get(self, name: Name) -> Record | None:
        """The record, or None where it has to be read."""
        record = self._records.get(name)
        if record is not None:
            self._records.move_to_end(name)
        return record

    def begin(self) -> int:
        """A token for `keep`, taken before the read starts."""
        return self._commits

    def keep(self, record: Record, token: int) -> None:
        """Keep what a read found, unless something was committed meanwhile."""
        size = _size(record)
        if token != self._commits or size > self._budget:
            return
        name = (record.kind, record.account, record.key)
        self._drop(name)
        self._records[name] = record
        self._bytes += size
        while self._bytes > self._budget:
            self._drop(next(iter(self._records)))

    def committed(self, names: Iterable[Name]) -> None:
        """Drop what a commit wrote."""
        self._commits += 1
        for name in names:
            self._drop(name)

    def _drop(self, name: Name) -> None:
        former = self._records.pop(name, None)
        if former is not None:
            self._bytes -= _size(former)


def _size(record: Record) -> int:
    return len(record.body) + len(record.key) + _OVERHEAD_BYTES
