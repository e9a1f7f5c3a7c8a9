"""Changes of event source mappings are finished from the records alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pilotlight.control.registry import mappings, sources
from pilotlight.kernel.service import Stop, run_parts
from pilotlight.kernel.system import SystemClock
from pilotlight.storage.memory import MemoryRegistryStore
from pilotlight.wire.records import EventSourceMappingRecord, replaced

pytestmark = pytest.mark.anyio
ACCOUNT = "000000000000"


def mapping(uuid: str, *, goal: str | None, state: str = "Creating") -> EventSourceMappingRecord:
    return EventSourceMappingRecord(
        account=ACCOUNT, region="us-east-1", uuid=uuid, function="f", qualifier=None, source="sqs",
        settings={}, state=state, goal=goal, change="c", modified_wall_s=0.0,
    )  # fmt: skip


@asynccontextmanager
async def running(part: mappings.MappingTransitions) -> AsyncIterator[None]:
    stop, started = Stop(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_parts([part], stop=stop, started=started.set))
        await started.wait()
        try:
            yield
        finally:
            stop.ask()


async def test_what_an_earlier_run_left_is_finished() -> None:
    collection = mappings.mappings(MemoryRegistryStore())
    for record in (
        mapping("made", goal=mappings.ENABLED),
        mapping("gone", goal=mappings.REMOVED, state="Deleting"),
        mapping("kept", goal=None, state=mappings.DISABLED),
    ):
        await collection.create(ACCOUNT, record.uuid, record)
    part = mappings.MappingTransitions(collection, SystemClock(), shows_s=0.0)
    async with running(part), asyncio.timeout(5):
        while await collection.get(ACCOUNT, "gone") is not None:  # noqa: ASYNC110  no event
            await asyncio.sleep(0.005)
        while True:
            made = await collection.get(ACCOUNT, "made")
            if made is not None and made.goal is None:
                break
            await asyncio.sleep(0.005)
    assert made.state == mappings.ENABLED
    kept = await collection.get(ACCOUNT, "kept")
    assert kept == mapping("kept", goal=None, state=mappings.DISABLED)


def test_only_the_change_that_was_begun_is_finished() -> None:
    record = mapping("m", goal=mappings.ENABLED)
    newer = replaced(record, change="d", goal=mappings.DISABLED)
    assert mappings.finished(newer, "c", 1.0) == newer
    ended = mappings.finished(newer, "d", 1.0)
    assert ended is not None
    assert (ended.state, ended.goal) == (mappings.DISABLED, None)
    assert mappings.finished(ended, "d", 2.0) == ended


@pytest.mark.parametrize(
    ("arn", "kind"),
    [
        ("arn:aws:sqs:us-east-1:000000000000:q", "sqs"),
        ("arn:aws:sqs:us-east-1:000000000000:q.fifo", "sqs-fifo"),
        ("arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/c:1", "kinesis"),
        ("arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/x", "dynamodb"),
        ("arn:aws:kafka:us-east-1:000000000000:cluster/c/u", "msk"),
        ("arn:aws:mq:us-east-1:000000000000:broker:b:b-1", "mq"),
        ("arn:aws:rds:us-east-1:000000000000:cluster:d", "documentdb"),
    ],
)
def test_an_arn_says_what_its_source_is(arn: str, kind: str) -> None:
    assert sources.kind_of({"EventSourceArn": arn}) == kind
