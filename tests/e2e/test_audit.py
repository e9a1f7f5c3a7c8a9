"""The audit log of a real platform: what was called is in its file after an orderly end."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from pilotlight.testing.client import isolation_arguments, lambda_client
from pilotlight.testing.platform import running_platform


@pytest.mark.timeout(120)
def test_calls_are_in_the_file_after_an_orderly_end(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_platform(data, *isolation_arguments()) as platform:
        api = lambda_client(platform)
        for _ in range(20):
            api.list_functions()
        assert platform.stop() == 0
    path = data / "audit.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with sqlite3.connect(path) as connection:
        found = connection.execute(
            "SELECT operation, status, source FROM entries WHERE is_proven ORDER BY id"
        ).fetchall()
    connection.close()
    assert found[-20:] == [("ListFunctions", 200, "127.0.0.1")] * 20
