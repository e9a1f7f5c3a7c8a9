"""Progress: one changing line on a terminal, else a line for each new step."""

from __future__ import annotations

import io
import sys

import pytest

from pilotlight.cli.output import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_each_step_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("packing") as step:
        for text in ("packing", "waiting", "waiting", "done"):
            step(text)
    said = capsys.readouterr()
    assert said.err.splitlines() == ["packing", "waiting", "done"]
    assert said.out == ""


def test_on_a_terminal_the_line_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("packing") as step:
        step("evil \x1b]0;title\x07")
    said = terminal.getvalue()
    assert said.startswith("\r\x1b[Kpacking")
    assert said.endswith("\r\x1b[K")
    assert "\x07" not in said
    assert "\n" not in said
