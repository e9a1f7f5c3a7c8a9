"""The ledger counts what a full count would find, also when the feed was cut."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.control.registry.usage import Usage, UsageLedger, code_bytes
from pilotlight.model.function import LATEST, Code, FunctionVersion, Logging
from pilotlight.model.ids import AccountId, Digest
from pilotlight.ports.registry import Delete, Put
from pilotlight.storage.memory import MemoryRegistryStore
from pilotlight.wire import records
from pilotlight.wire.records import FunctionRecord

ACCOUNTS = ("000000000000", "111111111111")
Step = tuple[str, str, int | None, bool]
STEPS = st.tuples(
    st.sampled_from(ACCOUNTS),
    st.sampled_from("abc"),
    st.none() | st.integers(0, 1000),
    st.booleans(),
)


def record(account: str, name: str, size: int) -> FunctionRecord:
    return FunctionRecord(
        current=FunctionVersion(
            account=AccountId(account),
            region="us-east-1",
            name=name,
            version=LATEST,
            runtime=None,
            handler=None,
            role="r",
            code=Code("s", size, Digest("a" * 64)),
            logging=Logging("/g"),
            last_modified="t",
            revision_id="r",
        ),
        published={"1": size, "2": 7},
    )


@given(st.lists(STEPS, max_size=30), st.integers(1, 3))
def test_the_ledger_is_the_sum_of_what_is_stored(steps: Sequence[Step], tombstones: int) -> None:
    async def follow() -> None:
        store = MemoryRegistryStore(tombstones=tombstones)
        ledger = UsageLedger(store)
        for account, name, size, looks in steps:
            if size is None:
                await store.commit([Delete(records.FUNCTION, account, name)])
            else:
                body = records.encode(record(account, name, size))
                await store.commit([Put(records.FUNCTION, account, name, body)])
            if looks:
                await ledger.of(account)
        for account in ACCOUNTS:
            kept = await store.list(records.FUNCTION, account)
            sizes = [code_bytes(records.decode(FunctionRecord, one.body)) for one in kept]
            assert await ledger.of(account) == Usage(len(sizes), sum(sizes))

    asyncio.run(follow())


@pytest.mark.anyio
async def test_what_is_told_is_a_copy() -> None:
    ledger = UsageLedger(MemoryRegistryStore())
    (await ledger.of("000000000000")).functions = 5
    assert (await ledger.of("000000000000")).functions == 0
