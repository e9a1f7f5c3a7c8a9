"""The power fails at every commit, before it and after it: nothing accepted is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from functools import partial

import pytest

from pilotlight.model.errors import PlatformError
from pilotlight.model.events import AsyncConfig, Condition
from pilotlight.testing.events import ACCOUNT, OneDispatcher, PowerCut, PowerFailed
from pilotlight.testing.scripted import a_function
from pilotlight.testing.simloop import SimLoop, simulate

SUCCESS, EXHAUSTED = Condition.SUCCESS, Condition.RETRIES_EXHAUSTED
SCRIPTS: tuple[tuple[dict[str, int], Condition], ...] = (
    ({}, SUCCESS),
    ({"fail": 1}, SUCCESS),
    ({"throttle": 2}, SUCCESS),
    ({"fail": 9}, EXHAUSTED),
    ({"sleep": 30}, SUCCESS),
)
DESTINATION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:after"
QUEUE = f"arn:aws:sqs:us-east-1:{ACCOUNT}:dead"


async def send(one: OneDispatcher, script: object) -> None:
    try:
        await one.accept("hello", script)
    except PlatformError:
        assert one.database.failed.is_set()  # told that it was not accepted


async def life(one: OneDispatcher, *, sends: bool) -> int:
    """One process from its start to its end or the power cut; how many commits it made."""
    with contextlib.suppress(PowerFailed, ExceptionGroup):
        async with one.running():
            if sends:
                async with asyncio.TaskGroup() as group:
                    for script, _ in SCRIPTS:
                        group.create_task(send(one, script))
                await asyncio.sleep(1)
                await send(one, {})
            await one.settled()
            return one.database.commits
    assert one.database.failed.is_set(), "something else than the power failed"
    return one.database.commits


async def scenario(loop: SimLoop, cuts: list[PowerCut]) -> int:
    """Live through the cuts and then to the end; check; return the first process's commits."""
    one = OneDispatcher(loop)
    one.view.put(a_function(passive={"DeadLetterConfig": {"TargetArn": QUEUE}}))
    one.view.put(a_function("after"))
    one.configs.known["hello"] = AsyncConfig(on_success=DESTINATION, on_failure=DESTINATION)
    commits = 0
    for number, one.cut in enumerate([*cuts, None]):
        made = await life(one, sends=number == 0)
        commits = commits or made
        await asyncio.sleep(0.5)
    async with one.running():
        await check(one)
    return commits


async def check(one: OneDispatcher) -> None:
    expected = {str(script): condition for script, condition in SCRIPTS}
    totals = await one.queue.totals()
    assert totals.waiting == 0
    assert totals.drift == 0
    ran = Counter(run.request_id for run in one.invoker.runs)
    for event in one.acknowledged:
        found = await one.queue.story(ACCOUNT, event.request_id)
        assert found is not None, "an accepted event is lost"
        assert ran[event.request_id] >= 1, "an accepted event was never run"
        script = event.payload.decode().replace('"', "'")
        if "fail" in script:  # attempts that a cut hid from us may have failed too
            assert found.condition in (SUCCESS, EXHAUSTED)
        else:
            assert found.condition is expected[script]
    after = [run for run in one.invoker.runs if run.function == "after"]
    followed = {run.payload.split(b'"requestId":"')[1][:36].decode() for run in after}
    ended = {e.request_id for e in one.acknowledged}
    assert ended <= followed, "an outcome did not reach its destination"
    assert totals.undelivered == totals.exhausted, "a dead letter is lost, or is there twice"


def test_without_a_cut_the_scenario_ends() -> None:
    assert simulate(partial(scenario, cuts=[])) > 20


@pytest.mark.parametrize("is_after", [False, True])
def test_power_fails_at_every_commit(is_after: bool) -> None:  # noqa: FBT001
    commits = simulate(partial(scenario, cuts=[]))
    for at in range(2, commits):
        simulate(partial(scenario, cuts=[PowerCut(at, is_after)]))


def test_power_fails_again_while_the_platform_recovers() -> None:
    for first in range(4, 16, 3):
        for second in range(2, 12):
            cuts = [PowerCut(first, is_after=True), PowerCut(second, is_after=second % 2 == 0)]
            simulate(partial(scenario, cuts=cuts))
