"""What an account stores, counted along the change feed instead of from all records each time.

A quota is checked by every upload; reading ten thousand functions for each would make the price of
one depend on the number of the others.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pilotlight.model.errors import FeedCompacted
from pilotlight.ports.registry import Change, RegistryStore
from pilotlight.wire import records
from pilotlight.wire.records import FunctionRecord, LayerVersionRecord

_PAGE: Final = 1000


@dataclass(slots=True)
class Usage:
    """Of one account."""

    functions: int = 0
    code_bytes: int = 0


class UsageLedger:
    """Usage by account. What it answers contains every commit that was finished when it was asked.

    Memory: one number for each function and layer version.
    """

    def __init__(self, store: RegistryStore) -> None:
        self._store = store
        self._one_reader = asyncio.Lock()
        self._reset()

    async def of(self, account: str) -> Usage:
        """Functions of an account, and the code bytes of all their versions and of all layers."""
        async with self._one_reader:
            try:
                await self._advance()
            except FeedCompacted:
                self._reset()
                await self._advance()
            known = self._accounts[account]
            return Usage(known.functions, known.code_bytes)

    def _reset(self) -> None:
        self._revision = 0
        self._bytes: dict[tuple[str, str, str], int] = {}
        self._accounts: defaultdict[str, Usage] = defaultdict(Usage)

    async def _advance(self) -> None:
        while changes := await self._store.changes(self._revision, _PAGE):
            for change in changes:
                if change.kind in _SIZES:
                    self._count(change)
                self._revision = max(self._revision, change.revision)

    def _count(self, change: Change) -> None:
        usage, name = self._accounts[change.account], (change.kind, change.account, change.key)
        is_function = change.kind == records.FUNCTION
        former = self._bytes.pop(name, None)
        if former is not None:
            usage.functions -= is_function
            usage.code_bytes -= former
        if change.body is None:
            return
        size = _SIZES[change.kind](change.body)
        self._bytes[name] = size
        usage.functions += is_function
        usage.code_bytes += size


def code_bytes(record: FunctionRecord) -> int:
    """Code size of a function and its published versions, as the account's quota counts it."""
    return record.current.code.size_bytes + sum(record.published.values())


_SIZES: Mapping[str, Callable[[bytes], int]] = MappingProxyType(
    {
        records.FUNCTION: lambda body: code_bytes(records.decode(FunctionRecord, body)),
        records.LAYER_VERSION: lambda body: (
            records.decode(LayerVersionRecord, body).code.size_bytes
        ),
    }
)
