"""Asynchronous invocations on a whole platform."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from pilotlight.testing.client import create, isolation_arguments, lambda_client, zipped
from pilotlight.testing.platform import Platform, eventually, running_platform, start_platform

pytestmark = pytest.mark.timeout(180)

Deploy = Callable[..., str]

SHORT = {"PILOTLIGHT_ASYNC__RETRY_BASE_DELAY_S": "0.2"}
WORKS = "def handler(event, context):\n    print('ran', event['n'])\n    return event['n']\n"


def ended(data_dir: Path) -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """Terminal state and attempts of all events that have ended, by request id."""
    with contextlib.closing(sqlite3.connect(data_dir / "queue.db")) as database:
        rows = database.execute("select request_id, condition, attempts from ended").fetchall()
    return {row[0]: (row[1], json.loads(row[2])) for row in rows}


def failed_payloads(data_dir: Path, function: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(data_dir / "queue.db")) as database:
        query = "select payload from ended where function = ? and condition != 'Success'"
        return [json.loads(row[0]) for row in database.execute(query, (function,))]


def waiting(data_dir: Path) -> int:
    with contextlib.closing(sqlite3.connect(data_dir / "queue.db")) as database:
        (count,) = database.execute("select count(*) from events").fetchone()
    return int(count)


def test_an_event_runs_and_has_one_outcome(api: Any, platform: Platform, deploy: Deploy) -> None:
    name = deploy(WORKS)
    answer = api.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"n": 7}')
    assert (answer["StatusCode"], answer["Payload"].read()) == (202, b"")
    request_id = answer["ResponseMetadata"]["RequestId"]
    for _ in eventually(30):
        if request_id in ended(platform.data_dir):
            break
    condition, attempts = ended(platform.data_dir)[request_id]
    assert condition == "Success"
    assert [attempt["outcome"] for attempt in attempts] == ["success"]


def test_a_failing_function_is_retried_with_the_same_request_id(tmp_path: Path) -> None:
    source = "def handler(event, context):\n    raise ValueError(context.aws_request_id)\n"
    arguments = isolation_arguments()
    with running_platform(tmp_path / "data", *arguments, environment=SHORT) as platform:
        with contextlib.closing(lambda_client(platform)) as api:
            create(api, "failing", zipped({"app.py": source}))
            answer = api.invoke(FunctionName="failing", InvocationType="Event", Payload=b"{}")
        request_id = answer["ResponseMetadata"]["RequestId"]
        for _ in eventually(30):
            if request_id in ended(platform.data_dir):
                break
        condition, attempts = ended(platform.data_dir)[request_id]
        assert condition == "RetriesExhausted"
        assert [a["detail"] for a in attempts] == [f"ValueError: {request_id}"] * 3


def test_a_failure_goes_to_its_destination_as_configured(
    api: Any, platform: Platform, deploy: Deploy
) -> None:
    failing = deploy("def handler(event, context):\n    raise ValueError('no')\n")
    told = deploy("def handler(event, context):\n    raise ValueError('keeps its event')\n")
    api.put_function_event_invoke_config(FunctionName=told, MaximumRetryAttempts=0)
    target = api.get_function_configuration(FunctionName=told)["FunctionArn"]
    api.put_function_event_invoke_config(
        FunctionName=failing,
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": target}},
    )
    answer = api.invoke(FunctionName=failing, InvocationType="Event", Payload=b'{"n": 7}')
    request_id = answer["ResponseMetadata"]["RequestId"]
    kept: list[Any] = []
    for _ in eventually(30):
        if kept := failed_payloads(platform.data_dir, told):
            break
    (record,) = kept
    assert record["requestContext"] == {
        "requestId": request_id,
        "functionArn": f"arn:aws:lambda:us-east-1:000000000000:function:{failing}:$LATEST",
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 1,
    }
    assert record["requestPayload"] == {"n": 7}
    assert record["responseContext"] == {
        "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"
    }  # fmt: skip
    assert record["responsePayload"]["errorType"] == "ValueError"
    assert ended(platform.data_dir)[request_id][0] == "RetriesExhausted"


# botocore leaves the socket of a request that was cut off to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_events_survive_kills_under_load(tmp_path: Path) -> None:
    """Every event that was answered with 202 runs and ends once, though SIGKILL comes thrice."""
    accepted: list[str] = []
    for kill in range(3):
        platform = start_platform(tmp_path / "data", *isolation_arguments(), environment=SHORT)
        if kill == 0:
            with contextlib.closing(lambda_client(platform)) as api:
                create(api, "counted", zipped({"app.py": WORKS}))
        senders = [threading.Thread(target=send, args=(platform, accepted)) for _ in range(4)]
        for sender in senders:
            sender.start()
        goal = len(accepted) + 150
        for _ in eventually(60):
            if len(accepted) >= goal:
                break
        platform.kill()
        for sender in senders:
            sender.join()
    with running_platform(tmp_path / "data", *isolation_arguments(), environment=SHORT) as platform:
        for _ in eventually(60, every_s=0.2):
            if not waiting(platform.data_dir):
                break
        final = ended(platform.data_dir)
        assert len(accepted) == len(set(accepted)) >= 450
        assert set(accepted) <= final.keys(), "an accepted event is lost"
        assert {final[request_id][0] for request_id in accepted} == {"Success"}
        assert all(final[i][1][-1]["outcome"] == "success" for i in accepted)


def send(platform: Platform, accepted: list[str]) -> None:
    """Send events until the platform is gone."""
    number = 0
    with contextlib.closing(lambda_client(platform)) as api:
        while platform.process.poll() is None:
            number += 1
            payload = json.dumps({"n": number}).encode()
            try:
                answer = api.invoke(FunctionName="counted", InvocationType="Event", Payload=payload)
            except (BotoCoreError, ClientError):  # killed in between: not accepted
                continue
            accepted.append(answer["ResponseMetadata"]["RequestId"])
