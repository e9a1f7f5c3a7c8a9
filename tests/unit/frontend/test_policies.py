"""Decisions of the frontend, as tables."""

from __future__ import annotations

from pilotlight.dataplane.frontend.policies import Burst, Pace, depth_for, starts_needed


def test_depth_follows_the_share_of_fast_runs() -> None:
    rows = [
        ((32, 32, 32, 4), 4),
        ((32, 32, 32, 2), 2),
        ((32, 32, 32, 1), 1),
        ((32, 1, 1, 4), 4),
        ((32, 5, 0, 4), 2),
        ((32, 0, 0, 4), 1),
        ((64, 1, 1, 4), 1),
    ]
    for (runs, fast, very_fast, most), want in rows:
        assert depth_for(runs, fast, very_fast, most) == want


def fast_pace() -> Pace:
    pace = Pace(4)
    for _ in range(31):
        pace.saw(0.2, has_logged=False)
        assert pace.depth == 1
    pace.saw(0.2, has_logged=False)
    assert pace.depth == 4
    return pace


def test_a_log_line_ends_prefetch_at_once() -> None:
    pace = fast_pace()
    pace.saw(0.2, has_logged=True)
    assert pace.depth == 1


def test_stuck_followers_are_forgiven_apart_and_end_prefetch_in_a_row() -> None:
    pace = fast_pace()
    for _ in range(20):
        pace.saw(25.0, has_logged=False, is_follower=True)
        pace.saw(0.2, has_logged=False, is_follower=True)
    assert pace.depth == 4
    for _ in range(3):
        assert pace.depth == 4
        pace.saw(25.0, has_logged=False, is_follower=True)
    assert pace.depth == 1


def test_a_handler_that_becomes_slow_is_found_out_by_its_followers() -> None:
    for duration_ms, within in ((100.0, 3), (8.0, 24), (2.0, 256)):
        pace = fast_pace()
        runs = 0
        while pace.depth > 1:
            pace.saw(duration_ms, has_logged=False, is_follower=True)
            runs += 1
        assert runs <= within


def test_waits_for_a_cpu_do_not_end_prefetch_where_followers_are_fast() -> None:
    pace = fast_pace()
    for number in range(400):
        is_follower = bool(number % 4)
        pace.saw(0.3 if is_follower else 15.0, has_logged=False, is_follower=is_follower)
        assert pace.depth == 4


def test_prefetch_begins_on_a_loaded_host_where_few_runs_are_seen_fast() -> None:
    pace = Pace(4)
    for number in range(32):
        pace.saw(0.9 if number == 7 else 30.0, has_logged=False)
    assert pace.depth == 2


def test_each_failed_trial_doubles_the_runs_before_the_next() -> None:
    pace = fast_pace()
    for wanted in (64, 128, 256):
        while pace.depth > 1:
            pace.saw(8.0, has_logged=False, is_follower=True)
        runs = 0
        while pace.depth == 1:
            pace.saw(0.4 if runs % 2 else 8.0, has_logged=False)
            runs += 1
        assert runs == wanted
    for _ in range(5000):
        pace.saw(0.2, has_logged=False, is_follower=True)
    pace.saw(0.2, has_logged=True)
    for _ in range(32):
        pace.saw(0.2, has_logged=False)
    assert pace.depth == 4


def test_a_handler_of_a_few_milliseconds_is_never_queued_behind() -> None:
    pace = Pace(4)
    for _ in range(200):
        pace.saw(5.0, has_logged=False)
        assert pace.depth == 1


def test_starts_cover_who_waits_and_no_more() -> None:
    assert [starts_needed(w, s, 1) for w, s in ((5, 0), (5, 3), (5, 7), (0, 0))] == [5, 2, 0, 0]
    assert [starts_needed(w, s, 4) for w, s in ((5, 0), (5, 1), (4, 0), (0, 0))] == [2, 1, 1, 0]


def test_the_burst_is_regained_over_its_window() -> None:
    burst = Burst(1000, 10.0)
    assert burst.take(1500, 0.0) == 1000
    assert burst.take(10, 0.0) == 0
    assert burst.take(1000, 1.0) == 100
    assert burst.take(5000, 100.0) == 1000
