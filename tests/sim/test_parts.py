"""Loops and time, in virtual time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from pilotlight.control.scaling.policy import ScalingTarget, desired
from pilotlight.kernel.service import PartStopped, Stop, every, run_parts
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


def test_a_role_that_is_asked_to_stop_drains_and_ends_its_parts_in_reverse() -> None:
    story: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        async def run(self, ready: Callable[[], None]) -> None:
            ready()
            try:
                await asyncio.Event().wait()
            finally:
                story.append(f"{self.name} ended")

    async def drain() -> None:
        await asyncio.sleep(5)
        story.append("drained")

    async def main(loop: SimLoop) -> None:
        stop = Stop(drain)
        loop.call_later(60, stop.ask)
        parts = [Named("store"), Named("server")]
        await run_parts(parts, stop=stop, started=lambda: story.append("started"))

    simulate(main)
    assert story == ["started", "drained", "server ended", "store ended"]


def test_a_part_may_return_only_when_the_role_stops() -> None:
    class Brief:
        name = "brief"

        async def run(self, ready: Callable[[], None]) -> None:
            ready()
            await asyncio.sleep(10)

    async def main(_: SimLoop) -> None:
        await run_parts([Brief()])

    with pytest.raises(ExceptionGroup) as caught:
        simulate(main)
    assert caught.group_contains(PartStopped, match="brief")


def test_a_part_that_is_never_ready_is_an_error() -> None:
    class Hung:
        name = "hung"

        async def run(self, ready: Callable[[], None]) -> None:  # noqa: ARG002
            await asyncio.sleep(1e6)

    async def main(_: SimLoop) -> None:
        await run_parts([Hung()])

    with pytest.raises(ExceptionGroup) as caught:
        simulate(main)
    assert caught.group_contains(TimeoutError)
