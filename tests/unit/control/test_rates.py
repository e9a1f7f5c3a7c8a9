"""Token buckets: never more than the burst and what came back, for keys and accounts alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.control.gateway import rates
from pilotlight.control.gateway.rates import CallerRates
from pilotlight.model.errors import ApiError
from pilotlight.model.rates import Rate
from pilotlight.wire.lambda_api import render_error


class HandClock:
    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        raise NotImplementedError


def limits(
    clock: HandClock, *, account: tuple[float, float], key: tuple[float, float] = (1e6, 1e6)
) -> CallerRates:
    return CallerRates(account=Rate(*account), key=Rate(*key), clock=clock)


def passes(under_test: CallerRates, account: str = "1", key: str = "k") -> bool:
    try:
        under_test.charge(account, key)
    except ApiError:
        return False
    return True


def test_a_burst_passes_and_then_only_what_comes_back() -> None:
    clock = HandClock()
    under_test = limits(clock, account=(10, 3))
    assert [passes(under_test) for _ in range(4)] == [True, True, True, False]
    clock.now += 0.1
    assert [passes(under_test) for _ in range(2)] == [True, False]
    clock.now += 1000
    assert [passes(under_test) for _ in range(4)] == [True, True, True, False]


def test_a_refusal_says_when_to_come_again_as_the_service_does() -> None:
    clock = HandClock()
    under_test = limits(clock, account=(0.1, 1))
    under_test.charge("1", "k")
    with pytest.raises(ApiError) as caught:
        under_test.charge("1", "k")
    answer = render_error(caught.value, request_id="r")
    assert answer.status == 429
    assert (b"Retry-After", b"10") in answer.headers
    assert (b"x-amzn-ErrorType", b"TooManyRequestsException") in answer.headers
    assert answer.body == (
        b'{"Type":"User","message":"Rate Exceeded.","Reason":"CallerRateLimitExceeded"}'
    )
    clock.now += 10
    under_test.charge("1", "k")


def test_waiting_as_long_as_told_is_enough() -> None:
    clock = HandClock()
    under_test = limits(clock, account=(0.7, 2))
    for _ in range(50):
        try:
            under_test.charge("1", "k")
        except ApiError as refused:
            clock.now += float(str(refused.fields["retryAfterSeconds"]))
            under_test.charge("1", "k")


def test_a_key_has_a_bucket_of_its_own_below_that_of_its_account() -> None:
    under_test = limits(HandClock(), account=(1, 5), key=(1, 2))
    assert [passes(under_test, key="a") for _ in range(3)] == [True, True, False]
    assert [passes(under_test, key="b") for _ in range(3)] == [True, True, False]
    # What the keys were refused did not use up the account's last token.
    assert [passes(under_test, key="c") for _ in range(2)] == [True, False]


def test_accounts_do_not_share() -> None:
    under_test = limits(HandClock(), account=(1, 1))
    assert passes(under_test, "1", "a")
    assert not passes(under_test, "1", "b")
    assert passes(under_test, "2", "c")


def test_a_key_that_moves_to_another_account_is_charged_there() -> None:
    under_test = limits(HandClock(), account=(1, 1))
    assert passes(under_test, "1", "a")
    assert passes(under_test, "2", "a")
    assert not passes(under_test, "1", "b")


def test_many_keys_are_forgotten_once_full_and_never_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rates, "_KEPT", 10)
    clock = HandClock()
    under_test = limits(clock, account=(100, 100), key=(0.001, 1))
    assert passes(under_test, key="spent")
    clock.now += 1
    for number in range(100):
        passes(under_test, key=f"k{number}")
    assert not passes(under_test, key="spent")
    clock.now += 2000
    passes(under_test, key="new")
    assert len(under_test._keys) < 10


@pytest.mark.parametrize(("per_s", "burst"), [(0, 1), (-1, 1), (1, 0.5), (float("nan"), 1)])
def test_a_rate_that_lets_nothing_through_is_a_mistake(per_s: float, burst: float) -> None:
    with pytest.raises(ValueError, match="not a rate"):
        Rate(per_s, burst)


STEPS = st.lists(st.tuples(st.floats(0, 3), st.sampled_from("ab")), max_size=120)


@given(STEPS, st.floats(0.2, 50), st.integers(1, 20), st.floats(0, 1e9))
def test_never_more_than_the_burst_and_what_came_back(
    steps: list[tuple[float, str]], per_s: float, burst: int, start: float
) -> None:
    """In every window between two calls, for the account whatever the keys."""
    clock = HandClock(start)
    under_test = limits(clock, account=(per_s, burst))
    passed: list[float] = []
    for pause, key in steps:
        clock.now += pause
        if passes(under_test, key=key):
            passed.append(clock.now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            most = burst + per_s * (passed[last] - passed[first])
            assert last - first + 1 <= most + 1e-3


@given(STEPS, st.floats(0.2, 50), st.integers(1, 20))
def test_whoever_keeps_below_the_rate_is_never_refused(
    steps: list[tuple[float, str]], per_s: float, burst: int
) -> None:
    clock = HandClock()
    under_test = limits(clock, account=(per_s, burst))
    for pause, key in steps:
        clock.now += pause + 1 / per_s + 1e-6
        assert passes(under_test, key=key)
