"""A user with boto3: create, wait, invoke, read errors, update, delete."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pilotlight.testing.client import ECHO, invoke, zipped
from pilotlight.testing.platform import Platform

Deploy = Callable[..., str]

pytestmark = pytest.mark.timeout(120)


def test_a_function_answers_cold_and_warm(api: Any, deploy: Deploy) -> None:
    name = deploy(ECHO)
    for number in range(3):
        result, answer = invoke(api, name, {"n": number, "text": "héllo ☃"})
        assert result == {"n": number, "text": "héllo ☃"}
        assert answer["StatusCode"] == 200
        assert answer["ExecutedVersion"] == "$LATEST"
        assert "FunctionError" not in answer


def test_the_log_tail_has_start_print_end_and_report(api: Any, deploy: Deploy) -> None:
    name = deploy("def handler(event, context):\n    print('seen', event)\n    return 1\n")
    _, answer = invoke(api, name, {"x": 1}, LogType="Tail")
    tail = base64.b64decode(answer["LogResult"]).decode()
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert f"START RequestId: {request_id} Version: $LATEST" in tail
    assert "seen {'x': 1}" in tail
    assert f"END RequestId: {request_id}" in tail
    assert "Init Duration" in tail
    assert "Max Memory Used" in tail
    _, answer = invoke(api, name, {"x": 2}, LogType="Tail")
    assert "Init Duration" not in base64.b64decode(answer["LogResult"]).decode()


def test_a_raised_error_has_lambdas_payload(api: Any, deploy: Deploy) -> None:
    name = deploy("def handler(event, context):\n    raise ValueError('no ' + event['what'])\n")
    result, answer = invoke(api, name, {"what": "luck"})
    assert answer["FunctionError"] == "Unhandled"
    assert result["errorMessage"] == "no luck"
    assert result["errorType"] == "ValueError"
    assert result["requestId"] == answer["ResponseMetadata"]["RequestId"]
    assert '  File "/var/task/app.py", line 2, in handler' in result["stackTrace"][0]


def test_a_timeout_kills_and_the_next_call_starts_afresh(api: Any, deploy: Deploy) -> None:
    name = deploy(
        "import time\ncount = 0\n"
        "def handler(event, context):\n"
        "    global count\n    count += 1\n"
        "    if event.get('sleep'):\n        time.sleep(60)\n"
        "    return count\n",
        Timeout=1,
    )
    assert invoke(api, name, {})[0] == 1
    result, answer = invoke(api, name, {"sleep": True})
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert result == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {request_id} Error: Task timed out after 1.00 seconds",
    }
    assert invoke(api, name, {})[0] == 1


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import os\ndef handler(e, c):\n    os._exit(3)\n", "Runtime.ExitError"),
        ("import os, signal\ndef handler(e, c):\n    os.kill(os.getpid(), 11)\n", "Runtime.ExitError"),
        ("import sys\ndef handler(e, c):\n    sys.exit(1)\n", "Runtime.ExitError"),
        ("import nothing_like_this\ndef handler(e, c): pass\n", "Runtime.ImportModuleError"),
        ("def other(e, c): pass\n", "Runtime.HandlerNotFound"),
        ("def handler(e, c): return object()\n", "Runtime.MarshalError"),
    ],
    ids=["exit", "segfault", "sys.exit", "import", "no handler", "marshal"],
)  # fmt: skip
def test_failures_are_told_apart(api: Any, deploy: Deploy, source: str, error: str) -> None:
    name = deploy(source)
    for _ in range(2):
        result, answer = invoke(api, name, {})
        assert answer["FunctionError"] == "Unhandled"
        assert result["errorType"] == error


def test_out_of_memory_is_told_from_a_crash(api: Any, deploy: Deploy) -> None:
    name = deploy("def handler(e, c):\n    x = bytearray(400 << 20)\n    return len(x)\n")
    result, answer = invoke(api, name, {}, LogType="Tail")
    assert answer["FunctionError"] == "Unhandled"
    assert result["errorType"] in ("Runtime.OutOfMemory", "Runtime.ExitError")
    assert "Runtime.OutOfMemory" in base64.b64decode(answer["LogResult"]).decode()
    assert invoke(api, deploy(ECHO), 1)[0] == 1


def test_three_hundred_megabytes_fit_into_tmp_of_a_small_function(api: Any, deploy: Deploy) -> None:
    name = deploy(
        "import os\n"
        "def handler(e, c):\n"
        "    with open('/tmp/big', 'wb') as f:\n"
        "        for _ in range(300):\n            f.write(bytes(1 << 20))\n"
        "    return os.path.getsize('/tmp/big')\n",
        Timeout=60,
        MemorySize=128,
    )
    assert invoke(api, name, {})[0] == 300 << 20


def test_six_megabytes_both_ways_and_not_more(api: Any, deploy: Deploy) -> None:
    name = deploy("def handler(e, c):\n    return 'x' * e['n'] if 'n' in e else len(e['s'])\n")
    assert invoke(api, name, {"s": "y" * (6 * 1024 * 1024 - 100)})[0] == 6 * 1024 * 1024 - 100
    assert len(invoke(api, name, {"n": 6 * 1024 * 1024 - 100})[0]) == 6 * 1024 * 1024 - 100
    result, answer = invoke(api, name, {"n": 6 * 1024 * 1024 + 200})
    assert answer["FunctionError"] == "Unhandled"
    assert result["errorType"] == "Function.ResponseSizeTooLarge"
    with pytest.raises(api.exceptions.RequestTooLargeException):
        invoke(api, name, {"s": "y" * (6 * 1024 * 1024 + 10)})


def test_an_update_never_serves_old_code_after_its_success(api: Any, deploy: Deploy) -> None:
    name = deploy("def handler(e, c): return 'old'\n")
    assert invoke(api, name)[0] == "old"
    api.update_function_code(
        FunctionName=name, ZipFile=zipped({"app.py": "def handler(e, c): return 'new'\n"})
    )
    api.get_waiter("function_updated_v2").wait(FunctionName=name)
    assert {invoke(api, name)[0] for _ in range(5)} == {"new"}
    api.update_function_configuration(
        FunctionName=name, Environment={"Variables": {"MODE": "b"}}, MemorySize=256
    )
    api.get_waiter("function_updated_v2").wait(FunctionName=name)
    config = api.get_function_configuration(FunctionName=name)
    assert (config["MemorySize"], config["Environment"]["Variables"]) == (256, {"MODE": "b"})


def test_the_environment_is_lambdas(api: Any, deploy: Deploy) -> None:
    name = deploy(
        "import os\n"
        "def handler(e, c):\n"
        "    return {'env': dict(os.environ), 'cwd': os.getcwd(), 'arn': c.invoked_function_arn,\n"
        "            'left': c.get_remaining_time_in_millis(), 'mem': c.memory_limit_in_mb}\n",
        Environment={"Variables": {"MINE": "1"}},
        MemorySize=256,
    )
    seen, _ = invoke(api, name)
    env = seen["env"]
    assert env["MINE"] == "1"
    assert env["AWS_LAMBDA_FUNCTION_NAME"] == name
    assert env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert env["LAMBDA_TASK_ROOT"] == "/var/task"
    assert env["_HANDLER"] == "app.handler"
    assert env["AWS_REGION"] == "us-east-1"
    assert env["TZ"] == ":UTC"
    assert not [key for key in env if key.startswith("PILOTLIGHT")]
    assert seen["cwd"] == "/var/task"
    assert seen["arn"] == f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert 0 < seen["left"] <= 10_000
    assert seen["mem"] == "256"


def test_one_environment_runs_one_invocation_at_a_time(api: Any, deploy: Deploy) -> None:
    name = deploy(
        "import time, uuid\nme = str(uuid.uuid4())\nbusy = False\n"
        "def handler(e, c):\n"
        "    global busy\n    assert not busy\n    busy = True\n"
        "    time.sleep(0.2)\n    busy = False\n    return me\n"
    )
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: invoke(api, name, {})[0], range(16)))
    assert all(isinstance(answer, str) for answer in answers)
    assert 2 <= len(set(answers)) <= 8


def test_chance_differs_between_environments(api: Any, deploy: Deploy) -> None:
    """All are forks of one process (decision D10): what was drawn there must not repeat."""
    name = deploy(
        "import os, random, tempfile, time, uuid\n"
        "drawn = [random.random(), random.getrandbits(64), os.urandom(8).hex(), str(uuid.uuid4()),\n"
        "         next(tempfile._get_candidate_names())]\n"
        "def handler(e, c):\n    time.sleep(0.3)\n    return drawn\n"
    )
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: tuple(invoke(api, name, {})[0]), range(8)))
    environments = set(answers)
    assert len(environments) >= 4
    for column in zip(*environments, strict=True):
        assert len(set(column)) == len(environments)


def test_an_idle_environment_is_reused_after_it_was_frozen(api: Any, deploy: Deploy) -> None:
    name = deploy(
        "import threading, time\nticks = 0\n"
        "def tick():\n    global ticks\n    while True:\n        time.sleep(0.02)\n        ticks += 1\n"
        "threading.Thread(target=tick, daemon=True).start()\n"
        "def handler(e, c): return ticks\n"
    )
    first = invoke(api, name)[0]
    time.sleep(1.5)
    second = invoke(api, name)[0]
    assert second - first < 40, "its threads ran on while it was idle"


def test_dry_run_and_unknown_function(api: Any, deploy: Deploy) -> None:
    assert api.invoke(FunctionName=deploy(ECHO), InvocationType="DryRun")["StatusCode"] == 204
    with pytest.raises(api.exceptions.ResourceNotFoundException, match="Function not found"):
        api.invoke(FunctionName="nothing-here")


def test_unsigned_requests_are_refused(platform: Platform) -> None:
    status, body = platform.get("/2015-03-31/functions/")
    assert status == 403
    assert b"Missing Authentication Token" in body
