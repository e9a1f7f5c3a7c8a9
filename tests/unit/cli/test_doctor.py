"""``pilotlight doctor``: tables, JSON, what to do, and when it is content."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilotlight.cli import proving
from pilotlight.cli.app import run
from pilotlight.cli.proving import Evidence
from pilotlight.dataplane.sandboxes.container import host
from pilotlight.roles import doctor
from pilotlight.roles.doctor import Finding

FINE = (Finding("kernel", ok=True, detail="Linux", is_required=True),)
NO_DISK = Finding("disk", ok=False, detail="in memory", remedy="e2fsprogs")
NO_MEMORY = Finding("memory", ok=False, detail="no cgroup", remedy="be root", is_required=True)
GOOD: dict[str, Any] = {"descriptors": []}
BAD: dict[str, Any] = {"descriptors": [5]}


class Host:
    """What this host is made to be; remembers what the proof did without."""

    def __init__(self) -> None:
        self.findings: tuple[Finding, ...] = FINE
        self.evidence = Evidence(answers=GOOD)
        self.without: frozenset[str] | None = None

    def gather(self, allow_missing: frozenset[str], _: object) -> Evidence:
        self.without = allow_missing
        return self.evidence


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setattr(doctor, "inspect_host", lambda: made.findings)
    monkeypatch.setattr(proving, "gather", made.gather)
    return made


def test_a_closed_host_is_content(here: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    said = capsys.readouterr()
    assert "descriptors   closed" in said.out
    assert "isolation container is given" in said.err
    assert here.without == frozenset()


def test_an_open_wall_fails(here: Host, capsys: pytest.CaptureFixture[str]) -> None:
    here.evidence = Evidence(answers=BAD)
    assert run(["doctor"]) == 1
    said = capsys.readouterr()
    assert "got through: descriptor 5" in said.out
    assert "OPEN: descriptors" in said.err


def test_without_memory_limits_the_rest_is_proved_and_up_would_refuse(
    here: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    here.findings = (NO_MEMORY,)
    assert run(["doctor"]) == 1
    said = capsys.readouterr()
    assert here.without == frozenset({"memory"})
    assert "memory: be root" in said.out
    assert "`pilotlight up` refuses: memory" in said.err
    assert run(["doctor", "--allow-missing", "memory"]) == 0
    assert "without: memory (you allowed that)" in capsys.readouterr().err


def test_what_is_not_required_is_told_and_does_not_fail(
    here: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    here.findings = (*FINE, NO_DISK)
    assert run(["doctor"]) == 0
    assert "disk: e2fsprogs" in capsys.readouterr().out


def test_a_proof_that_ended_early_is_no_proof(
    here: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    here.evidence = Evidence(answers=GOOD, failure="time ran out")
    assert run(["doctor", "--json"]) == 1
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["given"], report["proved"], report["failure"]) == (False, False, "time ran out")
    assert "not complete: time ran out" in said.err


@pytest.mark.usefixtures("here")
def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["isolation"] == "container"
    assert report["probes"][0] | {"detail": ""} == {
        "name": "descriptors",
        "verdict": "closed",
        "detail": "",
        "remedy": "",
    }
    assert report["host"][0]["name"] == "kernel"
    assert any("kernel" in line for line in report["not_tested"])


def test_quick_starts_nothing(here: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--quick"]) == 0
    said = capsys.readouterr()
    assert here.without is None
    assert "everything: nothing was started" in said.out
    assert "not proved" in said.err


def test_no_isolation_is_said_plainly(here: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--isolation", "process"]) == 0
    assert here.without is None
    assert "nothing is closed" in capsys.readouterr().err


def test_on_another_system_nothing_is_started(
    here: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    here.findings = host.inspect_host()
    assert run(["doctor"]) == 1
    assert here.without is None
    assert "virtual machine" in capsys.readouterr().out
