"""Loops and time, in virtual time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from pilotlight.control.scaling.policy import ScalingTarget, desired
from pilotlight.kernel.service import every, run_parts
from pilotlight.testing.simloop import Deadlock, SimLoop, simulate


def test_a_loop_of_fifteen_minutes_takes_no_real_time() -> None:
    async def main(loop: SimLoop) -> float:
        done = asyncio.Event()
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            ticks += 1
            if ticks == 91:
                done.set()

        async with asyncio.TaskGroup() as group:
            task = group.create_task(every(10.0, tick))
            await done.wait()
            task.cancel()
        return loop.monotonic()

    started = time.perf_counter()
    assert simulate(main) == pytest.approx(900, abs=0.01)
    assert time.perf_counter() - started < 1.0


def test_timeouts_are_virtual_too() -> None:
    async def main(loop: SimLoop) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        return loop.monotonic()

    assert simulate(main) == pytest.approx(3600, abs=0.01)


def test_a_deadlock_fails_at_once() -> None:
    async def main(_: SimLoop) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        simulate(main)


def test_one_dead_part_ends_the_role() -> None:
    class Good:
        name = "good"
        stopped = False

        async def run(self, ready: Callable[[], None]) -> None:
            ready()
            try:
                await asyncio.Event().wait()
            finally:
                self.stopped = True

    class Bad:
        name = "bad"

        async def run(self, ready: Callable[[], None]) -> None:
            ready()
            await asyncio.sleep(60)
            raise OSError("disk gone")

    good = Good()

    async def main(_: SimLoop) -> None:
        await run_parts([good, Bad()])

    with pytest.raises(ExceptionGroup) as caught:
        simulate(main)
    assert caught.group_contains(OSError)
    assert good.stopped


def test_scaling_is_a_table() -> None:
    target = ScalingTarget(per_environment=2.0, minimum=1, maximum=20, max_growth=3.0)
    rows = [  # ready, concurrency -> desired
        (0, 0.0, 1),
        (0, 100.0, 3),
        (3, 100.0, 9),
        (9, 100.0, 20),
        (9, 7.0, 4),
    ]
    for ready, concurrency, want in rows:
        assert desired(target, ready=ready, concurrency=concurrency) == want
