"""The command as its users run it: a process of its own, with the variables of a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotlight.testing.platform import ACCESS_KEY, SECRET_KEY, Platform

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def variables() -> dict[str, str]:
    """What the test has, without anything that says where a server is, and with its keys."""
    ours = ("AWS_", "PILOTLIGHT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {
        "PILOTLIGHT_ROOT_ACCESS_KEY_ID": ACCESS_KEY,
        "PILOTLIGHT_ROOT_SECRET_ACCESS_KEY": SECRET_KEY,
        "PIP_NO_INDEX": "1",
    }


@pytest.fixture
def cli(platform: Platform, variables: dict[str, str], tmp_path: Path) -> Cli:
    """Run a command against the platform of the session; checks nothing."""

    def one(
        *arguments: str, env: dict[str, str] | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pilotlight", *arguments]
        if env is None:
            command += ["--data-dir", str(platform.data_dir)]
        return subprocess.run(
            command,
            env=env or variables,
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return one
