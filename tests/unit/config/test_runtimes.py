"""Discovery of interpreters, with real ones: this test's own, and scripts that lie."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.config import load_settings
from pilotlight.config.runtimes import HostRuntimes, minor_of, nearest, probe
from pilotlight.model.errors import ConfigurationError
from pilotlight.model.ids import RuntimeName

OWN = RuntimeName(f"python3.{sys.version_info[1]}")


@pytest.fixture
def only_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with no interpreter but ours."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def runtimes(tmp_path: Path, **variables: str) -> HostRuntimes:
    flags = {"data_dir": tmp_path / "data"}
    return HostRuntimes(load_settings(flags, environment=variables, directory=tmp_path))


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_interpreter_that_runs_us_is_always_found_and_is_no_venv(only_own: Path) -> None:
    found = runtimes(only_own).installed()[OWN]
    assert found.executable.is_absolute()
    assert found.executable == found.executable.resolve()
    assert found.prefix == Path(sys.base_prefix).resolve()
    assert found.version.startswith(f"3.{sys.version_info[1]}.")


def test_a_shim_is_resolved_by_asking_it(only_own: Path) -> None:
    shim = script(only_own / "shims" / OWN, f'exec {sys.executable} "$@"')
    found = probe(shim)
    assert found is not None
    assert found.executable != shim
    assert found.name == OWN


@pytest.mark.parametrize(
    "lie",
    [
        "exit 127",
        "echo",
        "printf 'pypy\\n3.11.1\\n/bin/sh\\n/\\n'",
        "printf 'cpython\\n2.7.18\\n/bin/sh\\n/\\n'",
        "printf 'cpython\\n3.8.1\\n/bin/sh\\n/\\n'",
        "printf 'cpython\\n3.x.1\\n/bin/sh\\n/\\n'",
        "printf 'cpython\\n3.11.1\\n/not/there\\n/\\n'",
        "printf '\\377\\376'",
    ],
)
def test_what_is_no_usable_interpreter_is_not_believed(tmp_path: Path, lie: str) -> None:
    assert probe(script(tmp_path / "python3.11", lie)) is None


def test_an_interpreter_is_asked_once_until_its_file_changes(only_own: Path) -> None:
    (only_own / "data").mkdir()
    count = only_own / "count"
    shim = script(only_own / "bin" / "python3.9", f'echo x >> {count}; exec {sys.executable} "$@"')
    for _ in range(3):
        runtimes(only_own).installed()
    assert count.read_text() == "x\n"
    script(shim, f'echo y >> {count}; exec {sys.executable} "$@"')
    stamp = shim.stat().st_mtime_ns + 10**9
    os.utime(shim, ns=(stamp, stamp))
    runtimes(only_own).installed()
    assert count.read_text() == "x\ny\n"


def test_an_added_interpreter_is_kept_and_comes_first(only_own: Path) -> None:
    shim = script(only_own / "mine" / "python", f'exec {sys.executable} "$@"')
    assert runtimes(only_own).add(shim).name == OWN
    assert runtimes(only_own).added == (shim,)
    assert runtimes(only_own).remove(str(shim)) == (shim,)
    assert runtimes(only_own).added == ()


def test_removing_by_name_and_what_was_never_added(only_own: Path) -> None:
    shim = script(only_own / "mine" / "python", f'exec {sys.executable} "$@"')
    runtimes(only_own).add(shim)
    assert runtimes(only_own).remove(OWN) == (shim,)
    with pytest.raises(ConfigurationError, match="added: none"):
        runtimes(only_own).remove(OWN)


def test_adding_something_else_says_how_to_check(only_own: Path) -> None:
    with pytest.raises(ConfigurationError, match="-I -S -c"):
        runtimes(only_own).add(script(only_own / "mine" / "python", "exit 1"))
    with pytest.raises(ConfigurationError):
        runtimes(only_own).add(only_own / "absent")


def test_a_damaged_file_is_reported_not_forgotten(only_own: Path) -> None:
    (only_own / "data").mkdir()
    (only_own / "data" / "runtimes.json").write_text('{"added": 3')
    with pytest.raises(ConfigurationError, match="runtime add"):
        runtimes(only_own)


def test_what_was_learnt_is_kept_only_where_there_is_a_data_directory(only_own: Path) -> None:
    runtimes(only_own).installed()
    assert not (only_own / "data").exists()
    (only_own / "data").mkdir()
    runtimes(only_own).installed()
    content = json.loads((only_own / "data" / "runtimes.json").read_text())
    assert content["added"] == []
    assert sys.executable in content["probed"]


def test_a_missing_version_is_substituted_only_where_allowed(only_own: Path) -> None:
    absent = RuntimeName("python3.13" if OWN != "python3.13" else "python3.9")
    choice = runtimes(only_own).choose(absent)
    assert choice is not None
    assert choice.substituted
    own = runtimes(only_own).choose(OWN)
    assert own is not None
    assert not own.substituted
    assert runtimes(only_own, PILOTLIGHT_RUNTIMES__SUBSTITUTE="no").choose(absent) is None
    assert runtimes(only_own).choose(RuntimeName("nodejs20.x")) is None


def test_of_two_equally_near_versions_the_newer_one_is_taken() -> None:
    names = [RuntimeName("python3.10"), RuntimeName("python3.12")]
    assert nearest(RuntimeName("python3.11"), names) == "python3.12"
    assert nearest(RuntimeName("python3.8"), names) == "python3.10"
    assert nearest(RuntimeName("python3.11"), []) is None


@given(st.integers(0, 30), st.sets(st.integers(0, 30), min_size=1))
def test_no_version_is_nearer_than_the_nearest(wanted: int, minors: set[int]) -> None:
    names = [RuntimeName(f"python3.{minor}") for minor in minors]
    found = minor_of(nearest(RuntimeName(f"python3.{wanted}"), names) or "")
    assert found is not None
    assert abs(found - wanted) == min(abs(minor - wanted) for minor in minors)


@pytest.mark.needs("root")
def test_root_runs_no_interpreter_that_another_user_wrote_down(only_own: Path) -> None:
    """The data directory is the service user's; root reads it at the next start."""
    data = only_own / "data"
    ran = only_own / "ran"
    named = script(only_own / "evil", f'touch {ran}; exec {sys.executable} "$@"')
    data.mkdir()
    file = data / "runtimes.json"
    file.write_text(json.dumps({"added": [str(named)], "probed": {}}))
    os.chown(file, 59700, 59700)
    assert runtimes(only_own).added == ()
    assert OWN in runtimes(only_own).installed()
    assert not ran.exists()
    assert file.stat().st_uid == 0, "renewed"


def test_a_link_in_place_of_the_draft_is_not_written_through(only_own: Path) -> None:
    data = only_own / "data"
    data.mkdir()
    victim = only_own / "victim"
    victim.write_text("precious")
    (data / f"runtimes.{os.getpid()}").symlink_to(victim)
    runtimes(only_own).installed()
    assert victim.read_text() == "precious"
    assert (data / "runtimes.json").is_file()


def test_a_probed_interpreter_is_not_told_the_root_key(
    only_own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTLIGHT_ROOT_SECRET_ACCESS_KEY", "never-told-to-anybody")
    seen = only_own / "seen"
    curious = script(only_own / "curious", f'env > {seen}; exec {sys.executable} "$@"')
    assert probe(curious) is not None
    assert "never-told" not in seen.read_text()
