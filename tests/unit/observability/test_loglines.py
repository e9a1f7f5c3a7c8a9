"""The platform's lines, character by character."""

from __future__ import annotations

import json

from pilotlight.model import loglines
from pilotlight.model.loglines import facts_of
from pilotlight.testing.log_facts import NOON, report, request


def test_start_and_end_are_lambda_s() -> None:
    assert loglines.start_line(request(1), "$LATEST") == (
        "START RequestId: 00000000-0000-4000-8000-000000000001 Version: $LATEST"
    )
    assert loglines.end_line(request(1)) == ("END RequestId: 00000000-0000-4000-8000-000000000001")


def test_report_of_a_warm_invocation_ends_with_a_tabulator() -> None:
    assert loglines.report_line(report()) == (
        "REPORT RequestId: 00000000-0000-4000-8000-000000000001\tDuration: 1.23 ms\t"
        "Billed Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 30 MB\t"
    )


def test_report_of_a_cold_invocation_has_its_init_duration() -> None:
    assert loglines.report_line(report(init_ms=100.0)).endswith("\tInit Duration: 100.00 ms\t")


def test_report_names_the_status_of_what_the_platform_ended() -> None:
    assert loglines.report_line(report(outcome="timeout")).endswith("\tStatus: timeout\t")
    assert loglines.report_line(report(outcome="memory")).endswith(
        "\tStatus: error\tError Type: Runtime.OutOfMemory\t"
    )
    assert loglines.report_line(report(outcome="crash")).endswith(
        "\tStatus: error\tError Type: Runtime.ExitError\t"
    )
    assert "Status" not in loglines.report_line(report(outcome="error"))


def test_init_start_shows_a_substitute() -> None:
    assert loglines.init_start_line("python3.11 (3.11.7)") == (
        "INIT_START Runtime Version: python3.11 (3.11.7)"
    )
    line = loglines.init_start_line("python3.11 (3.11.7)", wanted="python3.12")
    assert line.endswith("\tSubstituted For: python3.12")


def test_cold_start_lists_the_phases_in_their_order() -> None:
    text = loglines.cold_start_text("r", "fork", {"init": 1000, "other": 1, "queue": 250})
    assert text == (
        "COLD_START RequestId: r Start: fork\tQueue: 0.25 ms\tInit: 1.00 ms\tOther: 0.00 ms"
    )


def test_json_lines_are_events() -> None:
    start = json.loads(loglines.start_json("r", "3", NOON))
    assert start == {
        "time": "2026-11-24T12:00:00.000Z",
        "type": "platform.start",
        "record": {"requestId": "r", "version": "3"},
    }
    made = json.loads(loglines.report_json(facts_of(report(outcome="memory", init_ms=5)), NOON))
    assert made["record"]["status"] == "error"
    assert made["record"]["errorType"] == "Runtime.OutOfMemory"
    assert made["record"]["metrics"]["initDurationMs"] == 5
