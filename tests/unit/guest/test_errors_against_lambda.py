"""Differential tests: handler resolution, error payloads and log lines equal ``awslambdaric``'s."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
from awslambdaric import bootstrap
from awslambdaric.lambda_context import LambdaContext as AwsContext
from awslambdaric.lambda_runtime_exception import FaultException
from awslambdaric.lambda_runtime_log_utils import JsonFormatter as AwsJsonFormatter
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller

from pilotlight_guest.frames import ERROR, INVOKE, RESULT, frame, invoke_body
from pilotlight_guest.python import handlers, logs
from pilotlight_guest.python.context import Facts, LambdaContext
from pilotlight_guest.python.faults import Fault, describe
from pilotlight_guest.python.jsontext import Encoder
from pilotlight_guest.python.runtime import Invoke

WriteModule = Callable[[str, str], str]

ARN = "arn:aws:lambda:us-east-1:000000000000:function:fn"
NAMES = {
    "AWS_LAMBDA_FUNCTION_NAME": "fn",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/fn",
    "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
}
FACTS = Facts(
    {
        "function_name": "fn",
        "function_version": "$LATEST",
        "memory_mib": 128,
        "log_group": "/aws/lambda/fn",
        "log_stream": "stream",
    },
    print,
)


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NAMES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_EXECUTION_ENV", raising=False)
    monkeypatch.setattr(logs.Current, "request_id", None)
    monkeypatch.setattr(logs.Current, "tenant_id", None)


class RecordingClient:
    """Takes the place of the connection to Lambda's runtime API."""

    marshaller = LambdaMarshaller()

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] | None = None

    def post_invocation_error(self, _id: str, error: str, _xray: str, _invocation: object) -> None:
        self.answer = (ERROR, error.encode())

    def post_invocation_result(
        self, _id: str, result: str | bytes, _kind: str, _invocation: object
    ) -> None:
        self.answer = (RESULT, result if isinstance(result, bytes) else result.encode())


def aws_invoke(
    handler: Any, payload: bytes, client: str = "", cognito: str = ""
) -> tuple[tuple[int, bytes] | None, str]:
    recorder, output = RecordingClient(), io.StringIO()
    with contextlib.redirect_stdout(output):
        bootstrap.handle_event_request(
            recorder,
            handler,
            "id-1",
            payload,
            "application/json",
            client,
            cognito,
            ARN,
            4_000_000_000_000,
            None,
            bootstrap.StandardLogSink(),
        )
    return recorder.answer, output.getvalue()


def our_invoke(
    handler: Any, payload: bytes, client: str = "", cognito: str = ""
) -> tuple[tuple[int, bytes], str]:
    invoke = Invoke(handler, FACTS, Encoder(ascii_only=True), "Text")
    head = "\0".join(["id-1", ARN, "", client, cognito, ""]).encode()
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        answer = invoke(frame(1, INVOKE, invoke_body(4_000_000_000_000, head, payload)))
    return answer, output.getvalue()


RESOLUTIONS = {
    "no dot": ("handler", {}),
    "empty": ("", {}),
    "missing module": ("nowhere_at_all.handler", {}),
    "missing in a folder": ("folder/nowhere.handler", {}),
    "missing function": ("good.nothing", {"good.py": "def handler(e, c): pass"}),
    "built-in": ("sys.exit", {}),
    "syntax": ("bad.handler", {"bad.py": "def handler(:\n    pass\n"}),
    "indentation": ("bad2.handler", {"bad2.py": "def handler(e, c):\nreturn 1\n"}),
    "import inside": ("needs.handler", {"needs.py": "import not_there_either"}),
    "from inside": ("needs2.handler", {"needs2.py": "from json import not_there_either"}),
    "folder": ("pkg/mod.handler", {"pkg/mod.py": "def other(): pass"}),
    "package": ("pkg2.mod.nothing", {"pkg2/__init__.py": "", "pkg2/mod.py": ""}),
    "empty function": ("good2.", {"good2.py": ""}),
    "dots": ("..x", {}),
}


def outcome(resolve: Callable[[str], object], name: str) -> tuple[object, ...]:
    importlib.invalidate_caches()
    try:
        return ("found", resolve(name))
    except FaultException as fault:
        return (fault.exception_type, fault.msg, fault.trace)
    except Fault as fault:
        return (fault.kind, fault.message, fault.trace)
    except Exception as exc:  # noqa: BLE001  # compared, whatever it is
        return (type(exc).__name__, str(exc))


@pytest.mark.parametrize("case", RESOLUTIONS)
def test_handler_errors_are_alike(case: str, module: WriteModule) -> None:
    name, files = RESOLUTIONS[case]
    for path, source in files.items():
        module(path, source)
    before = set(sys.modules)
    lambdas = outcome(bootstrap._get_handler, name)
    for imported in set(sys.modules) - before:
        del sys.modules[imported]
    assert outcome(handlers.resolve, name) == lambdas


