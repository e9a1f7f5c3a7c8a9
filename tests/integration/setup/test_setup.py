"""``scripts/setup`` and ``make up`` on machines that lack something; the machines are made up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from pilotlight.testing.platform import eventually

TOP = Path(__file__).resolve().parents[3]
TOOLS = ("sh", "dirname", "basename", "cat", "cmp", "cp", "rm", "mkdir", "chmod", "touch", "grep")

PYTHON = """#!/bin/sh
echo "python $*" >>"$MADE_UP_LOG"
case "$1 $2" in
"-c "*print*) echo 3.12 ;;
"-c "*) exit "${MADE_UP_OLD:-0}" ;;
"-m venv")
    [ -z "$MADE_UP_NO_VENV" ] || { mkdir -p "$3/bin"; exit 1; }
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip")
    case "$*" in
    *--editable*) touch .venv/bin/pilotlight && chmod +x .venv/bin/pilotlight ;;
    *-r\\ *) [ -z "$MADE_UP_SLOW" ] || { touch slow; exec sleep 30; } ;;
    esac ;;
esac
"""


@dataclass
class MadeUp:
    """A checkout, and the programs that the machine has."""

    top: Path
    programs: Path
    log: Path

    def program(self, name: str, text: str) -> Path:
        path = self.programs / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def variables(self, **more: str) -> dict[str, str]:
        return {"PATH": str(self.programs), "MADE_UP_LOG": str(self.log), **more}

    def setup(self, kind: str = "runtime", **more: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        return subprocess.run(
            [str(self.top / "scripts/setup"), kind],
            env=self.variables(**more),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def did(self, what: str) -> bool:
        return what in self.log.read_text()


@pytest.fixture
def here(tmp_path: Path) -> MadeUp:
    """A Linux with Python and nothing else, in a folder whose name has blanks and umlauts."""
    top = tmp_path / "mein Ördner (1)"
    (top / "scripts").mkdir(parents=True)
    shutil.copy(TOP / "scripts/setup", top / "scripts/setup")
    (top / "requirements").mkdir()
    for name in ("requirements/runtime.lock", "requirements/dev.lock", "pyproject.toml"):
        (top / name).write_text(f"# {name}\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (programs / tool).symlink_to(found)
    made = MadeUp(top, programs, tmp_path / "log")
    made.program("python3", PYTHON)
    made.program("uname", "#!/bin/sh\necho Linux\n")
    made.program("id", "#!/bin/sh\necho 1000\n")
    sleep = shutil.which("sleep")
    assert sleep is not None
    (programs / "sleep").symlink_to(sleep)
    return made


def test_a_fresh_checkout_is_set_up_and_then_left_alone(here: MadeUp) -> None:
    first = here.setup()
    assert first.returncode == 0, first.stderr
    assert first.stdout == ""
    assert here.did("-m venv .venv")
    assert here.did("--require-hashes -r requirements/runtime.lock")
    assert here.did("--editable .")
    again = here.setup()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert not here.did("venv")
    assert not here.did("install")


def test_changed_locks_are_installed_again(here: MadeUp) -> None:
    here.setup()
    (here.top / "requirements/runtime.lock").write_text("# newer\n")
    assert here.setup().returncode == 0
    assert here.did("-r requirements/runtime.lock")
    assert not here.did("-m venv")


def test_a_checkout_that_was_moved_gets_a_new_environment(here: MadeUp) -> None:
    here.setup()
    moved = here.top.rename(here.top.with_name("elsewhere"))
    there = MadeUp(moved, here.programs, here.log)
    assert there.setup().returncode == 0
    assert there.did("-m venv")


def test_an_interrupted_set_up_is_completed_by_the_next(here: MadeUp) -> None:
    process = subprocess.Popen(
        [str(here.top / "scripts/setup"), "runtime"],
        env=here.variables(MADE_UP_SLOW="yes"),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for _ in eventually(10):
        if (here.top / "slow").exists():
            break
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(10) != 0
    assert not (here.top / ".venv/bin/pilotlight").exists()
    assert here.setup().returncode == 0
    assert here.did("-r requirements/runtime.lock")
    assert (here.top / ".venv/bin/pilotlight").exists()


def test_half_an_environment_is_made_anew(here: MadeUp) -> None:
    (here.top / ".venv/bin").mkdir(parents=True)
    (here.top / ".venv/bin/python").write_text("")
    assert here.setup().returncode == 0
    assert here.did("-m venv")


def test_debian_without_venv_names_the_package(here: MadeUp) -> None:
    here.program("dpkg-query", "#!/bin/sh\nexit 1\n")
    done = here.setup(MADE_UP_NO_VENV="yes")
    assert done.returncode == 1
    assert "apt-get install python3.12-venv" in done.stderr
    assert "run make again" in done.stderr
    assert not (here.top / ".venv").exists()


def test_debian_without_venv_gets_it_from_root(here: MadeUp) -> None:
    here.program("dpkg-query", "#!/bin/sh\nexit 1\n")
    here.program("id", "#!/bin/sh\necho 0\n")
    fixed = PYTHON.replace('[ -z "$MADE_UP_NO_VENV" ]', '[ -e "$MADE_UP_LOG.apt" ]')
    here.program("python3", fixed)
    here.program("apt-get", '#!/bin/sh\necho "apt $*" >>"$MADE_UP_LOG"\ntouch "$MADE_UP_LOG.apt"\n')
    done = here.setup()
    assert done.returncode == 0, done.stderr
    assert here.did("apt install -y -qq --no-install-recommends python3.12-venv")


def test_a_python_without_venv_and_no_apt_is_told_plainly(here: MadeUp) -> None:
    done = here.setup(MADE_UP_NO_VENV="yes")
    assert done.returncode == 1
    assert "cannot make virtual environments: install python3.12-venv" in done.stderr


def test_an_old_python_is_refused(here: MadeUp) -> None:
    done = here.setup(MADE_UP_OLD="1")
    assert done.returncode == 1
    assert "needs Python 3.11 or later" in done.stderr
    assert "PYTHON=/path/to/python3" in done.stderr


def test_a_newer_python_beside_an_old_one_is_found(here: MadeUp) -> None:
    here.program("python3.12", PYTHON)
    here.program("python3", "#!/bin/sh\nexit 1\n")
    done = here.setup()
    assert done.returncode == 0, done.stderr
    assert "creating .venv with" in done.stderr
    assert "python3.12" in done.stderr


def test_a_named_python_is_used_or_refused(here: MadeUp) -> None:
    named = here.program("my-python", PYTHON)
    done = here.setup(PYTHON=str(named))
    assert f"creating .venv with {named}" in done.stderr
    shutil.rmtree(here.top / ".venv")
    wrong = here.setup(PYTHON="/nowhere/python3")
    assert wrong.returncode == 1
    assert "PYTHON=/nowhere/python3 is not a Python 3.11" in wrong.stderr


def test_other_systems_get_a_recipe(here: MadeUp) -> None:
    here.program("uname", "#!/bin/sh\necho Darwin\n")
    done = here.setup()
    assert done.returncode == 1
    assert "limactl start template://debian" in done.stderr


def test_missing_packages_of_the_tests_are_told_and_do_not_stop(here: MadeUp) -> None:
    here.program("dpkg-query", "#!/bin/sh\ncase $* in *wrk*) exit 1 ;; esac\necho 'install ok'\n")
    done = here.setup("dev")
    assert done.returncode == 0, done.stderr
    assert "missing packages: wrk" in done.stderr
    assert "skipped" in done.stderr
    assert here.did("-r requirements/dev.lock")


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_real_thing_twice(tmp_path: Path) -> None:
    """A fresh clone, the real installer, the demonstration, and a clean end; then again."""
    top = tmp_path / "Pilotlight ü"
    subprocess.run(["git", "clone", "-q", str(TOP), str(top)], check=True, timeout=60)
    arguments = "ARGS=--listen 127.0.0.1:0 --url-listen 127.0.0.1:0"
    arguments += "" if os.geteuid() == 0 else " --allow-missing memory"
    variables = {n: v for n, v in os.environ.items() if not n.startswith(("PILOTLIGHT_", "AWS_"))}
    for _ in range(2):
        log = tmp_path / "up.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                ["make", "up", arguments], cwd=top, stdout=out, stderr=subprocess.STDOUT,
                env=variables, start_new_session=True,
            )  # fmt: skip
        for _ in eventually(300, 0.2):
            assert process.poll() is None, log.read_text()
            if "Ctrl-C ends it." in log.read_text():
                break
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) in {0, -signal.SIGINT}  # make ends by the signal it got
        said = log.read_text()
        assert "Traceback" not in said
        assert "cold: " in said
        assert "warm: " in said
