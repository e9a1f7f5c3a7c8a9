"""Reserved and provisioned concurrency on a real platform."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pilotlight.testing.client import invoke
from pilotlight.testing.platform import eventually

pytestmark = [pytest.mark.timeout(180)]
Deploy = Callable[..., str]

ECHO = "def handler(event, context):\n    return event\n"
SLOW = "import time\ndef handler(event, context):\n    time.sleep(event)\n    return event\n"


def test_a_function_with_nothing_reserved_for_it_is_throttled_at_once(
    api: Any, deploy: Deploy
) -> None:
    name = deploy(ECHO)
    assert invoke(api, name, 1)[0] == 1
    api.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError) as refused:
        invoke(api, name, 1)
    answer = refused.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert answer["Error"]["Code"] == "TooManyRequestsException"
    assert answer["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    api.delete_function_concurrency(FunctionName=name)
    assert invoke(api, name, 2)[0] == 2


def test_no_more_run_at_once_than_are_reserved(api: Any, deploy: Deploy) -> None:
    name = deploy(SLOW)
    api.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=2)
    ended: list[object] = []

    def call() -> None:
        try:
            ended.append(invoke(api, name, 2)[0])
        except ClientError as error:
            ended.append(error.response["Reason"])

    callers = [threading.Thread(target=call) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    throttled = "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert sorted(map(str, ended)) == sorted(["2", "2", *[throttled] * 3])
    # Each that ended gave its place back.
    assert invoke(api, name, 0)[0] == 0


def test_provisioned_environments_exist_when_they_are_said_to(api: Any, deploy: Deploy) -> None:
    name = deploy(
        "import time\nBEGAN_S = time.time()\ndef handler(event, context):\n    return BEGAN_S\n"
    )
    api.publish_version(FunctionName=name)
    named = {"FunctionName": name, "Qualifier": "1"}
    api.put_provisioned_concurrency_config(**named, ProvisionedConcurrentExecutions=2)

    def status() -> dict[str, Any]:
        shown: dict[str, Any] = api.get_provisioned_concurrency_config(**named)
        return shown

    for _ in eventually(30):
        if status()["Status"] == "READY":
            break
    assert status()["AllocatedProvisionedConcurrentExecutions"] == 2
    called_s = time.time()
    began_s, _ = invoke(api, name, 1, Qualifier="1")
    assert began_s < called_s
    api.delete_provisioned_concurrency_config(**named)
    with pytest.raises(ClientError, match="No Provisioned Concurrency Config"):
        status()


def test_a_failing_initialization_is_told(api: Any, deploy: Deploy) -> None:
    name = deploy("raise RuntimeError('never')\n")
    api.publish_version(FunctionName=name)
    named = {"FunctionName": name, "Qualifier": "1"}
    api.put_provisioned_concurrency_config(**named, ProvisionedConcurrentExecutions=1)

    def failed() -> bool:
        shown = api.get_provisioned_concurrency_config(**named)
        return bool(
            shown["Status"] == "FAILED"
            and shown["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE"
            and shown["AllocatedProvisionedConcurrentExecutions"] == 0
        )

    for _ in eventually(60):
        if failed():
            break
