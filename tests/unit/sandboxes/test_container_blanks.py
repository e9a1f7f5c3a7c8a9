"""The pool of blanks goes easy on the start that took one."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from pilotlight.dataplane.sandboxes.container.blanks import BlankPool
from pilotlight.dataplane.sandboxes.container.cell import Cell
from pilotlight.model.ids import AccountId, RuntimeName
from pilotlight.ports.sandbox import BlankClass

pytestmark = pytest.mark.anyio
KIND = BlankClass(AccountId("000000000000"), RuntimeName("python3.11"))


class LivingCell:
    def is_dying(self) -> bool:
        return False


async def test_a_taken_blank_is_replaced_but_not_at_once() -> None:
    begun: list[BlankPool] = []
    again = asyncio.Event()

    def make(pool: BlankPool) -> None:
        begun.append(pool)
        if len(begun) > 1:
            again.set()

    pool = BlankPool(KIND, make, lambda _: None)
    async with asyncio.TaskGroup() as group:
        group.create_task(pool.keep(1))
        await asyncio.sleep(0)
        pool.ready(cast(Cell, LivingCell()))
    assert len(begun) == 1

    assert pool.take() is not None

    for _ in range(10):
        await asyncio.sleep(0)
    assert len(begun) == 1
    async with asyncio.timeout(10):
        await again.wait()
    pool.close()
