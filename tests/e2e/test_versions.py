"""Versions and aliases on a real platform: what was published goes on running."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from pilotlight.testing.client import invoke, zipped

pytestmark = [pytest.mark.timeout(180)]

Deploy = Callable[..., str]


def source(text: str) -> str:
    return (
        "def handler(event, context):\n"
        f"    return {[text]!r} + [context.function_version, context.invoked_function_arn]\n"
    )


def fetched(url: str) -> tuple[int, bytes]:
    """Ask for a function URL by its host's name, which no resolver here has to know."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", where.port, timeout=20)
    try:
        connection.request("GET", "/", headers={"Host": where.netloc})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def update(api: Any, name: str, text: str, **more: Any) -> None:
    package = zipped({"app.py": source(text)})
    api.update_function_code(FunctionName=name, ZipFile=package, **more)
    api.get_waiter("function_updated_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


def test_versions_go_on_running_while_latest_changes(api: Any, deploy: Deploy) -> None:
    name = deploy(source("one"))
    arn = api.publish_version(FunctionName=name)["FunctionArn"]
    update(api, name, "two", Publish=True)
    api.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    update(api, name, "three")
    unqualified = arn.removesuffix(":1")
    expected = {
        None: ["three", "$LATEST", unqualified],
        "$LATEST": ["three", "$LATEST", f"{unqualified}:$LATEST"],
        "1": ["one", "1", f"{unqualified}:1"],
        "2": ["two", "2", f"{unqualified}:2"],
        "live": ["one", "1", f"{unqualified}:live"],
    }
    for qualifier, told in expected.items():
        by_parameter = {"Qualifier": qualifier} if qualifier else {}
        answer, raw = invoke(api, name, {}, **by_parameter)
        assert answer == told
        assert raw["ExecutedVersion"] == told[1]
        assert invoke(api, f"{name}:{qualifier}" if qualifier else name, {})[0] == told
        assert invoke(api, f"{unqualified}:{qualifier}" if qualifier else arn, {})[0][0] == (
            told[0] if qualifier else "one"
        )
    api.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    assert invoke(api, f"{name}:live", {})[0][0] == "two"
    with pytest.raises(ClientError, match=f"Function not found: {unqualified}:gone"):
        invoke(api, name, {}, Qualifier="gone")


def test_the_split_of_an_alias_is_what_was_asked_for(api: Any, deploy: Deploy) -> None:
    name = deploy(source("one"), Publish=True)
    update(api, name, "two", Publish=True)
    api.create_alias(
        FunctionName=name,
        Name="live",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.3}},
    )
    rounds = 1000
    seen = [invoke(api, f"{name}:live", {})[1]["ExecutedVersion"] for _ in range(rounds)]
    assert set(seen) == {"1", "2"}
    # Five standard deviations: once in some million runs.
    assert abs(seen.count("2") / rounds - 0.3) < 5 * (0.3 * 0.7 / rounds) ** 0.5


def test_no_invocation_fails_or_runs_old_code_while_an_alias_moves(
    api: Any, deploy: Deploy
) -> None:
    name = deploy(source("one"), Publish=True)
    update(api, name, "two", Publish=True)
    api.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    stop, faults, seen = threading.Event(), list[BaseException](), list[str]()

    def call() -> None:
        try:
            while not stop.is_set():
                seen.append(invoke(api, f"{name}:live", {})[0][0])
        except BaseException as fault:  # noqa: BLE001  told by the test's own thread
            faults.append(fault)

    caller = threading.Thread(target=call)
    caller.start()
    try:
        for version in ("2", "1", "2", "1", "2"):
            api.update_alias(FunctionName=name, Name="live", FunctionVersion=version)
            expected = {"1": "one", "2": "two"}[version]
            assert invoke(api, f"{name}:live", {})[0][0] == expected
    finally:
        stop.set()
        caller.join(30)
    assert not faults
    assert set(seen) <= {"one", "two"}


def test_a_url_whose_alias_is_gone_admits_nobody(api: Any, deploy: Deploy) -> None:
    name = deploy("def handler(event, context):\n    return context.function_version\n")
    api.publish_version(FunctionName=name)
    api.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    url = api.create_function_url_config(FunctionName=name, Qualifier="live", AuthType="NONE")
    api.add_permission(
        FunctionName=name,
        Qualifier="live",
        StatementId="all",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )
    assert fetched(url["FunctionUrl"]) == (200, b"1")
    api.delete_alias(FunctionName=name, Name="live")
    status, body = fetched(url["FunctionUrl"])
    assert status == 403
    assert b"Forbidden" in body
