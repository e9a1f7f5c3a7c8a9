"""The choice between the versions of an alias."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from pilotlight.model.routing import chosen

DRAWS = st.floats(0, 1, exclude_max=True)
SHARES = st.floats(0, 1)


def never() -> float:
    raise AssertionError("nothing is drawn for one version")


def test_one_version_is_not_drawn_for() -> None:
    assert chosen("1", {}, never) == "1"


@given(draw=DRAWS, share=SHARES)
def test_a_share_is_what_it_says(draw: float, share: float) -> None:
    expected = "2" if draw < share else "1"
    assert chosen("1", {"2": share}, lambda: draw) == expected


@given(draw=DRAWS)
def test_nothing_and_everything_are_exact(draw: float) -> None:
    assert chosen("1", {"2": 0.0}, lambda: draw) == "1"
    assert chosen("1", {"2": 1.0}, lambda: draw) == "2"


def test_many_draws_come_near_the_share() -> None:
    draw = random.Random(7).random
    count = sum(chosen("1", {"2": 0.2}, draw) == "2" for _ in range(20_000))
    assert abs(count / 20_000 - 0.2) < 0.01
