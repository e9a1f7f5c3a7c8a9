"""What an account stores, counted along the change feed instead of from all records each time.

A quota is checked by every upload; reading ten thousand functions for each would make the price of
one depend on the number of the others.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from pilotlight.model.errors import FeedCompacted
from pilotlight.ports.registry import Change, RegistryStore
from pilotlight.wire import records
from pilotlight.wire.records import FunctionRecord, LayerVersionRecord

_PAGE: Final = 1000


@dataclass(slots=True)
class Usage:
    """Of one account, or of one record of it.

    Attributes:
        functions: how many.
        code_bytes: of all versions of all functions, and of all layers.
        reserved: concurrency that is not shared: what functions have reserved, and what is
            provisioned for functions that have reserved nothing.
    """

    functions: int = 0
    code_bytes: int = 0
    reserved: int = 0

    def add(self, other: Usage, sign: int = 1) -> None:
        """Count another one in, or out."""
        self.functions += sign * other.functions
        self.code_bytes += sign * other.code_bytes
        self.reserved += sign * other.reserved


class UsageLedger:
    """Usage by account. What it answers contains every commit that was finished when it was asked.

    Memory: three numbers for each function and layer version.
    """

    def __init__(self, store: RegistryStore) -> None:
        self._store = store
        self._one_reader = asyncio.Lock()
        self._one_decision = asyncio.Lock()
        self._reset()

    async def of(self, account: str) -> Usage:
        """What an account uses now."""
        async with self._one_reader:
            try:
                await self._advance()
            except FeedCompacted:
                self._reset()
                await self._advance()
            return replace(self._accounts[account])

    def deciding(self) -> asyncio.Lock:
        """Hold it from a check of a quota to the commit that uses it."""
        return self._one_decision

    def _reset(self) -> None:
        self._revision = 0
        self._counted: dict[tuple[str, str, str], Usage] = {}
        self._accounts: defaultdict[str, Usage] = defaultdict(Usage)

    async def _advance(self) -> None:
        while changes := await self._store.changes(self._revision, _PAGE):
            for change in changes:
                if change.kind in _COUNT:
                    self._count(change)
                self._revision = max(self._revision, change.revision)

    def _count(self, change: Change) -> None:
        usage, name = self._accounts[change.account], (change.kind, change.account, change.key)
        former = self._counted.pop(name, None)
        if former is not None:
            usage.add(former, -1)
        if change.body is not None:
            counted = self._counted[name] = _COUNT[change.kind](change.body)
            usage.add(counted)


def code_bytes(record: FunctionRecord) -> int:
    """Code size of a function and its published versions, as the account's quota counts it."""
    return record.current.code.size_bytes + sum(record.published.values())


def provisioned_of(record: FunctionRecord) -> int:
    """Environments to keep ready for a function, all qualifiers together."""
    return sum(provisioned.requested for provisioned in record.provisioned.values())


def reserved_of(record: FunctionRecord) -> int:
    """Concurrency that a function takes from what others share."""
    return provisioned_of(record) if record.reserved is None else record.reserved


def _function(body: bytes) -> Usage:
    record = records.decode(FunctionRecord, body)
    return Usage(1, code_bytes(record), reserved_of(record))


def _layer_version(body: bytes) -> Usage:
    return Usage(code_bytes=records.decode(LayerVersionRecord, body).code.size_bytes)


_COUNT: Mapping[str, Callable[[bytes], Usage]] = MappingProxyType(
    {records.FUNCTION: _function, records.LAYER_VERSION: _layer_version}
)
