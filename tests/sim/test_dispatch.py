"""Asynchronous invocations in virtual time: retries, ages, destinations, and whose turn it is."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from pilotlight.events.dispatch import DispatchSettings, Fairness
from pilotlight.model.errors import SandboxError
from pilotlight.model.events import AsyncConfig, AttemptOutcome, Condition, EventStory
from pilotlight.testing.events import ACCOUNT, OneDispatcher
from pilotlight.testing.scripted import a_function
from pilotlight.testing.simloop import SimLoop, simulate

T = TypeVar("T")


def run(
    test: Callable[[OneDispatcher], Awaitable[T]],
    make: Callable[[SimLoop], OneDispatcher] = OneDispatcher,
) -> T:
    async def main(loop: SimLoop) -> T:
        one = make(loop)
        one.view.put(a_function())
        async with one.running():
            return await test(one)

    return simulate(main)


async def story(one: OneDispatcher, request_id: str) -> EventStory:
    found = await one.queue.story(ACCOUNT, request_id)
    assert found is not None
    return found


def outcomes(found: EventStory) -> list[AttemptOutcome]:
    return [attempt.outcome for attempt in found.attempts]


def test_an_event_is_run_once_and_succeeds() -> None:
    async def test(one: OneDispatcher) -> None:
        event = await one.accept("hello", {"a": 1})
        await one.settled()
        (ran,) = one.invoker.runs
        assert (ran.request_id, ran.payload) == (event.request_id, b'{"a": 1}')
        assert ran.at_s < 0.1
        found = await story(one, event.request_id)
        assert found.condition is Condition.SUCCESS
        assert outcomes(found) == [AttemptOutcome.SUCCESS]
        assert found.payload is None

    run(test)


def test_a_failing_function_is_tried_after_one_and_two_minutes_with_the_same_request_id() -> None:
    async def test(one: OneDispatcher) -> None:
        event = await one.accept("hello", {"fail": 99})
        await one.settled()
        assert [round(ran.at_s) for ran in one.invoker.runs] == [0, 60, 180]
        assert {ran.request_id for ran in one.invoker.runs} == {event.request_id}
        found = await story(one, event.request_id)
        assert found.condition is Condition.RETRIES_EXHAUSTED
        assert found.reason == "Boom: it broke"
        assert found.payload == b'{"fail": 99}'
        assert (await one.queue.failed(ACCOUNT, 10))[0].request_id == event.request_id

    run(test)


@pytest.mark.parametrize("retries", [0, 1])
def test_the_number_of_retries_is_the_functions(retries: int) -> None:
    async def test(one: OneDispatcher) -> None:
        one.configs.known["hello"] = AsyncConfig(retries=retries)
        await one.accept("hello", {"fail": 99})
        await one.settled()
        assert len(one.invoker.runs) == retries + 1

    run(test)


@pytest.mark.parametrize(("age_s", "runs"), [(60, 1), (90, 2)])
def test_a_retry_that_would_come_too_late_is_not_waited_for(age_s: float, runs: int) -> None:
    async def test(one: OneDispatcher) -> None:
        one.configs.known["hello"] = AsyncConfig(age_s=age_s)
        event = await one.accept("hello", {"fail": 99})
        await one.settled()
        found = await story(one, event.request_id)
        assert found.condition is Condition.EVENT_AGE_EXCEEDED
        assert len(one.invoker.runs) == runs
        assert found.ended_s is not None
        assert found.ended_s - found.accepted_s < age_s

    run(test)


def test_throttled_events_back_off_exponentially_up_to_five_minutes_until_they_are_too_old() -> (
    None
):
    async def test(one: OneDispatcher) -> None:
        event = await one.accept("hello", {"throttle": 10_000})
        await one.settled()
        times = [refused.at_s for refused in one.invoker.refusals]
        waits = [round(b - a) for a, b in itertools.pairwise(times)]
        assert waits[:10] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
        assert set(waits[10:]) == {300}
        found = await story(one, event.request_id)
        assert found.condition is Condition.EVENT_AGE_EXCEEDED
        assert 21_000 < times[-1] < 21_600
        assert one.invoker.runs == []

    run(test)


def test_a_throttle_does_not_count_as_a_failure_of_the_function() -> None:
    async def test(one: OneDispatcher) -> None:
        event = await one.accept("hello", {"throttle": 5, "fail": 2})
        await one.settled()
        found = await story(one, event.request_id)
        assert found.condition is Condition.SUCCESS
        assert outcomes(found) == [
            *[AttemptOutcome.THROTTLED] * 5,
            *[AttemptOutcome.FUNCTION_ERROR] * 2,
            AttemptOutcome.SUCCESS,
        ]

    run(test)


def test_our_own_faults_are_tried_again_until_they_end() -> None:
    async def test(one: OneDispatcher) -> None:
        one.invoker.fault = SandboxError("no room")
        event = await one.accept("hello")
        await asyncio.sleep(1000)
        one.invoker.fault = None
        await one.settled()
        found = await story(one, event.request_id)
        assert found.condition is Condition.SUCCESS
        assert found.attempts[0].detail == "SandboxException: no room"

    run(test)


def test_an_event_of_a_deleted_function_ends_and_is_kept() -> None:
    async def test(one: OneDispatcher) -> None:
        event = await one.accept("nobody", {"a": 1})
        await one.settled(within_s=200)
        found = await story(one, event.request_id)
        assert found.condition is Condition.RETRIES_EXHAUSTED
        assert "Function not found" in found.reason
        assert found.payload == b'{"a": 1}'

    run(test)


def test_outcomes_go_to_the_destinations_of_their_condition() -> None:
    async def test(one: OneDispatcher) -> None:
        for name in ("good", "bad"):
            one.view.put(a_function(name))
        arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:"
        one.configs.known["hello"] = AsyncConfig(
            retries=1, on_success=f"{arn}good", on_failure=f"{arn}bad"
        )
        good = await one.accept("hello", {"a": 1})
        bad = await one.accept("hello", {"fail": 9})
        await one.settled()
        (to_good,) = [json.loads(r.payload) for r in one.invoker.runs if r.function == "good"]
        (to_bad,) = [json.loads(r.payload) for r in one.invoker.runs if r.function == "bad"]
        assert to_good.pop("timestamp").endswith("Z")
        assert to_good == {
            "version": "1.0",
            "requestContext": {
                "requestId": good.request_id,
                "functionArn": f"{arn}hello:$LATEST",
                "condition": "Success",
                "approximateInvokeCount": 1,
            },
            "requestPayload": {"a": 1},
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
            "responsePayload": {"ok": True},
        }
        assert to_bad["requestContext"] == {
            "requestId": bad.request_id,
            "functionArn": f"{arn}hello:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 2,
        }
        assert to_bad["responseContext"]["functionError"] == "Unhandled"
        assert to_bad["responsePayload"] == {"errorType": "Boom", "errorMessage": "it broke"}
        totals = await one.queue.totals()
        assert (totals.accepted, totals.succeeded, totals.exhausted) == (4, 3, 1)
        assert totals.drift == 0

    run(test)


def test_what_cannot_be_delivered_is_kept_with_its_reason() -> None:
    async def test(one: OneDispatcher) -> None:
        queue_arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:dead"
        gone = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:gone"
        one.view.put(a_function(passive={"DeadLetterConfig": {"TargetArn": queue_arn}}))
        one.configs.known["hello"] = AsyncConfig(retries=0, on_failure=gone)
        event = await one.accept("hello", {"fail": 9})
        await one.settled()
        letter, record = await one.queue.undelivered(ACCOUNT, 10)
        assert (record.record.kind, record.record.target) == ("destination", gone)
        assert record.record.reason == "The destination does not exist."
        assert json.loads(record.record.body)["requestPayload"] == {"fail": 9}
        assert (letter.record.kind, letter.record.target) == ("dead-letter", queue_arn)
        assert letter.record.body == event.payload
        assert letter.record.attributes == {
            "RequestID": event.request_id,
            "ErrorCode": "200",
            "ErrorMessage": "Boom: it broke",
        }
        assert (await one.queue.totals()).undelivered == 2

    run(test)


def test_destinations_that_form_a_loop_are_cut() -> None:
    async def test(one: OneDispatcher) -> None:
        one.view.put(a_function("other"))
        arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:"
        one.configs.known["hello"] = AsyncConfig(on_success=f"{arn}other")
        one.configs.known["other"] = AsyncConfig(on_success=f"{arn}hello")
        await one.accept("hello")
        await one.settled()
        assert len(one.invoker.runs) == 17
        (kept,) = await one.queue.undelivered(ACCOUNT, 10)
        assert "loop" in kept.record.reason

    run(test)


def test_a_backlog_of_one_function_does_not_hold_up_another() -> None:
    def make(loop: SimLoop) -> OneDispatcher:
        return OneDispatcher(loop, DispatchSettings(fairness=Fairness(slots=30)))

    async def test(one: OneDispatcher) -> None:
        one.view.put(a_function("small"))
        one.view.put(a_function("far", account="111111111111"))
        async with asyncio.TaskGroup() as group:
            for _ in range(400):
                group.create_task(one.accept("hello", {"sleep": 60}))
        await asyncio.sleep(5)
        assert one.invoker.running["hello"] == 20
        began_s = one.clock.monotonic()
        await one.accept("small")
        await one.accept("far", account="111111111111")
        await one.until(lambda: {"small", "far"} <= {r.function for r in one.invoker.runs})
        late = [r.at_s - began_s for r in one.invoker.runs if r.function != "hello"]
        assert max(late) < 1.0

    run(test, make)


def test_a_limited_function_gets_as_much_as_it_can_take_without_being_hammered() -> None:
    async def test(one: OneDispatcher) -> None:
        one.invoker.caps["hello"] = 4
        async with asyncio.TaskGroup() as group:
            for _ in range(300):
                group.create_task(one.accept("hello", {"sleep": 1.0}))
        began_s = one.clock.monotonic()
        await one.until(lambda: len(one.invoker.runs) == 300)
        assert one.invoker.most["hello"] == 4
        ideal_s = 300 / 4 * 1.0
        assert one.clock.monotonic() - began_s < ideal_s * 1.7
        assert len(one.invoker.refusals) < 300
        await one.settled()
        assert (await one.queue.totals()).succeeded == 300

    run(test)


def test_attempts_longer_than_a_lease_keep_it() -> None:
    async def test(one: OneDispatcher) -> None:
        await one.accept("hello", {"sleep": 900})
        await one.settled()
        assert len(one.invoker.runs) == 1

    run(test)


def test_payloads_in_memory_are_bounded() -> None:
    def make(loop: SimLoop) -> OneDispatcher:
        return OneDispatcher(loop, DispatchSettings(payload_bytes=3000))

    async def test(one: OneDispatcher) -> None:
        for _ in range(20):
            await one.accept("hello", {"sleep": 10, "filling": "x" * 1000})
        await one.settled()
        assert one.invoker.most["hello"] == 3
        assert len(one.invoker.runs) == 20

    run(test, make)


def test_draining_counts_no_attempt_and_the_next_process_goes_on() -> None:
    async def main(loop: SimLoop) -> None:
        one = OneDispatcher(loop)
        one.view.put(a_function())
        async with one.running():
            one.dispatcher.drain()
            event = await one.accept("hello")
            await asyncio.sleep(10)
            assert one.invoker.runs == []
        async with one.running():
            await one.settled()
            assert outcomes(await story(one, event.request_id)) == [AttemptOutcome.SUCCESS]

    simulate(main)