def test_errors_of_the_modules_own_code_are_alike(module: WriteModule) -> None:
    module("breaks.py", "def inner():\n    raise ValueError('at import')\n\ninner()\n")
    ours = below_this_test(handlers.resolve)
    lambdas = below_this_test(bootstrap._get_handler)
    lambdas_info = (type(lambdas), lambdas, lambdas.__traceback__)
    assert describe(ours) == bootstrap.build_fault_result(lambdas_info, None)


def below_this_test(resolve: Callable[[str], object]) -> BaseException:
    """What importing ``breaks`` raises, with a traceback that begins in the runtime."""
    with pytest.raises(ValueError, match="at import") as caught:
        resolve("breaks.handler")
    assert caught.tb.tb_next is not None
    return caught.value.with_traceback(caught.tb.tb_next)


@pytest.mark.parametrize("name", ["deep/er/mod.handler", "deep.er.mod.handler"])
def test_handlers_in_folders_are_found(name: str, module: WriteModule) -> None:
    module("deep/er/mod.py", "def handler(event, context): return 'found'")
    assert handlers.resolve(name)({}, None) == "found"


FAILURES = """
class Odd(Exception):
    def __str__(self):
        return "odd \\u00e9\\nsecond line"

def plain(event, context):
    raise ValueError("wanted")

def without_text(event, context):
    raise KeyError()

def odd(event, context):
    raise Odd()

def chained(event, context):
    try:
        plain(event, context)
    except ValueError as exc:
        raise RuntimeError("second") from exc

def deep(event, context, n=30):
    return deep(event, context, n - 1) if n else 1 / 0

def endless(event, context):
    return endless(event, context)

def group(event, context):
    raise ExceptionGroup("several", [ValueError("a"), TypeError("b")])

def multiline(event, context):
    return (
        1
        / 0
    )

def generated(event, context):
    exec(compile("raise ValueError('no source')", "<made up>", "exec"))

def unwritable(event, context):
    return {"when": object()}

def a_set(event, context):
    return {1}

def raw(event, context):
    return b"\\x00raw"

class Made:
    def __init__(self, event, context):
        pass

class Callable:
    def __call__(self, event, context):
        return event

async def coroutine(event, context):
    return 1

import functools
called = Callable()
partial = functools.partial(lambda extra, event, context: [extra, event], "extra")
"""


@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "name",
    [
        *("plain", "without_text", "odd", "chained", "deep", "group", "multiline", "generated"),
        *("unwritable", "a_set", "raw", "Made", "called", "coroutine", "partial"),
    ],
)
def test_failures_are_answered_and_logged_alike(name: str, module: WriteModule) -> None:
    module("failures.py", FAILURES)
    handler = handlers.resolve(f"failures.{name}")
    ours, our_log = our_invoke(handler, b'{"a": 1}')
    lambdas, lambdas_log = aws_invoke(handler, b'{"a": 1}')
    assert ours == lambdas
    assert our_log == lambdas_log


def test_endless_recursion_is_an_error_alike(module: WriteModule) -> None:
    module("failures.py", FAILURES)
    handler = handlers.resolve("failures.endless")
    (kind, ours), _ = our_invoke(handler, b"1")
    lambdas, _ = aws_invoke(handler, b"1")
    assert lambdas is not None
    assert kind == ERROR
    assert json.loads(ours)["errorType"] == json.loads(lambdas[1])["errorType"] == "RecursionError"


@pytest.mark.parametrize("handler", [5, None, lambda: None, lambda event: event])
def test_a_handler_that_cannot_be_called_so_is_explained(handler: Any) -> None:
    (kind, ours), log = our_invoke(handler, b"1")
    lambdas, _ = aws_invoke(handler, b"1")
    assert lambdas is not None
    mine, aws = json.loads(ours), json.loads(lambdas[1])
    assert (kind, mine["errorType"], mine["errorMessage"]) == (
        ERROR,
        aws["errorType"],
        aws["errorMessage"],
    )
    assert "self._handler(event, context)" in mine["stackTrace"][-1]
    assert log.count("\n") == 1


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"NaN"])
def test_broken_payloads_are_answered_alike(payload: bytes) -> None:
    def handler(event: object, _context: object) -> object:
        return event

    assert our_invoke(handler, payload) == aws_invoke(handler, payload)


