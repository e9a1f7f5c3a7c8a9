"""Payloads and log lines that the platform itself gives."""

from __future__ import annotations

import json

import pytest

from pilotlight.dataplane.worker import answers, variables
from pilotlight.model.function import LogFormat, Logging
from pilotlight.ports.sandbox import SandboxExit
from pilotlight.testing.scripted import a_function
from pilotlight_guest import frames


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (None, "Runtime exited without providing a reason"),
        (SandboxExit(0), "Runtime exited without providing a reason"),
        (SandboxExit(127), "Runtime exited with error: exit status 127"),
        (SandboxExit(-9), "Runtime exited with error: signal: killed"),
        (SandboxExit(-6), "Runtime exited with error: signal: aborted"),
        (SandboxExit(-64), "Runtime exited with error: signal: signal 64"),
    ],
)
def test_exit_reasons(end: SandboxExit | None, text: str) -> None:
    assert answers.exit_reason(end) == text


def test_a_timeout_names_two_decimals_and_its_moment() -> None:
    failure = answers.timed_out("id-1", 3, 1_700_000_000.5)
    assert json.loads(failure.payload) == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": "RequestId: id-1 Error: Task timed out after 3.00 seconds",
    }
    assert failure.lines == ("2023-11-14T22:13:20.500Z id-1 Task timed out after 3.00 seconds",)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"errorType": 5}', b"[" * 100_000, b"\xff"])
def test_an_error_type_is_never_believed_blindly(body: bytes) -> None:
    assert answers.error_type_of(body) is None


def test_the_init_document_has_exactly_the_keys_of_the_protocol() -> None:
    document = json.loads(
        variables.init_document(
            a_function(), roots=variables.Roots("/var/task"), log_stream="s", extra={}, own={}
        )
    )
    assert set(document) == set(frames.INIT_KEYS)


def test_documented_variables_are_there_and_json_logging_adds_its_own() -> None:
    function = a_function(logging=Logging("/g", LogFormat.JSON, "DEBUG", "INFO"))
    names = variables.process_environment(
        function,
        roots=variables.Roots("/srv/x"),
        log_stream="s",
        own={},
        extra={"AWS_ENDPOINT_URL": "http://e"},
    )
    assert names["AWS_LAMBDA_LOG_FORMAT"] == "JSON"
    assert names["AWS_LAMBDA_LOG_LEVEL"] == "DEBUG"
    assert names["LAMBDA_TASK_ROOT"] == names["PWD"] == "/srv/x"
    assert names["AWS_ENDPOINT_URL"] == "http://e"
    plain = variables.process_environment(
        a_function(), roots=variables.Roots("/var/task"), log_stream="s", extra={}, own={}
    )
    # https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    assert set(plain) >= {
        "_HANDLER", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR", "TZ", "LANG", "PATH", "LD_LIBRARY_PATH", "PYTHONPATH",
        "AWS_XRAY_CONTEXT_MISSING", "AWS_XRAY_DAEMON_ADDRESS",
    }  # fmt: skip
