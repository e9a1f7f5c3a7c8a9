"""``pilotlight doctor`` on this host: a real platform, real sandboxes, and nothing left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pilotlight.testing.client import isolation_arguments
from pilotlight.testing.platform import eventually, process_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]
COMMAND = [sys.executable, "-m", "pilotlight", "doctor", "--json", *isolation_arguments()]


def leftovers(folder: Path) -> list[str]:
    """Files of a proof, and processes that were started for it."""
    found = [str(path) for path in folder.iterdir()]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in command:
                found.append(command.decode(errors="replace"))
    return found


@pytest.fixture
def scratch(tmp_path: Path, variables: dict[str, str]) -> dict[str, str]:
    """Variables with a temporary directory of the test's own."""
    (tmp_path / "scratch").mkdir()
    return variables | {
        "TMPDIR": str(tmp_path / "scratch"),
        "PILOTLIGHT_ENDPOINT_URL": "http://127.0.0.1:9",  # the probes must not go to a user's server
    }


def test_every_wall_is_proved_closed(scratch: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        COMMAND, env=scratch, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["given"]
    assert report["proved"]
    verdicts = {probe["name"]: probe["verdict"] for probe in report["probes"]}
    assert len(verdicts) == 15
    if os.geteuid() == 0:
        assert set(verdicts.values()) == {"closed"}
    assert "open" not in verdicts.values()
    assert report["cold_start"].startswith(("blank", "fork"))
    assert leftovers(tmp_path / "scratch") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_proof_leaves_nothing(
    scratch: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        COMMAND, env=scratch, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    for _ in eventually(20):
        if len(process_tree(process.pid)) > 2:  # the platform and its launcher are there
            break
    process.send_signal(number)
    said = process.communicate(timeout=30)[0].decode()
    assert process.returncode in {128 + number, 130}
    assert "Traceback" not in said
    for _ in eventually(20):
        if not leftovers(tmp_path / "scratch"):
            break
