"""The log store on real files: what is stored is found, whatever happens in between."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from pilotlight.model.invocation import ColdStart
from pilotlight.observability.logstore import LogStore, LogStoreLimits
from pilotlight.ports.telemetry import LogQuery
from pilotlight.testing.log_facts import (
    NOON,
    FakeClock,
    function,
    json_function,
    line,
    report,
    request,
)

pytestmark = pytest.mark.anyio

STREAM = "2026/11/24/[$LATEST]abc"
DAY_S = 86_400
SMALL = LogStoreLimits(disk_floor_bytes=0, flush_s=0.01)


def query(*, function: str = "hello", **conditions: Any) -> LogQuery:
    return LogQuery("000000000000", function, **conditions)


def texts(store: LogStore, **conditions: Any) -> list[str]:
    return [stored.line.text for stored in store.read_now(query(**conditions))]


def invoke(store: LogStore, number: int, *lines: str, at_s: float = NOON, **facts: Any) -> None:
    """What a worker does for one invocation."""
    made = report(number, at_s=at_s, **facts)
    store.start(made.function, STREAM, made.request_id, at_s)
    for text in lines:
        store.line(line(text, number, at_s=at_s, name=made.function.name))
    store.report(made, STREAM)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(tmp_path: Path, clock: FakeClock) -> Iterator[LogStore]:
    one = LogStore(tmp_path / "logs", clock, SMALL)
    one.open()
    yield one
    one.close()


async def test_lines_stand_between_start_and_end_and_are_found_at_once(store: LogStore) -> None:
    invoke(store, 1, "first", "second")
    found = await store.read(query())
    assert [stored.line.text.split(" ")[0] for stored in found] == [
        "START", "first", "second", "END", "REPORT",
    ]  # fmt: skip
    assert [stored.id for stored in found] == sorted({stored.id for stored in found})
    assert {stored.line.request_id for stored in found} == {request(1)}
    assert {stored.line.stream for stored in found} == {STREAM}
    assert found[0].line.wall_s == NOON


def test_an_invocation_that_outlives_a_batch_is_told_in_the_right_order(store: LogStore) -> None:
    made = report(1)
    store.start(made.function, STREAM, made.request_id, NOON)
    store.flush()
    store.line(line("late", 1))
    store.flush()
    store.report(made, STREAM)
    assert [text.split(" ")[0] for text in texts(store)] == ["START", "late", "END", "REPORT"]


def test_following_gives_each_line_once(store: LogStore) -> None:
    seen: list[int] = []
    for number in range(5):
        invoke(store, number, f"line {number}")
        while page := store.read_now(query(after_id=max(seen, default=0), limit=3)):
            seen += [stored.id for stored in page]
    assert len(seen) == len(set(seen)) == 20
    assert seen == sorted(seen)


def test_a_question_by_request_finds_only_its_lines(store: LogStore) -> None:
    invoke(store, 1, "mine")
    invoke(store, 2, "other")
    assert "mine" in texts(store, request_id=request(1))
    assert len(texts(store, request_id=request(1))) == 4
    assert texts(store, request_id=request(9)) == []


def test_functions_and_accounts_do_not_see_each_other(store: LogStore) -> None:
    invoke(store, 1, "secret", of=function("theirs"))
    assert texts(store) == []
    assert store.read_now(LogQuery("111111111111", "theirs")) == ()
    assert "secret" in texts(store, function="theirs")


def test_time_bounds_are_inclusive_at_the_start_and_exclusive_at_the_end(store: LogStore) -> None:
    for second in range(5):
        store.line(line(f"at {second}", 1, at_s=NOON + second))
    assert texts(store, start_s=NOON + 1, end_s=NOON + 3) == ["at 1", "at 2"]


def test_newest_first_turns_everything_round(store: LogStore) -> None:
    invoke(store, 1, "a", cold=ColdStart("fork", {"init": 1000}))
    invoke(store, 2, "b")
    forward = texts(store)
    assert texts(store, newest_first=True) == forward[::-1]
    assert texts(store, newest_first=True, limit=3) == forward[::-1][:3]


def test_all_words_must_occur_in_any_order(store: LogStore) -> None:
    invoke(store, 1, "user ada bought 3 apples", "user bob left")
    assert texts(store, text="ada USER") == ["user ada bought 3 apples"]
    assert texts(store, text="ada bob") == []
    assert texts(store, text="apple") == []


@pytest.mark.parametrize("hostile", ['"', "a OR b", "NEAR(", "*", "x:", "'; drop table line", "\0"])
def test_words_are_never_read_as_a_query_language(store: LogStore, hostile: str) -> None:
    invoke(store, 1, "a plain line")
    assert texts(store, text=hostile) == []


def test_text_without_words_is_found_as_it_stands(store: LogStore) -> None:
    invoke(store, 1, "===>", "plain")
    assert texts(store, text="==>") == ["===>"]


def test_platform_lines_are_searched_too(store: LogStore) -> None:
    invoke(store, 1, "x")
    invoke(store, 2, "y", outcome="timeout")
    assert [text.split("\t")[-2] for text in texts(store, text="Status: timeout")] == [
        "Status: timeout"
    ]
    assert len(texts(store, text=request(1))) == 3
    assert len(texts(store, text="REPORT")) == 2


def test_a_cold_start_tells_its_phases_after_the_report(store: LogStore) -> None:
    invoke(store, 1, cold=ColdStart("blank", {"init": 1000}), init_ms=1.0)
    assert [text.split(" ")[0] for text in texts(store)] == ["START", "END", "REPORT", "COLD_START"]
    assert "Start: blank\tInit: 1.00 ms" in texts(store)[-1]


def test_json_functions_get_json_platform_lines_and_none_when_quiet(store: LogStore) -> None:
    invoke(store, 1, of=json_function())
    kinds = [text.split('"type":"')[1].split('"')[0] for text in texts(store)]
    assert kinds == ["platform.start", "platform.report"]
    invoke(store, 2, of=json_function("WARN"))
    assert texts(store, request_id=request(2)) == []
    invoke(store, 3, of=json_function("WARN"), outcome="timeout")
    assert len(texts(store, request_id=request(3))) == 1


def test_hostile_text_is_stored_as_far_as_it_goes(store: LogStore) -> None:
    invoke(store, 1, "\ud800 lone", "x" * 300_000, "nul \0 inside", "")
    _, lone, long, nul, empty, *_ = texts(store)
    assert lone == "? lone"
    assert len(long) == 256 * 1024
    assert nul == "nul \0 inside"
    assert empty == ""
    assert store.counts()[1] == {"buffer": 0, "disk": 0, "store": 0}


def test_a_request_id_that_is_no_uuid_is_found(store: LogStore) -> None:
    odd = dataclasses.replace(line("odd", 1), request_id="not-a-uuid")
    upper = dataclasses.replace(line("upper", 1), request_id=request(1).replace("0", "A"))
    store.line(odd)
    store.line(upper)
    assert texts(store, request_id="not-a-uuid") == ["odd"]
    assert texts(store, request_id=upper.request_id) == ["upper"]


def test_a_full_buffer_drops_and_counts(tmp_path: Path, clock: FakeClock) -> None:
    limits = dataclasses.replace(SMALL, buffer_entries=3, buffer_bytes=100)
    store = LogStore(tmp_path / "logs", clock, limits)
    (tmp_path / "logs").mkdir()
    store.line(line("x" * 101, 1))
    invoke(store, 1, "a", "b", "c")
    assert store.counts()[1]["buffer"] == 3
    assert len(texts(store)) == 3
    store.close()


def test_a_nearly_full_disk_drops_and_counts(tmp_path: Path, clock: FakeClock) -> None:
    store = LogStore(tmp_path / "logs", clock, LogStoreLimits(disk_floor_bytes=1 << 60))
    store.open()
    invoke(store, 1, "a")
    assert texts(store) == []
    assert store.counts()[1]["disk"] == 3
    store.close()


def test_ids_go_on_after_a_restart_even_when_the_clock_went_back(
    tmp_path: Path, clock: FakeClock
) -> None:
    store = LogStore(tmp_path / "logs", clock, SMALL)
    store.open()
    invoke(store, 1, "before")
    last = store.read_now(query())[-1].id
    store.close()
    again = LogStore(tmp_path / "logs", clock, SMALL)
    again.open()
    again.line(line("after", 2, at_s=NOON - 30))
    assert again.read_now(query())[-1].id > last
    assert texts(again)[-1] == "after"
    again.close()


def test_a_new_day_and_a_full_file_begin_a_new_one_and_reading_spans_them(
    tmp_path: Path, clock: FakeClock
) -> None:
    store = LogStore(tmp_path / "logs", clock, dataclasses.replace(SMALL, segment_bytes=1))
    store.open()
    for day in range(3):
        clock.wall_s = NOON + day * DAY_S
        invoke(store, day, f"day {day}", at_s=clock.wall_s)
        store.flush()
    assert len(list((tmp_path / "logs").glob("2026-11-2[456]-*.db"))) == 3
    assert [text for text in texts(store) if "day" in text] == ["day 0", "day 1", "day 2"]
    assert texts(store, newest_first=True, limit=3)[2] == "day 2"
    assert "day 0" not in texts(store, start_s=NOON + DAY_S)
    store.close()


def test_retention_removes_old_files_by_age_and_by_size(tmp_path: Path, clock: FakeClock) -> None:
    limits = dataclasses.replace(SMALL, retention_days=2)
    store = LogStore(tmp_path / "logs", clock, limits)
    store.open()
    for day in range(5):
        clock.wall_s = NOON + day * DAY_S
        invoke(store, day, f"day {day}", at_s=clock.wall_s)
        store.flush()
    assert [text for text in texts(store) if "day" in text] == ["day 2", "day 3", "day 4"]
    store.close()
    tiny = LogStore(tmp_path / "logs", clock, dataclasses.replace(limits, max_bytes=1))
    tiny.open()
    assert [text for text in texts(tiny) if "day" in text] == ["day 4"]
    tiny.close()
    assert len(list((tmp_path / "logs").iterdir())) == 1


def test_a_damaged_newest_file_is_set_aside_and_the_rest_is_served(
    tmp_path: Path, clock: FakeClock
) -> None:
    store = LogStore(tmp_path / "logs", clock, SMALL)
    store.open()
    for day in range(2):
        clock.wall_s = NOON + day * DAY_S
        invoke(store, day, f"day {day}", at_s=clock.wall_s)
        store.flush()
    store.close()
    newest = max((tmp_path / "logs").glob("*.db"))
    newest.write_bytes(b"not a database" * 1000)
    again = LogStore(tmp_path / "logs", clock, SMALL)
    again.open()
    invoke(again, 7, "new", at_s=clock.wall_s)
    assert [text for text in texts(again) if text in {"day 0", "day 1", "new"}] == ["day 0", "new"]
    assert newest.with_name(newest.name + ".damaged").exists()
    again.close()


def test_a_damaged_older_file_does_not_hide_the_others(tmp_path: Path, clock: FakeClock) -> None:
    store = LogStore(tmp_path / "logs", clock, SMALL)
    store.open()
    for day in range(2):
        clock.wall_s = NOON + day * DAY_S
        invoke(store, day, f"day {day}", at_s=clock.wall_s)
        store.flush()
    min((tmp_path / "logs").glob("*.db")).write_bytes(b"x" * 8192)
    assert "day 1" in texts(store)
    store.close()


def test_a_vanished_directory_loses_lines_but_breaks_nothing(
    tmp_path: Path, clock: FakeClock
) -> None:
    store = LogStore(tmp_path / "logs", clock, SMALL)
    invoke(store, 1, "a")
    store.flush()
    assert store.counts()[1]["store"] == 3
    store.close()


async def test_as_a_part_it_writes_what_is_left_when_cancelled(
    tmp_path: Path, clock: FakeClock
) -> None:
    store = LogStore(tmp_path / "logs", clock, SMALL)
    ready = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(store.run, ready.set)
        await ready.wait()
        invoke(store, 1, "last words")
        group.cancel_scope.cancel()
    assert "log-writer" not in {thread.name for thread in threading.enumerate()}
    again = LogStore(tmp_path / "logs", clock, SMALL)
    assert "last words" in texts(again)
    again.close()


_CHILD = """
import sys, time
from pathlib import Path
from pilotlight.kernel.system import SystemClock
from pilotlight.observability.logstore import LogStore, LogStoreLimits
from pilotlight.testing.log_facts import line
store = LogStore(Path(sys.argv[1]), SystemClock(), LogStoreLimits(disk_floor_bytes=0))
store.open()
number = 0
while True:
    store.line(line(f"number {number}"))
    number += 1
    if number % 100 == 0:
        store.flush()
        print(number, flush=True)
"""


def test_after_sigkill_everything_flushed_is_there_and_the_store_opens(
    tmp_path: Path, clock: FakeClock
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path / "logs")], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    flushed = 0
    for _ in range(5):
        flushed = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    store = LogStore(tmp_path / "logs", clock, SMALL)
    store.open()
    found = texts(store, limit=10_000)
    assert found[:flushed] == [f"number {number}" for number in range(flushed)]
    store.close()
