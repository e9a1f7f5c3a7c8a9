"""The runtime as a process, on every interpreter of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.guest.runtime_process import GUEST_ROOT, VERSIONS, Runtime, interpreter

from pilotlight_guest.frames import ERROR, INIT_ERROR, RESULT

Start = Callable[[], Runtime]

CODE = """
import atexit, os, signal, sys, threading, time

counter = 0

def echo(event, context):
    return event

def environment(event, context):
    return dict(os.environ)

def world(event, context):
    return {"path": sys.path, "cwd": os.getcwd(), "argv": sys.argv, "tz": time.tzname[0],
            "comm": open("/proc/self/comm").read().strip(), "builtins": [repr(exit)[:7]],
            "stdin": os.readlink("/proc/self/fd/0")}

def leave(event, context):
    raise SystemExit(event)

def hard(event, context):
    os._exit(event)

def interrupt(event, context):
    raise KeyboardInterrupt

class Own(BaseException):
    pass

def own(event, context):
    raise Own("mine")

class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no text")

def mute(event, context):
    raise Mute

def own_exit(event, context):
    class Bye(SystemExit):
        pass
    raise Bye(4)

def fail(event, context):
    raise ValueError("wanted")

def partial_line(event, context):
    sys.stdout.write("no line end")

def at_exit(event, context):
    atexit.register(print, "at exit")
    threading.Timer(0.05, print, ["from a thread"]).start()

def big(event, context):
    return "x" * event

def fork(event, context):
    child = os.fork()
    if child == 0:
        return "I am the child"
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def tick():
    global counter
    while True:
        counter += 1
        time.sleep(0.001)

def background(event, context):
    if event == "start":
        threading.Thread(target=tick, daemon=True).start()
    return counter

def own_sigterm(event, context):
    def handler(number, frame):
        print("tidying up")
        sys.exit(3)
    signal.signal(signal.SIGTERM, handler)

def wait(event, context):
    print("waiting", flush=True)
    signal.pause()

def silence(event, context):
    sys.stdout.close()
    sys.stderr = None
    raise ValueError("unheard")
