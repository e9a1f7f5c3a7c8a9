"""Installs a function's requirements into a folder of its own, once for each set of them."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from pilotlight.cli.errors import CommandFailed
from pilotlight.cli.output import note
from pilotlight.model.ids import RuntimeName
from pilotlight.ports.runtimes import HostRuntime

BUILD_FOLDER = ".build"
PATIENCE_S = 1800
_LOCAL = re.compile(
    r"^\s*(-r|-c|-e|--requirement|--constraint|--editable|\.|/|file:|\S+\s*@\s*file:)"
)


def installed(
    project: Path, requirements: Path, *, wanted: str, runtime: HostRuntime | None
) -> Path | None:
    """Return the folder with everything installed; None where nothing is required.

    Kept in ``.build`` of the project by the hash of the requirements and the runtime; a set that
    names local files is installed anew each time.

    Args:
        project: folder of the function; relative paths in the requirements start here.
        requirements: the requirements file.
        wanted: runtime of the function.
        runtime: the interpreter that will run it, None where this machine has none.

    Raises:
        CommandFailed: the file cannot be read, there is no pip, or pip failed.
    """
    lines = _lines(requirements)
    if not lines:
        return None
    version = runtime.name if runtime else wanted
    machine = f"{version} {platform.machine()} {platform.libc_ver()[0]}"
    digest = hashlib.sha256("\n".join([machine, *lines]).encode()).hexdigest()[:16]
    folder = project / BUILD_FOLDER / digest
    if folder.exists() and not any(_LOCAL.match(line) for line in lines):
        return folder
    draft = folder.with_name(f"{digest}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.parent.mkdir(parents=True, exist_ok=True)
    try:
        _install(_command(version, runtime), draft, requirements, project)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _lines(requirements: Path) -> list[str]:
    """What is required, without comments and blank lines."""
    if not requirements.exists():
        return []
    try:
        text = requirements.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise CommandFailed(f"{requirements} cannot be read: {exc}") from exc
    stripped = (line.split(" #")[0].strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def _command(version: str, runtime: HostRuntime | None) -> list[str]:
    """The pip to use: the runtime's own, else ours, told to fetch wheels for that version.

    Raises:
        CommandFailed: neither has pip.
    """
    if runtime is not None and _has_pip(str(runtime.executable)):
        return [str(runtime.executable), "-m", "pip", "install"]
    own = [sys.executable, "-m", "pip", "install"]
    if not _has_pip(sys.executable):
        raise CommandFailed(
            "There is no pip to install the requirements with.",
            f"Get it with: {sys.executable} -m ensurepip (on Debian: apt install python3-pip)",
        )
    if runtime is not None and runtime.name == RuntimeName(f"python3.{sys.version_info[1]}"):
        return own
    number = version.removeprefix("python")
    return [*own, "--python-version", number, "--only-binary=:all:", "--implementation", "cp"]


def _has_pip(python: str) -> bool:
    probe = [python, "-I", "-c", "import pip"]
    return subprocess.run(probe, check=False, capture_output=True, timeout=60).returncode == 0


def _install(pip: list[str], target: Path, requirements: Path, project: Path) -> None:
    command = [
        *pip, "--target", str(target.absolute()), "--requirement", str(requirements.absolute()),
        "--disable-pip-version-check", "--no-input", "--no-compile", "--no-warn-conflicts",
    ]  # fmt: skip
    note(f"installing {requirements}")
    try:
        done = subprocess.run(
            command, check=False, stdout=sys.stderr, cwd=project, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired as exc:
        raise CommandFailed(f"pip did not finish within {PATIENCE_S} s.") from exc
    if done.returncode != 0:
        raise CommandFailed(
            f"The requirements in {requirements} could not be installed; pip says above why."
        )
    target.mkdir(exist_ok=True)
