"""From an empty folder to a running function and back, through the command line alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilotlight.testing.platform import Platform, eventually

Cli = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def hello(cli: Cli, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A deployed function of ``pilotlight init``; its folder and its name are the same."""
    name = "cli-" + "".join(c if c.isalnum() else "-" for c in request.node.name)[:40].strip("-")
    assert cli_init(tmp_path, name) == 0
    deployed = cli("deploy", name)
    assert deployed.returncode == 0, deployed.stderr
    yield name
    cli("delete", name, "--yes")


def cli_init(folder: Path, name: str) -> int:
    command = [sys.executable, "-m", "pilotlight", "init", name]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode


def test_a_new_function_is_deployed_invoked_logged_and_deleted(cli: Cli, hello: str) -> None:
    cold = cli("invoke", hello, "--payload", f"@{hello}/event.json", "--log")
    assert cold.returncode == 0, cold.stderr
    result = json.loads(cold.stdout)
    assert result["message"] == "Hello, Ada!"
    assert "cold start, init" in cold.stderr
    warm = cli("invoke", hello, "--payload", "-", "--log", stdin='{"name": "Bob"}')
    assert json.loads(warm.stdout)["message"] == "Hello, Bob!"
    assert "warm; handler" in warm.stderr

    logs = cli("logs", hello, "--request-id", result["request_id"]).stdout.splitlines()
    texts = [line.split("  ", 1)[1] for line in logs]
    assert texts[0] == f"START RequestId: {result['request_id']} Version: $LATEST"
    assert texts[1] == "greeting Ada"
    assert texts[2] == f"END RequestId: {result['request_id']}"
    assert texts[3].startswith(f"REPORT RequestId: {result['request_id']}\tDuration: ")
    assert "greeting Bob" in cli("logs", hello, "--grep", "greeting bob").stdout

    assert hello in {row["FunctionName"] for row in json.loads(cli("ls", "--json").stdout)}
    described = json.loads(cli("describe", hello, "--json").stdout)
    assert described["Configuration"]["State"] == "Active"
    assert described["Environments"]
    where = f"{described['FunctionUrl']}?name=Eve"
    with urllib.request.urlopen(where, timeout=20) as answer:  # noqa: S310  (our own server)
        assert json.load(answer)["message"] == "Hello, Eve!"

    assert cli("delete", hello, "--yes").returncode == 0
    gone = cli("invoke", hello)
    assert gone.returncode == 1
    assert "Function not found" in gone.stderr
    assert "greeting Ada" in cli("logs", hello).stdout, "the log outlives its function"


def test_a_changed_function_runs_its_new_code_after_deploy(
    cli: Cli, hello: str, tmp_path: Path
) -> None:
    assert cli("invoke", hello).returncode == 0
    (tmp_path / hello / "app.py").write_text("def handler(event, context):\n    return 'new'\n")
    assert cli("deploy", hello).returncode == 0
    assert cli("invoke", hello).stdout == '"new"\n'


def test_a_function_s_error_exits_1_and_is_on_stderr(cli: Cli, hello: str, tmp_path: Path) -> None:
    source = "def handler(event, context):\n    raise ValueError('not today')\n"
    (tmp_path / hello / "app.py").write_text(source)
    assert cli("deploy", hello).returncode == 0
    failed = cli("invoke", hello)
    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "error: ValueError: not today" in failed.stderr
    assert "/var/task/app.py" in failed.stderr


def test_requirements_are_there_when_the_function_runs(
    cli: Cli, hello: str, tmp_path: Path
) -> None:
    folder = tmp_path / hello
    wheel(tmp_path)
    (folder / "requirements.txt").write_text(f"--find-links {tmp_path}\ntinypackage\n")
    source = "import tinypackage\ndef handler(event, context):\n    return tinypackage.VALUE\n"
    (folder / "app.py").write_text(source)
    deployed = cli("deploy", hello)
    assert deployed.returncode == 0, deployed.stderr
    assert "installing" in deployed.stderr
    assert cli("invoke", hello).stdout == "42\n"
    again = cli("deploy", hello, "--json")
    assert "installing" not in again.stderr  # kept by the hash of the requirements
    assert json.loads(again.stdout)["code_sha256"]


def test_describe_tells_isolation_and_the_last_cold_start(cli: Cli, hello: str) -> None:
    described = json.loads(cli("describe", hello, "--json").stdout)
    assert described["LastColdStart"] == {}
    assert cli("invoke", hello).returncode == 0
    for _ in eventually(10):  # the log is written behind the answer
        described = json.loads(cli("describe", hello, "--json").stdout)
        if described["LastColdStart"]:
            break
    assert described["LastColdStart"]["start"] in {"blank", "fork"}
    assert described["LastColdStart"]["init"].endswith(" ms")
    assert described["Isolation"] == "container (the server's default)"
    shown = cli("describe", hello).stdout
    assert "Cold start:   start " in shown
    assert "Isolation:    container" in shown


def test_exported_variables_are_all_a_client_needs(
    cli: Cli, hello: str, variables: dict[str, str]
) -> None:
    exports = json.loads(cli("env", "--json").stdout)
    clean = {k: v for k, v in variables.items() if not k.startswith("PILOTLIGHT_")}
    listed = cli("ls", "--json", env=clean | exports)
    assert listed.returncode == 0, listed.stderr
    assert hello in listed.stdout


def test_wrong_keys_are_refused_with_a_way_out(cli: Cli, platform: Platform) -> None:
    exports = json.loads(cli("env", "--json").stdout)
    refused = cli("ls", env=exports | {"AWS_SECRET_ACCESS_KEY": "x" * 40, "PATH": "/usr/bin:/bin"})
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "InvalidSignatureException" in refused.stderr
    assert "AWS_ACCESS_KEY_ID" in refused.stderr
    assert platform.process.poll() is None


def test_logs_follow_until_interrupted(
    cli: Cli, hello: str, platform: Platform, variables: dict[str, str], tmp_path: Path
) -> None:
    command = [
        sys.executable, "-m", "pilotlight", "logs", hello, "-f",
        "--data-dir", str(platform.data_dir),
    ]  # fmt: skip
    with subprocess.Popen(
        command, env=variables, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as follower:
        try:
            assert cli("invoke", hello, "-p", '{"name": "follower"}').returncode == 0
            assert follower.stdout is not None
            for line in follower.stdout:
                if "greeting follower" in line:
                    break
            follower.send_signal(signal.SIGINT)
            assert follower.wait(20) == 130
        finally:
            follower.kill()


def wheel(folder: Path) -> None:
    """The smallest wheel that pip takes."""
    info = "tinypackage-1.0.dist-info"
    with zipfile.ZipFile(folder / "tinypackage-1.0-py3-none-any.whl", "w") as package:
        package.writestr("tinypackage.py", "VALUE = 42\n")
        package.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinypackage\nVersion: 1.0\n"
        )
        package.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        package.writestr(f"{info}/RECORD", "")