"""


@pytest.fixture(params=VERSIONS)
def executable(request: pytest.FixtureRequest) -> str:
    found = interpreter(request.param)
    if found is None:
        pytest.skip(f"this machine has no Python {request.param}")
    return found


@pytest.fixture
def task_root(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(CODE)
    return tmp_path


@pytest.fixture
def runtime(executable: str, task_root: Path) -> Iterator[Runtime]:
    with Runtime(executable, task_root) as runtime:
        yield runtime


def test_events_come_back(runtime: Runtime) -> None:
    runtime.start("main.echo")
    events: tuple[object, ...] = (None, {"a": [1.5, "é", True]}, "", [], 10**30)
    for event in events:
        assert runtime.invoke(event) == event


def test_several_frames_at_once_are_answered_in_order(runtime: Runtime) -> None:
    runtime.start("main.echo")
    frames = [runtime.invoke_frame(str(number).encode()) for number in range(50)]
    stream = b"".join(frames)
    for start in range(0, len(stream), 37):  # cut anywhere
        runtime.channel.sendall(stream[start : start + 37])
    for number in range(50):
        assert runtime.receive() == (number + 1, RESULT, str(number).encode())


def test_large_bodies_pass_both_ways(runtime: Runtime) -> None:
    runtime.start("main.echo")
    event = "é" * 1_000_000
    assert runtime.invoke(event) == event
    assert runtime.invoke("small") == "small"


def test_an_answer_above_six_megabytes_is_refused(runtime: Runtime) -> None:
    runtime.start("main.big")
    limit = 6 * 1024 * 1024 + 100
    assert len(runtime.invoke(limit - 2)) == limit - 2
    assert runtime.invoke(limit - 1) == {
        "errorMessage": "Response payload size exceeded maximum allowed payload size "
        "(6291556 bytes).",
        "errorType": "Function.ResponseSizeTooLarge",
    }
    assert runtime.invoke(1) == "x"


def test_the_environment_is_what_init_says(runtime: Runtime) -> None:
    names = {"TZ": ":UTC", "A": "é=b", "LAMBDA_TASK_ROOT": "/var/task"}
    runtime.start("main.environment", environment=names)
    assert runtime.invoke(trace="Root=1") == {**names, "_X_AMZN_TRACE_ID": "Root=1"}
    assert runtime.invoke() == names


def test_the_process_looks_as_on_lambda(runtime: Runtime, task_root: Path) -> None:
    runtime.start("main.world", environment={"TZ": "Asia/Tokyo"})
    world = runtime.invoke()
    version = world["comm"].removeprefix("python")
    assert world["path"][:3] == [
        str(task_root),
        f"/opt/python/lib/python{version}/site-packages",
        "/opt/python",
    ]
    assert world["path"][-1] == "/var/runtime"
    assert not [path for path in world["path"] if path.endswith("/src") or path == ""]
    assert world["cwd"] == str(task_root)
    assert world["tz"] == "JST"
    assert world["stdin"] == "/dev/null"
    assert world["builtins"] == ["Use exi"]


def test_a_users_own_python_path_stands_before_the_library(
    runtime: Runtime, task_root: Path
) -> None:
    runtime.start("main.world", environment={"PYTHONPATH": "/opt/mine:/var/runtime"})
    path = runtime.invoke()["path"]
    assert path[:2] == [str(task_root), "/opt/mine"]
    assert path.index("/opt/python") > len(path) - 4


def test_user_modules_cannot_shadow_the_runtime(runtime: Runtime, task_root: Path) -> None:
    for name in ("json", "bz2", "logging", "traceback", "threading", "linecache", "tokenize"):
        (task_root / f"{name}.py").write_text("raise RuntimeError('the wrong module')")
    (task_root / "bz2.py").write_text("mine = True")
    (task_root / "shadow.py").write_text(
        "import json, bz2, logging\n"
        "def handler(event, context):\n"
        "    logging.error('logged')\n"
        "    if event: raise ValueError('wanted')\n"
        "    return [json.__file__, bz2.mine]\n"
    )
    runtime.start("shadow.handler")
    file, is_mine = runtime.invoke()
    assert is_mine
    assert not file.startswith(str(task_root))
    assert runtime.invoke(1)["errorMessage"] == "wanted"


@pytest.mark.parametrize(
    ("handler", "event", "status"),
    [
        ("leave", None, 0),
        ("leave", 0, 0),
        ("leave", 3, 3),
        ("leave", 256, 0),
        ("leave", "a reason", 1),
        ("own_exit", None, 4),
        ("hard", 5, 5),
        ("own", None, 1),
        ("mute", None, 1),
        ("interrupt", None, -signal.SIGINT),
    ],
)
def test_what_escapes_ends_the_process(
    runtime: Runtime, handler: str, event: object, status: int
) -> None:
    runtime.start(f"main.{handler}")
    with pytest.raises(EOFError):
        runtime.invoke(event)
    code, output = runtime.ended()
    assert code == status
    if event == "a reason":
        assert output == "a reason\n"
    if handler == "own":
        assert output.startswith('Traceback (most recent call last):\n  File "')
        assert "runtime.py" not in output
        assert output.endswith("Own: mine\n")


def test_a_signal_ends_it_by_default(runtime: Runtime) -> None:
    runtime.start("main.echo")
    runtime.process.send_signal(signal.SIGTERM)
    assert runtime.ended() == (-signal.SIGTERM, "")


def test_user_code_may_handle_sigterm_also_between_invocations(runtime: Runtime) -> None:
    runtime.start("main.own_sigterm")
    runtime.invoke()
    runtime.process.send_signal(signal.SIGTERM)
    with pytest.raises(EOFError):
        runtime.receive()
    assert runtime.ended() == (3, "tidying up\n")


def test_the_end_of_the_worker_ends_it(runtime: Runtime) -> None:
    runtime.start("main.echo")
    assert runtime.ended() == (0, "")


def test_the_end_before_init_ends_it(runtime: Runtime) -> None:
    assert runtime.ended() == (0, "")


def test_shutdown_waits_for_threads_and_runs_exit_functions(runtime: Runtime) -> None:
    runtime.start("main.at_exit")
    runtime.invoke()
    runtime.shut_down()
    assert runtime.ended() == (0, "from a thread\nat exit\n")


def test_output_without_a_line_end_is_written_before_the_answer(runtime: Runtime) -> None:
    runtime.start("main.partial_line")
    runtime.invoke()
    assert runtime.process.stdout is not None
    assert os.read(runtime.process.stdout.fileno(), 100) == b"no line end"


def test_a_fork_that_returns_cannot_answer(runtime: Runtime) -> None:
    runtime.start("main.fork")
    assert runtime.invoke() == 0
    assert runtime.invoke() == 0


def test_threads_live_on_between_invocations(runtime: Runtime) -> None:
    runtime.start("main.background")
    first = runtime.invoke("start")
    while runtime.invoke() <= first:
        pass


def test_a_function_without_streams_still_answers(runtime: Runtime) -> None:
    runtime.start("main.silence")
    assert runtime.invoke()["errorMessage"] == "unheard"
    assert runtime.invoke()["errorType"] == "ValueError"


def test_errors_name_the_line_of_the_function(runtime: Runtime, task_root: Path) -> None:
    runtime.start("main.fail")
    runtime.channel.sendall(runtime.invoke_frame(b"1"))
    _, kind, body = runtime.receive()
    line = CODE.splitlines().index('    raise ValueError("wanted")') + 1
    assert kind == ERROR
    assert json.loads(body) == {
        "errorMessage": "wanted",
        "errorType": "ValueError",
        "requestId": "id-1",
        "stackTrace": [
            f'  File "{task_root}/main.py", line {line}, in fail\n    raise ValueError("wanted")\n'
        ],
    }
    _, output = runtime.ended()
    assert output.startswith("[ERROR] ValueError: wanted\rTraceback (most recent call last):\r")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("handler", "kind", "message"),
    [
        (
            "nowhere.handler",
            "Runtime.ImportModuleError",
            "Unable to import module 'nowhere': No module named 'nowhere'",
        ),
        (
            "main.nothing",
            "Runtime.HandlerNotFound",
            "Handler 'nothing' missing on module 'main'",
        ),
        (
            "main",
            "Runtime.MalformedHandlerName",
            "Bad handler 'main': not enough values to unpack (expected 2, got 1)",
        ),
    ],
)
def test_a_handler_that_is_not_there_fails_init(
    runtime: Runtime, handler: str, kind: str, message: str
) -> None:
    sequence, answer, body = runtime.initialize(handler)
    assert (sequence, answer) == (0, INIT_ERROR)
    assert json.loads(body) == {
        "errorMessage": message,
        "errorType": kind,
        "requestId": "",
        "stackTrace": [],
    }
    code, output = runtime.ended()
    assert code == 1
    assert "[WARNING]" in output
    assert f"[ERROR] {kind}: {message}\rTraceback" in output


def test_an_exit_during_init_ends_it(runtime: Runtime, task_root: Path) -> None:
    (task_root / "leaves.py").write_text("import sys\nprint('init')\nsys.exit(9)")
    with pytest.raises(EOFError):
        runtime.initialize("leaves.handler")
    assert runtime.ended() == (9, "init\n")


def test_a_missing_task_root_fails_init(runtime: Runtime) -> None:
    _, answer, body = runtime.initialize("main.echo", task_root="/nonexistent")
    assert answer == INIT_ERROR
    assert json.loads(body)["errorType"] == "FileNotFoundError"


def test_json_logs_carry_the_request(runtime: Runtime, task_root: Path) -> None:
    (task_root / "logs.py").write_text(
        "import logging\n"
        "def handler(event, context):\n"
        "    logging.getLogger('mine').info('hello', extra={'colour': 'red'})\n"
        "    context.log('raw\\n')\n"
        "    raise ValueError('wanted')\n"
    )
    runtime.start("logs.handler", log_format="JSON", log_level="INFO")
    runtime.invoke()
    first, raw, error = runtime.ended()[1].splitlines()
    line = json.loads(first)
    assert (line["message"], line["level"], line["requestId"]) == ("hello", "INFO", "id-1")
    assert line["colour"] == "red"
    assert raw == "raw"
    assert json.loads(error)["errorType"] == "ValueError"


@pytest.mark.parametrize("start", [b"\xff" * 64, b"\x00" * 13])
def test_a_worker_that_speaks_nonsense_is_left(runtime: Runtime, start: bytes) -> None:
    runtime.receive()
    runtime.channel.sendall(start)
    with pytest.raises(EOFError):
        runtime.receive()
    assert runtime.ended()[0] == 1


FORKS = """
import gc, random, signal, sys, tempfile
sys.path.insert(0, sys.argv[1])
from pilotlight_guest.python import process
random.seed(1)
first = random.random()
random.seed(1)
tempfile._get_candidate_names()
gc.disable()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
process.start_afresh()
assert random.random() != first
assert tempfile._name_sequence is None
assert gc.isenabled()
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
"""


def test_a_fork_of_a_zygote_starts_afresh(executable: str) -> None:
    command = [executable, "-I", "-S", "-B", "-c", FORKS, str(GUEST_ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
