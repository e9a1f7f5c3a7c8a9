"""Streamed answers in virtual time: frontend and worker over scripted runtimes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotlight.model.errors import PlatformError
from pilotlight.model.invocation import InvocationResult
from pilotlight.model.limits import SYNC_RESPONSE_BYTES
from pilotlight.testing.oneworker import OneWorker
from pilotlight.testing.scripted import RecordedStream, a_function
from pilotlight.testing.simloop import SimLoop, simulate
from pilotlight_guest import frames

T = TypeVar("T")


def run(
    test: Callable[[OneWorker], Awaitable[T]], make: Callable[[SimLoop], OneWorker] = OneWorker
) -> T:
    async def main(loop: SimLoop) -> T:
        async with make(loop).running() as stack:
            return await test(stack)

    return simulate(main)


def only(results: list[InvocationResult | PlatformError]) -> InvocationResult:
    (answer,) = results
    assert isinstance(answer, InvocationResult)
    return answer


def test_pieces_come_before_the_function_ends() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        taker = stack.stream(function, {"stream": ["one", "two"], "hold": 1})
        await asyncio.sleep(0.5)
        assert (taker.content_type, taker.pieces) == (frames.BYTES_TYPE, [b"one", b"two"])
        assert taker.results == []
        await asyncio.sleep(1)
        result = only(taker.results)
        assert (result.payload, result.function_error) == (b"", None)
        assert result.stream_type == frames.BYTES_TYPE
        assert result.report.duration_ms == pytest.approx(1000, abs=50)

    run(test)


def test_credit_goes_back_as_bytes_are_taken_and_only_then() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        taker = stack.stream(function, {"stream": ["one", "three"], "hold": 1})
        await asyncio.sleep(0.5)
        (sandbox,) = stack.driver.made
        assert sandbox.credits == []
        taker.take(3)
        taker.take(100)  # more than was sent gives no more
        await asyncio.sleep(0.1)
        assert sandbox.credits == [3, 5]
        await asyncio.sleep(1)
        taker.take(1)
        later = stack.stream(function, {"stream": ["x"], "hold": 1})
        await asyncio.sleep(0.1)
        taker.take(1)  # of the stream before: nothing to the one that runs
        await asyncio.sleep(0.1)
        assert sandbox.credits == [3, 5]
        assert later.pieces == [b"x"]
        await asyncio.sleep(1)

    run(test)


def test_a_stream_that_breaks_tells_how_after_its_pieces() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function(timeout_s=2))
        broken = stack.stream(function, {"stream": ["a"], "broken": "ValueError"})
        late = stack.stream(function, {"stream": ["a"], "hold": 9})
        await asyncio.sleep(5)
        assert (broken.pieces, late.pieces) == ([b"a"], [b"a"])
        result = only(broken.results)
        assert (result.function_error, result.report.outcome) == ("Unhandled", "error")
        assert b"ValueError" in result.payload
        assert only(late.results).report.outcome == "timeout"
        assert b"Task timed out after 2.00 seconds" in only(late.results).payload

    run(test)


def test_an_answer_at_once_needs_no_pieces() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        taker = stack.stream(function, {"a": 1})
        await asyncio.sleep(1)
        assert (taker.content_type, taker.pieces) == (None, [])
        assert (only(taker.results).payload, only(taker.results).stream_type) == (b'{"a": 1}', None)

    run(test)


def test_whoever_wants_no_stream_gets_it_whole() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        whole = await stack.invoke(function, {"stream": ["one", "two"]})
        assert (whole.payload, whole.function_error) == (b"onetwo", None)
        assert whole.stream_type == frames.BYTES_TYPE
        (sandbox,) = stack.driver.made
        assert sandbox.credits == [3, 3]
        failed = await stack.invoke(function, {"stream": ["one"], "broken": "KeyError"})
        assert failed.function_error == "Unhandled"
        assert b"KeyError" in failed.payload

    run(test)


def test_a_whole_answer_has_its_own_limit() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        piece = "x" * frames.MAX_CHUNK
        count = SYNC_RESPONSE_BYTES // frames.MAX_CHUNK + 1
        result = await stack.invoke(function, {"stream": [piece] * count})
        assert result.function_error == "Unhandled"
        assert b"Function.ResponseSizeTooLarge" in result.payload
        assert (await stack.invoke(function, {"b": 2})).payload == b'{"b": 2}'
        assert len(stack.driver.made) == 1

    run(test)


@pytest.mark.parametrize(
    ("lies", "told"),
    [
        ([(1, frames.STREAM_CHUNK, b"x")], "a stream that it had not begun"),
        ([(1, frames.STREAM_END, b"")], "a stream that it had not begun"),
        ([(2, frames.STREAM_BEGIN, b"text/html")], "streamed what it was not asked"),
        ([(1, frames.STREAM_BEGIN, b"text/html")], "began a stream that can't be"),
        ([(1, frames.STREAM_BEGIN, b"T")] * 2, "began a stream that can't be"),
        ([(1, frames.STREAM_BEGIN, b"T"), (1, frames.RESULT, b"1")], "what it was not asked"),
        ([(1, frames.STREAM_BEGIN, b"T"), (1, frames.STREAM_CHUNK, b"")], "an empty chunk"),
        (
            [(1, frames.STREAM_BEGIN, b"T"), (1, frames.STREAM_CHUNK, b"x" * (1 << 17))],
            "announced a frame of 131072 bytes",
        ),
        (
            [(1, frames.STREAM_BEGIN, b"T"), *([(1, frames.STREAM_CHUNK, b"x" * 65536)] * 9)],
            "bytes of a stream ahead",
        ),
    ],
)
def test_a_runtime_that_breaks_the_rules_of_streams_is_killed(
    lies: list[tuple[int, int, bytes]], told: str
) -> None:
    said = [
        frames.frame(number, kind, frames.BYTES_TYPE.encode() if body == b"T" else body)
        for number, kind, body in lies
    ]

    async def test(stack: OneWorker) -> tuple[RecordedStream, list[str]]:
        function = stack.view.put(a_function())
        taker = stack.stream(function, {"lie": b"".join(said).hex()})
        await asyncio.sleep(1)
        assert not stack.driver.live
        return taker, stack.logs.texts()

    taker, logged = run(test)
    assert only(taker.results).report.outcome == "crash"
    assert any(told in line for line in logged), logged
    assert sum(map(len, taker.pieces)) <= frames.STREAM_WINDOW


ANY_FRAME = st.tuples(
    st.sampled_from([0, 1, 1, 1, 1, 2]),
    st.integers(15, 24),
    st.sampled_from(
        [b"", b"x", frames.BYTES_TYPE.encode(), frames.HTTP_TYPE.encode(), b"y" * 65536]
    ),
)


@settings(max_examples=60, deadline=None)
@given(said=st.lists(ANY_FRAME, max_size=14), wants_stream=st.booleans())
def test_whatever_a_runtime_says_its_caller_gets_one_end(
    said: list[tuple[int, int, bytes]],
    wants_stream: bool,  # noqa: FBT001
) -> None:
    """Any order of frames: one answer, no more pieces than the window admits, nothing left."""

    async def test(stack: OneWorker) -> tuple[list[bytes], list[InvocationResult | PlatformError]]:
        function = stack.view.put(a_function(timeout_s=1))
        event = {"lie": b"".join(frames.frame(*one) for one in said).hex()}
        if wants_stream:
            taker = stack.stream(function, event)
            pieces, results = taker.pieces, taker.results
        else:
            pieces, results = [], stack.submit(function, event)
        await asyncio.sleep(5)
        return pieces, results

    pieces, results = run(test)
    only(results)
    assert sum(map(len, pieces)) <= frames.STREAM_WINDOW


def test_nothing_is_queued_behind_a_stream() -> None:
    async def test(stack: OneWorker) -> None:
        function = stack.view.put(a_function())
        for _ in range(100):  # a fast function: frames may be queued behind its runs
            await stack.invoke(function)
        stack.stream(function, {"stream": ["a"], "hold": 2})
        answers = [stack.submit(function, n) for n in range(20)]
        await asyncio.sleep(1)
        assert [only(answer).payload for answer in answers] == [b"%d" % n for n in range(20)]
        await asyncio.sleep(2)

    run(test)
