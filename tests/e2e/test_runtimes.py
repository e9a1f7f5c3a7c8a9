"""Every interpreter of the machine runs functions; one that is missing is replaced, or told about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilotlight.testing.client import (
    create,
    invoke,
    isolation_arguments,
    lambda_client,
    zipped,
)
from pilotlight.testing.platform import ACCESS_KEY, SECRET_KEY, Platform, running_platform

pytestmark = pytest.mark.timeout(120)

SOURCE = """
import sys


class Spilt(Exception):
    pass


def handler(event, context):
    if event == "fail":
        raise Spilt("milk \\u2028 \\N{FIRE}")
    return {"version": list(sys.version_info[:3]), "event": event, "number": 1e22}
"""
ESCAPES = {"plain": "a", 'quote"': "\\ \n\t\x00", "far": "ä \u2028 \U0001f525", "deep": [[[None]]]}
OWN = f"python3.{sys.version_info[1]}"


def command(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pilotlight", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def plain() -> dict[str, str]:
    """The variables of a user who set nothing but the keys of the platform."""
    ours = ("AWS_", "PILOTLIGHT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {
        "PILOTLIGHT_ROOT_ACCESS_KEY_ID": ACCESS_KEY,
        "PILOTLIGHT_ROOT_SECRET_ACCESS_KEY": SECRET_KEY,
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture(scope="module")
def machine(platform: Platform, plain: dict[str, str]) -> dict[str, dict[str, str]]:
    """What ``pilotlight runtime ls`` shows, by name."""
    listed = command(
        "runtime", "ls", "--json", "--data-dir", str(platform.data_dir), environment=plain
    )
    assert listed.returncode == 0, listed.stderr
    return {one["name"]: one for one in json.loads(listed.stdout)}


@pytest.mark.parametrize("minor", range(9, 14))
def test_each_interpreter_runs_functions(
    minor: int, machine: dict[str, dict[str, str]], api: Any, deploy: Any
) -> None:
    name = f"python3.{minor}"
    if name not in machine:
        pytest.skip(f"this machine has no {name}")
    function = deploy(SOURCE, Runtime=name)
    result, answer = invoke(api, function, ESCAPES)
    assert "FunctionError" not in answer, result
    assert ".".join(map(str, result["version"])) == machine[name]["version"]
    assert result["event"] == ESCAPES
    assert result["number"] == 1e22
    raw = api.invoke(FunctionName=function, Payload=json.dumps(ESCAPES))["Payload"].read()
    # Lambda's runtimes escape what is not ASCII up to python3.11, and send UTF-8 from 3.12 on.
    assert (b"\\u00e4" in raw) == (minor < 12)
    assert ("ä".encode() in raw) == (minor >= 12)
    failed, answer = invoke(api, function, "fail")
    assert answer["FunctionError"] == "Unhandled"
    assert failed["errorType"] == "Spilt"
    assert failed["errorMessage"] == "milk \u2028 \N{FIRE}"
    assert failed["requestId"] == answer["ResponseMetadata"]["RequestId"]
    assert failed["stackTrace"][-1].startswith('  File "/var/task/app.py", line 11, in handler')


def test_our_own_interpreter_is_always_there(machine: dict[str, dict[str, str]]) -> None:
    assert OWN in machine


def test_a_missing_version_is_replaced_on_a_laptop_and_everybody_says_so(
    platform: Platform,
    machine: dict[str, dict[str, str]],
    api: Any,
    deploy: Any,
    plain: dict[str, str],
) -> None:
    nearest = max(machine, key=lambda name: int(name.rpartition(".")[2]))
    function = deploy(SOURCE, Runtime="python3.14")
    result, _ = invoke(api, function, {})
    assert f"python3.{result['version'][1]}" == nearest
    where = ("--data-dir", str(platform.data_dir))
    shown = f"python3.14 (on {nearest})"
    listed = command("ls", *where, environment=plain).stdout
    assert any(function in line and shown in line for line in listed.splitlines())
    assert shown in command("describe", function, *where, environment=plain).stdout
    log = command("logs", function, *where, environment=plain).stdout
    started = f"INIT_START Runtime Version: {nearest} ({machine[nearest]['version']})"
    assert f"{started}\tSubstituted For: python3.14" in log


def test_another_language_is_never_replaced(
    platform: Platform, api: Any, deploy: Any, plain: dict[str, str]
) -> None:
    function = deploy({"app.js": "exports.handler = async () => 1"}, Runtime="nodejs20.x")
    with pytest.raises(ClientError, match="Pilotlight runs Python so far") as refused:
        invoke(api, function, {})
    assert refused.value.response["Error"]["Code"] == "InvalidRuntimeException"
    listed = command("ls", "--data-dir", str(platform.data_dir), environment=plain).stdout
    assert any(function in line and "(missing)" in line for line in listed.splitlines())


@pytest.fixture
def poor(plain: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A machine on which only our own interpreter is found, and which replaces nothing."""
    return plain | {
        "PATH": "/usr/sbin:/sbin",
        "HOME": str(tmp_path),
        "PILOTLIGHT_RUNTIMES__SUBSTITUTE": "false",
    }


def test_without_substitution_it_fails_clearly_until_the_runtime_is_added(
    poor: dict[str, str], plain: dict[str, str], machine: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    where = ("--data-dir", str(data))
    has = {
        one["name"]
        for one in json.loads(command("runtime", "ls", "--json", *where, environment=poor).stdout)
    }
    others = sorted(set(machine) - has)
    if not others:
        pytest.skip("this machine has no second interpreter")
    wanted = others[-1]
    changed = {name: poor[name] for name in ("PATH", "HOME", "PILOTLIGHT_RUNTIMES__SUBSTITUTE")}
    folder = tmp_path / "fn"
    made = command("init", str(folder), "--runtime", wanted, environment=plain)
    assert made.returncode == 0, made.stderr
    with running_platform(data, *isolation_arguments(), environment=changed):
        deployed = command("deploy", str(folder), *where, environment=plain)
        assert deployed.returncode == 0, deployed.stderr
        assert f"the server has no {wanted}: invocations will fail until it has" in deployed.stderr
        refused = command("invoke", "fn", *where, environment=plain)
        assert refused.returncode == 1
        assert "InvalidRuntimeException" in refused.stderr
        assert "pilotlight runtime add PATH" in refused.stderr
        added = command("runtime", "add", machine[wanted]["executable"], *where, environment=plain)
        assert added.returncode == 0, added.stderr
        assert "after its next start" in added.stderr
    with running_platform(data, *isolation_arguments(), environment=changed) as again:
        result = command("invoke", "fn", *where, environment=plain)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["python"] == machine[wanted]["version"]
        client = lambda_client(again)
        create(client, "other", zipped({"app.py": SOURCE}), Runtime="python3.14")
        with pytest.raises(ClientError, match=r"no runtime 'python3\.14'"):
            invoke(client, "other", {})
