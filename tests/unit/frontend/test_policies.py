"""Decisions of the frontend, as tables."""

from __future__ import annotations

from pilotlight.dataplane.frontend.policies import Burst, Pace, depth_for, starts_needed


def test_depth_follows_speed() -> None:
    rows = [(0.1, 4, 4), (0.1, 2, 2), (0.1, 1, 1), (0.7, 4, 2), (1.0, 4, 1), (50.0, 4, 1)]
    for estimate, most, want in rows:
        assert depth_for(estimate, most) == want


def test_prefetch_begins_after_enough_quiet_fast_runs_and_ends_at_a_slow_one() -> None:
    pace = Pace(4)
    for _ in range(32):
        pace.saw(0.2, has_logged=False)
    assert pace.depth == 1
    pace.saw(0.2, has_logged=False)
    assert pace.depth == 4
    pace.saw(25.0, has_logged=False)
    assert pace.depth == 1
    for _ in range(40):
        pace.saw(0.2, has_logged=False)
    assert pace.depth == 4
    pace.saw(0.2, has_logged=True)
    assert pace.depth == 1


def test_a_handler_of_a_few_milliseconds_is_never_queued_behind() -> None:
    pace = Pace(4)
    for _ in range(200):
        pace.saw(5.0, has_logged=False)
        assert pace.depth == 1


def test_starts_cover_who_waits_and_no_more() -> None:
    assert [starts_needed(w, s) for w, s in ((5, 0), (5, 3), (5, 7), (0, 0))] == [5, 2, 0, 0]


def test_the_burst_is_regained_over_its_window() -> None:
    burst = Burst(1000, 10.0)
    assert burst.take(1500, 0.0) == 1000
    assert burst.take(10, 0.0) == 0
    assert burst.take(1000, 1.0) == 100
    assert burst.take(5000, 100.0) == 1000