@pytest.mark.parametrize("client", ["{", "[", '"text"'])
def test_broken_client_contexts_fail_alike(client: str) -> None:
    def handler(event: object, _context: object) -> object:
        return event

    (kind, ours), _ = our_invoke(handler, b"1", client=client)
    lambdas, _ = aws_invoke(handler, b"1", client=client)
    assert lambdas is not None
    mine, aws = json.loads(ours), json.loads(lambdas[1])
    assert kind == lambdas[0] == ERROR
    assert (mine["errorType"], mine["errorMessage"]) == (aws["errorType"], aws["errorMessage"])


CLIENT = json.dumps(
    {
        "client": {"installation_id": "i", "app_title": "t", "unknown": 1},
        "custom": {"k": "v"},
        "env": {"locale": "en"},
        "w3c": {"traceparent": "00-1", "tracestate": 5, "other": "x"},
    }
)
COGNITO = json.dumps({"cognitoIdentityId": "c", "cognitoIdentityPoolId": "p"})


@pytest.mark.parametrize("client", ["", CLIENT, "null", "{}"])
@pytest.mark.parametrize("cognito", ["", COGNITO, "null", "{}"])
@pytest.mark.parametrize("tenant", [None, "blue"])
def test_contexts_are_alike(client: str, cognito: str, tenant: str | None) -> None:
    ours = LambdaContext(FACTS, "id-1", ARN, 4_000_000_000_000, client, cognito, tenant)
    lambdas = AwsContext(
        "id-1",
        json.loads(client) if client else None,
        json.loads(cognito) if cognito else None,
        4_000_000_000_000,
        ARN,
        tenant,
    )
    assert repr(ours) == repr(lambdas)
    assert ours.w3c() == lambdas.w3c()
    public = [name for name in dir(lambdas) if not name.startswith("_")]
    assert [name for name in dir(ours) if not name.startswith("_")] == public
    assert abs(ours.get_remaining_time_in_millis() - lambdas.get_remaining_time_in_millis()) < 1000
    for name in ("custom", "env", "client"):
        if ours.client_context is not None:
            mine = getattr(ours.client_context, name)
            assert repr(mine) == repr(getattr(lambdas.client_context, name))


def test_time_never_runs_below_zero() -> None:
    context = LambdaContext(FACTS, "id-1", ARN, 1, None, None, None)
    assert context.get_remaining_time_in_millis() == 0


def refused_text() -> Any:
    try:
        json.loads("{")
    except ValueError:
        return sys.exc_info()


def records() -> list[logging.LogRecord]:
    caught = refused_text()
    make = logging.getLogger("user").makeRecord
    return [
        make("user", logging.INFO, "f.py", 3, "plain %s", ("é",), None, "func"),
        make("user", logging.ERROR, "f.py", 3, "with traceback", (), caught, "func"),
        make("user", 35, "f.py", 3, {"an": "object"}, (), None, "func"),
        make("user", 99, "f.py", 3, "extra", (), None, "func", {"colour": "red", "x": object}),
        make("user", logging.DEBUG, "f.py", 3, "stack", (), None, "func", None, "a stack"),
    ]


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("tenant", [None, "blue"])
def test_json_log_lines_are_alike(number: int, tenant: str | None) -> None:
    lines = []
    for formatter in (logs.JsonFormatter(), AwsJsonFormatter()):
        record = records()[number]
        record.created = 1_700_000_000.5
        record.aws_request_id = "id-1"
        record.tenant_id = tenant
        lines.append(formatter.format(record))
    assert lines[0] == lines[1]


@pytest.fixture
def root_logger() -> Any:
    root = logging.getLogger()
    handlers_, level = root.handlers[:], root.level
    converter = logging.Formatter.converter
    root.handlers.clear()
    root.setLevel(logging.WARNING)
    yield root
    root.handlers[:] = handlers_
    root.setLevel(level)
    logging.Formatter.converter = converter


@pytest.mark.parametrize("level", [None, "", "TRACE", "debug", "INFO", "FATAL", "LOUD"])
@pytest.mark.parametrize("log_format", ["Text", "JSON", "json", ""])
def test_logging_is_set_up_alike(
    level: str | None, log_format: str, root_logger: logging.Logger
) -> None:
    seen = []
    for set_up in (
        lambda: logs.set_up_logging(log_format, level),
        lambda: bootstrap._setup_logging(
            bootstrap.LogFormat.from_str(log_format),
            bootstrap._get_log_level_from_env_var(level),
            bootstrap.StandardLogSink(),
        ),
    ):
        root_logger.handlers.clear()
        root_logger.setLevel(logging.WARNING)
        set_up()
        output = io.StringIO()
        record = records()[0]
        record.created, record.msecs = 1_700_000_000.5, 500
        with contextlib.redirect_stdout(output):
            root_logger.handle(record)
        seen.append((root_logger.level, output.getvalue()))
    assert seen[0] == seen[1]
