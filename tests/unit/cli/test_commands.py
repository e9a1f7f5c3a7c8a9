"""Commands against a server that speaks the API: results, diagnosis, exit codes."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilotlight.cli.app import COMMANDS, run
from pilotlight.cli.describe import cold_start_phases

Run = Callable[..., int]
Capture = pytest.CaptureFixture[str]

TAIL = (
    "START RequestId: r Version: $LATEST\nhello\nEND RequestId: r\n"
    "REPORT RequestId: r\tDuration: 1.50 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\t"
    "Max Memory Used: 30 MB\tInit Duration: 20.00 ms\t\n"
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: Capture) -> None:
    assert run([command, "--help"]) == 0
    assert "Usage: pilotlight" in capsys.readouterr().out


GROUPS = {"runtime": "ls", "account": "ls", "key": "ls"}
"""Commands of commands, with one of theirs."""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json(command: str, capsys: Capture) -> None:
    run([command, *([GROUPS[command]] if command in GROUPS else []), "--help"])
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong", [["nonsense"], ["invoke"], ["ls", "--nonsense"], ["invoke", "-p"]]
)
def test_wrong_usage_exits_2_and_says_so_on_stderr(wrong: list[str], capsys: Capture) -> None:
    assert run(wrong) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Error:" in said.err


def test_without_a_server_the_error_says_how_to_start_one(capsys: Capture) -> None:
    assert run(["ls", "--endpoint", "http://127.0.0.1:1"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "No server answers at http://127.0.0.1:1" in said.err
    assert "pilotlight up" in said.err


def test_wrong_keys_name_their_origin(cli: Run, server: Any, capsys: Capture) -> None:
    server.refuse = server.refusal(403, "InvalidSignatureException", "The signature is wrong")
    assert cli("ls") == 1
    said = capsys.readouterr().err
    assert "InvalidSignatureException: The signature is wrong" in said
    assert "PILOTLIGHT_ROOT_ACCESS_KEY_ID" in said
    assert "--data-dir" in said


def test_requests_are_signed(cli: Run, server: Any) -> None:
    cli("ls")
    authorization = server.last_headers["authorization"]
    assert authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/")
    assert "/us-east-1/lambda/aws4_request" in authorization


def test_ls_shows_all_pages(cli: Run, server: Any, capsys: Capture) -> None:
    for number in range(5):
        server.store(f"f{number}", {"Runtime": "nodejs20.x", "Timeout": 3})
    assert cli("ls", "--json") == 0
    assert [f["FunctionName"] for f in json.loads(capsys.readouterr().out)] == [
        f"f{number}" for number in range(5)
    ]
    assert cli("ls") == 0
    assert "nodejs20.x (missing)" in capsys.readouterr().out


def test_ls_without_functions_says_how_to_make_one(cli: Run, capsys: Capture) -> None:
    assert cli("ls") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "pilotlight init" in said.err


def test_invoke_prints_the_result_alone(cli: Run, server: Any, capsys: Capture) -> None:
    server.store("hello", {})
    assert cli("invoke", "hello", "--payload", '{"a": 1}', "-q", "7") == 0
    said = capsys.readouterr()
    assert said.out == '{"ok": true}\n'
    assert said.err == ""
    assert server.last_body == b'{"a": 1}'
    assert server.last_query == {"Qualifier": "7"}


def test_invoke_takes_the_event_from_a_file(
    cli: Run, server: Any, tmp_path: Path, capsys: Capture
) -> None:
    server.store("hello", {})
    (tmp_path / "event.json").write_text("[1]")
    assert cli("invoke", "hello", "-p", "@event.json") == 0
    assert server.last_body == b"[1]"
    assert cli("invoke", "hello", "-p", "@absent.json") == 1
    assert "absent.json cannot be read" in capsys.readouterr().err


def test_invoke_with_log_shows_the_tail_and_the_timing(
    cli: Run, server: Any, capsys: Capture
) -> None:
    server.store("hello", {})
    headers = {"X-Amz-Log-Result": base64.b64encode(TAIL.encode()).decode()}
    server.invoke_reply = (200, headers, "1")
    assert cli("invoke", "hello", "--log") == 0
    said = capsys.readouterr()
    assert said.out == "1\n"
    assert "hello" in said.err
    assert "cold start, init 20.00 ms; handler 1.50 ms; memory 30 MB" in said.err
    assert server.last_headers["x-amz-log-type"] == "Tail"


def test_a_function_s_error_goes_to_stderr_and_exits_1(
    cli: Run, server: Any, capsys: Capture
) -> None:
    server.store("hello", {})
    error = {"errorType": "ValueError", "errorMessage": "no", "stackTrace": ["  File x\n"]}
    server.invoke_reply = (200, {"X-Amz-Function-Error": "Unhandled"}, error)
    assert cli("invoke", "hello") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: ValueError: no\n  File x\n"
    assert cli("invoke", "hello", "--json") == 1
    assert json.loads(capsys.readouterr().out)["function_error"] == "Unhandled"


@pytest.mark.parametrize("command", ["invoke", "describe", "logs"])
def test_a_missing_function_brings_similar_names(
    command: str, cli: Run, server: Any, capsys: Capture
) -> None:
    server.store("hello-world", {})
    assert cli(command, "helo-world") == 1
    assert "Similar names: hello-world" in capsys.readouterr().err
    assert cli(command, "zzzz") == 1
    assert "pilotlight ls" in capsys.readouterr().err


def test_names_are_encoded_in_paths(cli: Run, server: Any) -> None:
    cli("describe", "arn:aws:lambda:us-east-1:0:function:a/b")
    wanted = "GET /2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A0%3Afunction%3Aa%2Fb"
    assert wanted in server.calls


def test_describe_shows_what_is_there(cli: Run, server: Any, capsys: Capture) -> None:
    server.store("hello", {"Runtime": "python3.11", "Handler": "app.handler", "MemorySize": 128})
    server.urls.add("hello")
    assert cli("describe", "hello") == 0
    shown = capsys.readouterr().out
    assert "Handler:      app.handler" in shown
    assert "URL:          http://127.0.0.1:9701/url/abc123/" in shown
    assert cli("describe", "hello", "--json") == 0
    assert json.loads(capsys.readouterr().out)["Configuration"]["FunctionName"] == "hello"


def test_delete_asks_nobody_only_with_yes(cli: Run, server: Any, capsys: Capture) -> None:
    server.store("hello", {})
    assert cli("delete", "hello") == 2
    assert "--yes" in capsys.readouterr().err
    assert "hello" in server.functions
    assert cli("delete", "hello", "--yes") == 0
    assert server.functions == {}


def test_logs_come_page_by_page_with_their_conditions(
    cli: Run, server: Any, capsys: Capture
) -> None:
    server.store("hello", {})
    server.lines = [
        {"id": n + 1, "time": 1_795_521_600.5, "request_id": "r", "text": f"line {n}"}
        for n in range(1500)
    ]
    assert cli("logs", "hello", "--request-id", "r", "--grep", "line") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1500
    assert lines[0] == "2026-11-24T12:00:00.500Z  line 0"
    assert server.last_query["request_id"] == "r"
    assert server.last_query["text"] == "line"
    assert cli("logs", "hello", "--json", "--since", "2026-11-24T12:00") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[3])["text"] == "line 3"


def test_logs_without_lines_say_where_to_look(cli: Run, server: Any, capsys: Capture) -> None:
    server.store("hello", {})
    assert cli("logs", "hello") == 0
    assert "--since 7d" in capsys.readouterr().err
    assert cli("logs", "hello", "--since", "yesterday") == 2


def test_env_is_quoted_for_a_shell(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "a'b$(touch)c`d;e" + "e" * 24
    monkeypatch.setenv("PILOTLIGHT_ROOT_SECRET_ACCESS_KEY", secret)
    assert run(["env"]) == 0
    exports = capsys.readouterr().out
    shell = subprocess.run(
        ["/bin/sh", "-c", f'{exports}\nprintf %s "$AWS_SECRET_ACCESS_KEY"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout == secret
    assert f"export AWS_ENDPOINT_URL={shlex.quote('http://127.0.0.1:9700')}" in exports
    assert run(["env", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["AWS_REGION"] == "us-east-1"


def test_runtimes_are_listed_and_added(capsys: Capture, tmp_path: Path) -> None:
    assert run(["runtime", "ls", "--json"]) == 0
    names = {runtime["name"] for runtime in json.loads(capsys.readouterr().out)}
    assert f"python3.{sys.version_info[1]}" in names
    assert run(["runtime", "add", sys.executable, "--data-dir", str(tmp_path / "d")]) == 0
    assert run(["runtime", "remove", sys.executable, "--data-dir", str(tmp_path / "d")]) == 0
    assert run(["runtime", "add", "/bin/sh"]) == 1
    assert "is not a CPython" in capsys.readouterr().err


def test_faults_of_the_configuration_exit_1_with_all_of_them(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTLIGHT_NONSENSE", "1")
    assert run(["up", "--listen", "x"]) == 1
    said = capsys.readouterr().err
    assert "PILOTLIGHT_NONSENSE" in said
    assert "--listen" in said


def test_a_reader_that_goes_away_is_no_traceback(server: Any) -> None:
    for number in range(5):
        server.store(f"function-{number}", {})
    command = [
        sys.executable, "-m", "pilotlight", "ls", "--json",
        "--endpoint", f"http://127.0.0.1:{server.port}",
    ]  # fmt: skip
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
    )
    assert child.stdout is not None
    child.stdout.close()
    _, errors = child.communicate(timeout=20)
    assert child.returncode == 1
    assert b"Traceback" not in errors


def test_init_writes_python_only() -> None:
    assert run(["init", "hello", "--runtime", "nodejs20.x"]) == 2
    assert not Path("hello").exists()


@pytest.mark.parametrize(
    ("texts", "phases"),
    [
        ([], {}),
        (["START x", "greeting COLD_START"], {}),
        (
            [
                "COLD_START RequestId: a Start: fork\tQueue: 9.00 ms",
                "COLD_START RequestId: b Start: blank\tQueue: 1.00 ms\tInit: 2.50 ms",
            ],
            {"start": "blank", "queue": "1.00 ms", "init": "2.50 ms"},
        ),
    ],
)
def test_the_last_cold_start_is_read_from_the_log(texts: list[str], phases: dict[str, str]) -> None:
    assert cold_start_phases(texts) == phases
