"""The invoke path in virtual time: frontend, placement and worker over scripted sandboxes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from pilotlight.dataplane.frontend import FrontendSettings
from pilotlight.dataplane.worker import WorkerSettings
from pilotlight.model.errors import ApiError, PlatformError, SandboxError, Throttled
from pilotlight.model.function import FunctionState, FunctionVersion, Isolation
from pilotlight.model.invocation import InvocationResult
from pilotlight.ports.sandbox import SandboxExit
from pilotlight.testing.oneworker import OneWorker
from pilotlight.testing.scripted import a_function
from pilotlight.testing.simloop import SimLoop, simulate

T = TypeVar("T")
MEMORY = Isolation.MEMORY


def run(
    test: Callable[[OneWorker], Awaitable[T]], make: Callable[[SimLoop], OneWorker] = OneWorker
) -> T:
    async def main(loop: SimLoop) -> T:
        async with make(loop).running() as stack:
            return await test(stack)

    return simulate(main)


def result_of(answers: list[InvocationResult | PlatformError]) -> InvocationResult:
    (answer,) = answers
    assert isinstance(answer, InvocationResult)
    return answer


def test_first_invocation_is_cold_and_the_second_warm() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        cold = await stack.invoke(function, {"a": 1})
        warm = await stack.invoke(function, {"a": 2})
        assert (cold.payload, warm.payload) == (b'{"a": 1}', b'{"a": 2}')
        assert cold.report.cold is not None
        assert set(cold.report.cold.phases_us) == {
            "queue", "placement", "fetch", "sandbox", "runtime", "init",
        }  # fmt: skip
        assert cold.report.init_ms == pytest.approx(50, abs=1)
        assert cold.report.billed_ms >= 50
        assert warm.report.cold is None
        assert warm.report.init_ms is None
        assert warm.report.peak_memory_mib == 33
        assert cold.report.environment == warm.report.environment
        assert len(stack.driver.made) == 1

    run(test)


def test_an_idle_environment_is_frozen_thawed_and_ended_after_keep_alive() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        await stack.invoke(function)
        await asyncio.sleep(0.2)
        (sandbox,) = stack.driver.made
        assert sandbox.freezes == 1
        assert stack.host.environments()[0].is_frozen
        await stack.invoke(function)
        assert not stack.host.environments()[0].is_frozen
        await asyncio.sleep(590)
        assert stack.driver.live
        await asyncio.sleep(11)
        assert not stack.driver.live
        await stack.invoke(function)
        assert len(stack.driver.made) == 2

    run(test)


def test_a_burst_of_n_starts_at_most_n_and_waiters_take_what_comes_first() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        answers = [stack.submit(function, {"sleep": 0.01}) for _ in range(20)]
        await asyncio.sleep(1)
        assert all(result_of(a).function_error is None for a in answers)
        assert len(stack.driver.made) == 20

    run(test)


def test_a_waiter_takes_an_environment_that_becomes_idle() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        await stack.invoke(function)
        first = stack.submit(function, {"sleep": 0.02})
        second = stack.submit(function)
        await asyncio.sleep(0.05)
        assert result_of(first).report.environment == result_of(second).report.environment
        assert result_of(second).report.cold is None
        await asyncio.sleep(0.1)
        assert len(stack.driver.made) == 2  # the one that was started is kept, idle

    run(test)


def test_the_burst_rule_holds_back_starts_and_then_lets_them_go() -> None:
    def make(loop: SimLoop) -> OneWorker:
        settings = FrontendSettings(burst=5, burst_window_s=10.0)
        return OneWorker(loop, frontend=settings)

    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function(timeout_s=60))
        answers = [stack.submit(function, {"sleep": 30}) for _ in range(8)]
        await asyncio.sleep(1)
        assert len(stack.driver.made) == 5
        await asyncio.sleep(6)
        assert len(stack.driver.made) == 8
        await asyncio.sleep(40)
        assert all(result_of(a) for a in answers)

    run(test, make)


def test_caps_hold_under_two_hundred_clients() -> None:
    async def test(stack: OneWorker) -> tuple[int, int]:
        function = stack.view.put(a_function())
        most = throttled = done = 0
        reasons: set[str] = set()

        async def client(number: int) -> None:
            nonlocal most, throttled, done
            for turn in range(20):
                try:
                    await stack.invoke(function, {"sleep": 0.01 * ((number + turn) % 7)})
                    done += 1
                except Throttled as error:
                    reasons.add(error.reason)
                    throttled += 1
                    await asyncio.sleep(0.05)
                assert stack.invoker.running <= 200
                busy = sum(e.in_flight for e in stack.host.environments())
                most = max(most, busy)

        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(client(number))
        assert most <= 50
        assert reasons == {"ConcurrentInvocationLimitExceeded"}
        assert stack.placement.held(function.account) <= 50
        assert len(stack.driver.made) <= 60
        assert stack.invoker.running == 0
        assert stack.telemetry.waiting == 0
        return done, throttled

    done, throttled = run(test, lambda loop: OneWorker(loop, limit=50))
    assert done + throttled == 4000
    assert done > 200
    assert throttled > 0


def test_one_environment_runs_one_invocation_at_a_time() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        for _ in range(3):
            answers = [stack.submit(function, {"sleep": 0.03}) for _ in range(10)]
            await asyncio.sleep(1)
            assert all(result_of(a) for a in answers)
        assert all(e.in_flight == 0 for e in stack.host.environments())

    run(test)


def test_a_timeout_kills_the_environment_and_answers_as_lambda_does() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function(timeout_s=1))
        await stack.invoke(function)
        answer = await stack.invoke(function, {"sleep": 5, "log": "half"}, wants_log=True)
        request = answer.report.request_id
        assert json.loads(answer.payload) == {
            "errorType": "Sandbox.Timedout",
            "errorMessage": f"RequestId: {request} Error: Task timed out after 1.00 seconds",
        }
        assert answer.function_error == "Unhandled"
        assert (answer.report.outcome, answer.report.duration_ms) == ("timeout", 1000.0)
        assert answer.report.billed_ms == 1000
        texts = stack.logs.texts(request)
        assert texts[0] == "half"
        assert texts[1].endswith(f"{request} Task timed out after 1.00 seconds")
        assert b"half\n" in (answer.log_tail or b"")
        await asyncio.sleep(0.1)
        assert not stack.driver.live
        assert (await stack.invoke(function)).function_error is None

    run(test)


@pytest.mark.parametrize(
    ("event", "outcome", "kind", "message"),
    [
        ({"exit": 1}, "crash", "Runtime.ExitError", "Runtime exited with error: exit status 1"),
        ({"exit": 0}, "crash", "Runtime.ExitError", "Runtime exited without providing a reason"),
        ({"exit": -11}, "crash", "Runtime.ExitError", "error: signal: segmentation fault"),
        ({"oom": True}, "memory", "Runtime.OutOfMemory", "error: signal: killed"),
        ({"lie": "ff" * 13}, "crash", "Runtime.ExitError", "announced a frame"),
        ({"lie": "00000000" + "63" + "00" * 7 + "13"}, "crash", "Runtime.ExitError", "not asked"),
        ({"lie": "00000000" + "00" * 8 + "10"}, "crash", "Runtime.ExitError", "out of turn"),
    ],
)
def test_death_in_an_invocation_is_answered_with_its_reason(
    event: dict[str, object], outcome: str, kind: str, message: str
) -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        answer = await stack.invoke(function, event)
        payload = json.loads(answer.payload)
        assert payload["errorType"] == kind
        assert payload["errorMessage"].startswith(f"RequestId: {answer.report.request_id} Error: ")
        assert message in payload["errorMessage"]
        assert answer.report.outcome == outcome
        assert (await stack.invoke(function, "again")).payload == b'"again"'
        assert len(stack.driver.made) == 2

    run(test)


def test_an_answer_over_six_megabytes_is_an_error() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        answer = await stack.invoke(function, {"size": 6_291_555})
        assert json.loads(answer.payload) == {
            "errorType": "Function.ResponseSizeTooLarge",
            "errorMessage": "Response payload size exceeded maximum allowed payload size "
            "(6291556 bytes).",
        }
        fits = await stack.invoke(function, {"size": 6_291_554})
        assert len(fits.payload) == 6_291_556

    run(test)


@pytest.mark.parametrize(
    ("init", "kind"), [("error", "Runtime.ImportModuleError"), ("exit", "Runtime.ExitError")]
)
def test_failing_init_is_repeated_inside_the_invocation_and_then_answered(
    init: str, kind: str
) -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        stack.driver.inits.extend([init, init])
        answer = await stack.invoke(function)
        assert json.loads(answer.payload)["errorType"] == kind
        assert answer.report.init_ms is None
        assert len(stack.driver.made) == 2
        assert stack.invoker.running == 0
        assert (await stack.invoke(function, 7)).payload == b"7"
        assert any(text.startswith("INIT_REPORT ") for text in stack.logs.texts(""))

    run(test)


def test_init_that_works_the_second_time_serves_the_invocation() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        stack.driver.inits.extend(["error", "0.4"])
        answer = await stack.invoke(function, 7)
        assert answer.payload == b"7"
        assert answer.report.init_ms is None
        assert answer.report.duration_ms >= 400

    run(test)


def test_init_that_hangs_runs_into_its_limit_and_then_into_the_timeout() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function(timeout_s=2))
        stack.driver.inits.extend(["hang", "hang"])
        began_s = stack.clock.monotonic()
        answer = await stack.invoke(function)
        assert json.loads(answer.payload)["errorType"] == "Sandbox.Timedout"
        assert stack.clock.monotonic() - began_s == pytest.approx(12, abs=0.5)

    run(test)


def test_sandbox_failures_are_tried_again_once_and_then_told() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        stack.driver.failures.append(SandboxError("no more pids"))
        assert (await stack.invoke(function, 1)).payload == b"1"
        stack.driver.failures.extend([SandboxError("no more pids")] * 2)
        with pytest.raises(SandboxError, match="no more pids"):
            await stack.invoke(stack.view.put(a_function("other")))
        assert stack.invoker.running == 0

    run(test)


def test_missing_runtime_code_and_isolation_are_told_with_what_to_do() -> None:
    async def test(stack: OneWorker) -> None:
        old = stack.view.put(a_function("old", runtime="python3.9"))
        with pytest.raises(ApiError, match="pilotlight runtime add PATH"):
            await stack.invoke(old)
        strict = stack.view.put(a_function("strict", isolation=Isolation.CONTAINER))
        with pytest.raises(SandboxError, match="never downgraded"):
            await stack.invoke(strict)
        function = stack.view.put(a_function())
        stack.cache.missing.add(function.code.package)
        with pytest.raises(ApiError, match="missing from storage"):
            await stack.invoke(function)
        assert not stack.driver.made

    run(test)


def test_a_function_that_is_not_active_is_refused() -> None:
    async def test(stack: OneWorker) -> None:
        pending = stack.view.put(a_function(state=FunctionState.PENDING))
        with pytest.raises(ApiError, match="following state: Pending") as caught:
            await stack.invoke(pending)
        assert caught.value.code == "ResourceConflictException"

    run(test)


def test_an_update_ends_old_environments_and_fails_nothing_in_flight() -> None:
    async def test(stack: OneWorker) -> None:
        old = stack.view.put(a_function())
        await stack.invoke(old)
        running = stack.submit(old, {"sleep": 1})
        new = stack.view.put(replace(old, revision_id="2"))
        answer = await stack.invoke(new, "new")
        await asyncio.sleep(2)
        assert result_of(running).function_error is None
        assert answer.report.environment != result_of(running).report.environment
        assert list(stack.driver.live) == [answer.report.environment]

    run(test)


def test_a_deleted_function_loses_its_environments() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        await stack.invoke(function)
        stack.view.drop(function)
        await asyncio.sleep(1)
        assert not stack.driver.live

    run(test)


def test_drain_lets_running_invocations_finish_and_refuses_new_ones() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        running = stack.submit(function, {"sleep": 2})
        await asyncio.sleep(0.5)
        async with asyncio.TaskGroup() as group:
            group.create_task(stack.invoker.drain(10))
            await asyncio.sleep(0.1)
            with pytest.raises(PlatformError, match="shutting down") as caught:
                await stack.invoke(function)
            assert caught.value.http_status == 503
        assert result_of(running).function_error is None
        assert stack.clock.monotonic() < 4

    run(test)


def test_idle_environments_of_others_make_room_and_waiting_ends_with_503() -> None:
    def make(loop: SimLoop) -> OneWorker:
        worker = WorkerSettings(default_isolation=MEMORY, memory_budget_mib=64, min_charge_mib=32)
        return OneWorker(loop, worker=worker, frontend=FrontendSettings(wait_budget_s=5.0))

    async def test(stack: OneWorker) -> None:
        one, two, three = (stack.view.put(a_function(n, timeout_s=60)) for n in ("a", "b", "c"))
        first = await stack.invoke(one)
        await stack.invoke(two)
        await stack.invoke(three)
        assert first.report.environment not in stack.driver.live
        busy = [stack.submit(f, {"sleep": 20}) for f in (two, three)]
        with pytest.raises(PlatformError, match="no execution environment for a") as caught:
            await stack.invoke(one)
        assert caught.value.http_status == 503
        await asyncio.sleep(20)
        assert all(result_of(b) for b in busy)
        await stack.invoke(one)

    run(test, make)


def test_memory_pressure_evicts_the_longest_idle_first() -> None:
    async def test(stack: OneWorker) -> None:
        functions = [stack.view.put(a_function(f"f{n}")) for n in range(3)]
        answers = [await stack.invoke(f) for f in functions]
        stack.available_mib = 100
        await asyncio.sleep(2.1)
        assert answers[0].report.environment not in stack.driver.live
        assert answers[2].report.environment in stack.driver.live
        stack.available_mib = 10_000

    run(test)


def test_an_idle_environment_that_dies_is_replaced_silently() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        await stack.invoke(function)
        stack.driver.made[0].die(SandboxExit(-9))
        await asyncio.sleep(0.5)
        assert not stack.driver.live
        assert (await stack.invoke(function, 5)).payload == b"5"

    run(test)


def side_by_side(environments: int) -> Callable[[SimLoop], OneWorker]:
    """A stack whose host has so many CPUs."""
    return lambda loop: OneWorker(loop, frontend=FrontendSettings(side_by_side=environments))


def test_prefetch_queues_behind_fast_runs_and_replays_what_never_began() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        for number in range(80):
            await stack.invoke(function, number)
        head = stack.submit(function, {"exit": 1, "sleep": 0.001})
        queued = [stack.submit(function, n) for n in range(3)]
        more = stack.submit(function, "fourth")
        assert stack.host.environments()[0].in_flight == 4
        await asyncio.sleep(1)
        assert result_of(head).report.outcome == "crash"
        assert [result_of(q).payload for q in queued] == [b"0", b"1", b"2"]
        assert result_of(more).payload == b'"fourth"'
        assert stack.driver.made[0].begun == 81  # the queued ones were never begun there

    run(test, side_by_side(1))


async def _ready(stack: OneWorker, function: FunctionVersion, environments: int) -> None:
    """Environments that are warm, of a function that is known to be fast."""
    for _ in range(environments):
        stack.submit(function, {"sleep": 0.5})
    await asyncio.sleep(1)
    for number in range(80):
        await stack.invoke(function, number)
    assert len(stack.host.environments()) == environments


def _in_flight(stack: OneWorker) -> list[int]:
    return sorted((e.in_flight for e in stack.host.environments()), reverse=True)


def test_a_fast_function_uses_as_many_environments_as_cpus_before_it_queues() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        await _ready(stack, function, 6)
        answers, seen = [], []
        for number in range(14):
            answers.append(stack.submit(function, {"n": number, "sleep": 0.0005}))
            seen.append(_in_flight(stack))
        assert seen[0] == [1, 0, 0, 0, 0, 0]
        assert seen[1] == [1, 1, 0, 0, 0, 0]  # a CPU is free: nobody is queued
        assert seen[2] == [2, 1, 0, 0, 0, 0]
        assert seen[7] == [4, 4, 0, 0, 0, 0]
        assert seen[8] == [4, 4, 1, 0, 0, 0]  # all queues are full: one more is woken
        assert seen[13] == [4, 4, 4, 2, 0, 0]
        await asyncio.sleep(1)
        assert [json.loads(result_of(a).payload)["n"] for a in answers] == list(range(14))
        assert len(stack.driver.made) == 6

    run(test, side_by_side(2))


def test_a_function_that_becomes_slow_spreads_out_again() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        await _ready(stack, function, 8)
        first = [stack.submit(function, {"sleep": 0.3}) for _ in range(2)]
        await asyncio.sleep(0.05)
        # Both CPUs' environments are stuck: nothing is queued behind them, though none has answered.
        second = [stack.submit(function, {"sleep": 0.3}) for _ in range(4)]
        assert _in_flight(stack) == [1, 1, 1, 1, 1, 1, 0, 0]
        await asyncio.sleep(0.7)
        # Sent at once, some are queued: their own times tell.
        burst = [stack.submit(function, {"sleep": 0.03}) for _ in range(8)]
        await asyncio.sleep(0.7)
        assert all(burst)
        third = [stack.submit(function, {"sleep": 0.3}) for _ in range(8)]
        assert _in_flight(stack) == [1] * 8
        await asyncio.sleep(0.35)
        assert all(result_of(a).report.outcome == "success" for a in first + second + third)

    run(test, side_by_side(2))


def test_slow_runs_never_wait_for_each_other() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        for _ in range(40):
            answers = [stack.submit(function, {"sleep": 0.005}) for _ in range(8)]
            assert max(_in_flight(stack) or [1]) == 1
            await asyncio.sleep(0.5)
            assert all(result_of(a).report.duration_ms < 6 for a in answers)

    run(test, side_by_side(2))


def test_a_start_is_shared_by_as_many_as_may_queue_in_it() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        await _ready(stack, function, 1)
        for number in range(13):
            stack.submit(function, {"n": number, "sleep": 0.0005})
        await asyncio.sleep(1)
        assert len(stack.driver.made) <= 1 + 3

    run(test, side_by_side(1))


def test_logs_stop_prefetch() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        for _ in range(80):
            await stack.invoke(function, {"log": "line\n"})
        stack.submit(function, {"sleep": 0.001})
        stack.submit(function, 1)
        assert max(e.in_flight for e in stack.host.environments()) == 1
        await asyncio.sleep(1)

    run(test)


def test_the_tail_is_complete_and_bounded_and_lines_carry_the_request() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        answer = await stack.invoke(function, {"log": "one\ntwo\rb\nlast"}, wants_log=True)
        request = answer.report.request_id
        assert stack.logs.texts(request) == ["one", "two\rb", "last"]
        tail = (answer.log_tail or b"").decode().splitlines()
        assert tail[0] == f"START RequestId: {request} Version: $LATEST"
        assert tail[-2] == f"END RequestId: {request}"
        assert tail[-1].startswith(f"REPORT RequestId: {request}\tDuration: ")
        long = await stack.invoke(function, {"log": "x" * 30_000}, wants_log=True)
        assert len(long.log_tail or b"") == 4096

    run(test)


def test_the_init_document_holds_the_whole_environment() -> None:
    async def test(stack: OneWorker) -> None:
        user = {"LANG": "C", "TZ": "Europe/Berlin", "AWS_REGION": "forged", "MY": "1"}
        function = stack.view.put(a_function(environment=user))
        await stack.invoke(function)
        init = stack.driver.made[0].init
        environment = init["environment"]
        assert isinstance(environment, dict)
        assert environment["LANG"] == "C"
        assert environment["TZ"] == "Europe/Berlin"
        assert environment["MY"] == "1"
        assert environment["AWS_REGION"] == "us-east-1"
        assert environment["_HANDLER"] == "app.handler"
        assert environment["AWS_LAMBDA_LOG_STREAM_NAME"] == init["log_stream"]
        assert str(init["log_stream"]).startswith("2023/11/14/[$LATEST]")

    run(test)


def test_a_retired_epoch_is_fenced_and_its_credits_return_when_its_runs_ended() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function(timeout_s=60))
        running = stack.submit(function, {"sleep": 20})
        await asyncio.sleep(1)
        await stack.placement.join("local", stack.invoker)  # someone took the name over
        assert stack.placement.held(function.account) == 1000
        await asyncio.sleep(10)
        assert stack.placement.held(function.account) == 1000
        await asyncio.sleep(15)
        assert result_of(running).function_error is None
        assert stack.placement.held(function.account) < 1000

    run(test)


@pytest.mark.parametrize("moment", [0.005, 0.03, 0.1])
def test_a_fence_at_any_moment_of_a_start_leaves_nothing_and_fails_nothing(moment: float) -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        answers = [stack.submit(function, {"sleep": 0.2}) for _ in range(3)]
        await asyncio.sleep(moment)
        await stack.host.fence("local", 2)
        await asyncio.sleep(1)
        assert not stack.driver.live
        for (answer,) in answers:  # begun ones end well, others are told that they did not begin
            assert isinstance(answer, InvocationResult | PlatformError)
        assert stack.invoker.running == 0

    run(test)


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.02, 0.05, 0.07, 0.2])
def test_stopping_at_any_moment_leaves_no_sandbox_and_no_one_unanswered(moment: float) -> None:
    async def test(stack: OneWorker) -> list[list[InvocationResult | PlatformError]]:
        function = stack.view.put(a_function())
        answers = [stack.submit(function, {"sleep": 5}) for _ in range(3)]
        await asyncio.sleep(moment)
        return answers

    answers = run(test)  # `running` checks what is left
    assert [len(answer) for answer in answers] == [1, 1, 1]


def test_a_lost_epoch_is_noticed_and_the_frontend_joins_again() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        await stack.invoke(function)
        await stack.placement.leave("local")
        with pytest.raises(PlatformError):
            await stack.invoke(stack.view.put(a_function("other")))
        await asyncio.sleep(1)
        assert (await stack.invoke(function, 3)).payload == b"3"

    run(test)


def test_who_waits_is_queued_behind_fast_runs_too() -> None:
    def make(loop: SimLoop) -> OneWorker:
        return OneWorker(
            loop,
            worker=WorkerSettings(default_isolation=MEMORY, memory_budget_mib=32),
            frontend=FrontendSettings(side_by_side=1),
        )

    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        for number in range(80):
            await stack.invoke(function, number)
        answers = [stack.submit(function, {"n": n, "sleep": 0.0005}) for n in range(40)]
        most = 0
        for _ in range(40):
            await asyncio.sleep(0.0005)
            most = max(most, stack.host.environments()[0].in_flight)
        await asyncio.sleep(1)
        assert most == 4
        assert [json.loads(result_of(a).payload)["n"] for a in answers] == list(range(40))
        assert len(stack.driver.made) == 1

    run(test, make)
