"""Root is given up for good, and our own files stay reachable."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pilotlight.roles.privileges import ServiceUser, closed_ancestors, give

PROGRAM = """
import json, os, sys
from pathlib import Path
from pilotlight.roles import privileges
data = Path(sys.argv[1])
user = privileges.ServiceUser(64123, 64124)
privileges.open_way([data, Path(sys.prefix), Path(sys.base_prefix), Path(privileges.__file__).parents[2]])
privileges.give(data, user)
privileges.drop(user)
(data / "mine").write_text("x")
import sqlite3, ssl, email.mime.text  # the interpreter's own files can still be read
def attempt(path):
    try:
        return sorted(os.listdir(path))
    except OSError as exc:
        return exc.strerror
status = Path("/proc/self/status").read_text()
print(json.dumps({
    "ids": os.getresuid() + os.getresgid(), "groups": os.getgroups(),
    "capabilities": privileges.capabilities(), "no_new_privs": "NoNewPrivs:\\t1" in status,
    "fds": bool(os.listdir("/proc/self/fd")), "neighbour": attempt(data.parent / "neighbour"),
}))
"""


@pytest.mark.needs("root")
def test_the_service_user_has_nothing_but_the_data_directory(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    data, neighbour = closed / "data", closed / "neighbour"
    for folder in (closed, data, neighbour):
        folder.mkdir(mode=0o700)
    (data / "kept").write_text("kept")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(data)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["ids"] == [64123] * 3 + [64124] * 3
    assert seen["groups"] == []
    assert set(seen["capabilities"].values()) == {0}
    assert seen["no_new_privs"]
    assert seen["fds"]
    assert isinstance(seen["neighbour"], str), "a closed directory was opened"
    assert (data / "mine").read_text() == "x", "the host sees the same data directory"
    assert (data / "kept").stat().st_uid == 64123
    assert oct(closed.stat().st_mode)[-3:] == "700", "permissions of the host were changed"
    assert str(closed) not in Path("/proc/self/mountinfo").read_text()


def test_the_outermost_closed_directory_stands_for_all_below(tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    paths = [outer / "inner" / "a", outer / "inner" / "a" / "b", outer / "c"]
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    closed = [f for f in tmp_path.parents if not f.stat().st_mode & 0o001]
    tmp_path.chmod(0o700)
    (outer / "inner").chmod(0o700)
    found = closed_ancestors(paths)
    assert list(found) == [closed[-1] if closed else tmp_path]
    assert set(next(iter(found.values()))) == {paths[0], paths[2]}


@pytest.mark.needs("root")
def test_giving_follows_no_link_and_keeps_what_root_needs(tmp_path: Path) -> None:
    """A service user that was taken over prepares its directory for the next start by root."""
    data, outside = tmp_path / "data", tmp_path / "outside"
    (data / "sandbox").mkdir(parents=True)
    outside.mkdir()
    victims = [outside / "linked", outside / "named", outside / "inside"]
    for victim in victims:
        victim.write_text("root's")
    (data / "soft").symlink_to(victims[0])
    (data / "hard").hardlink_to(victims[1])
    (data / "folder").symlink_to(outside)
    (data / "deep").mkdir()
    (data / "deep" / "sandbox").write_text("not the launcher's")
    give(data, ServiceUser(64123, 64124), frozenset({"sandbox"}))
    assert [v.stat().st_uid for v in (*victims, outside)] == [0] * 4
    assert (data / "sandbox").stat().st_uid == 0
    assert (data / "deep" / "sandbox").stat().st_uid == 64123
    assert data.stat().st_uid == 64123
