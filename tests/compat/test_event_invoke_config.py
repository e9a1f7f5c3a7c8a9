"""How asynchronous invocations are configured, stated as facts, with the official client.

Sources: PutFunctionEventInvokeConfig and its neighbours in the API reference; the texts are what
the service is known to say.
"""

from __future__ import annotations

import contextlib
import io
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from pilotlight.testing.control_plane import ControlPlane, serving

pytestmark = pytest.mark.timeout(60)

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
SQS = "arn:aws:sqs:us-east-1:000000000000:q"
SNS = "arn:aws:sns:us-east-1:000000000000:t"
BUS = "arn:aws:events:us-east-1:000000000000:event-bus/b"
S3 = "arn:aws:s3:::bucket"
ROLE = "arn:aws:iam::000000000000:role/any"
NONE: dict[str, dict[str, str]] = {"OnSuccess": {}, "OnFailure": {}}


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client(plane: ControlPlane) -> Iterator[Any]:
    settings = Config(retries={"max_attempts": 0}, parameter_validation=False)
    with contextlib.closing(
        boto3.client("lambda", **plane.client_settings(), config=settings)
    ) as made:
        for name in ("f", "other"):
            create(made, name)
        made.publish_version(FunctionName="f")
        made.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
        yield made


def create(client: Any, name: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("handler.py", name)
    client.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Handler="handler.handler",
        Role=ROLE,
        Code={"ZipFile": buffer.getvalue()},
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name)


@pytest.fixture(autouse=True)
def _clean(client: Any) -> Iterator[None]:
    yield
    for config in client.list_function_event_invoke_configs(FunctionName="f")[
        "FunctionEventInvokeConfigs"
    ]:
        qualifier = config["FunctionArn"].rpartition(":")[2]
        client.delete_function_event_invoke_config(FunctionName="f", Qualifier=qualifier)


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs each time."""
    left = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
    assert abs(left.pop("LastModified").timestamp() - time.time()) < 60
    return left


def refused(code: str, status: int, message: str, call: Any, **arguments: Any) -> None:
    with pytest.raises(ClientError) as caught:
        call(**{"FunctionName": "f", **arguments})
    response = caught.value.response
    assert response["Error"]["Message"] == message
    assert response["Error"]["Code"] == code
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_put_resets_what_is_not_given_and_update_keeps_it(client: Any) -> None:
    destinations = {"OnSuccess": {"Destination": SQS}, "OnFailure": {"Destination": SNS}}
    put = client.put_function_event_invoke_config(
        FunctionName="f", MaximumRetryAttempts=0, DestinationConfig=destinations
    )
    shown = {
        "FunctionArn": f"{ARN}f:$LATEST",
        "MaximumRetryAttempts": 0,
        "DestinationConfig": destinations,
    }
    assert plain(put) == shown
    assert plain(client.get_function_event_invoke_config(FunctionName="f")) == shown
    updated = client.update_function_event_invoke_config(
        FunctionName="f", MaximumEventAgeInSeconds=60
    )
    assert plain(updated) == {**shown, "MaximumEventAgeInSeconds": 60}
    updated = client.update_function_event_invoke_config(
        FunctionName="f", DestinationConfig={"OnFailure": {"Destination": BUS}}
    )
    assert updated["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {"Destination": BUS}}
    put = client.put_function_event_invoke_config(FunctionName="f", MaximumEventAgeInSeconds=90)
    assert plain(put) == {
        "FunctionArn": f"{ARN}f:$LATEST",
        "MaximumEventAgeInSeconds": 90,
        "DestinationConfig": NONE,
    }


@pytest.mark.parametrize("qualifier", ["$LATEST", "1", "live"])
def test_each_qualifier_has_its_own(client: Any, qualifier: str) -> None:
    put = client.put_function_event_invoke_config(
        FunctionName=f"{ARN}f", Qualifier=qualifier, MaximumRetryAttempts=1
    )
    assert put["FunctionArn"] == f"{ARN}f:{qualifier}"
    got = client.get_function_event_invoke_config(FunctionName=f"f:{qualifier}")
    assert plain(got) == plain(put)
    for other in {"$LATEST", "1", "live"} - {qualifier}:
        refused(
            "ResourceNotFoundException",
            404,
            f"The function {ARN}f:{other} doesn't have an EventInvokeConfig",
            client.get_function_event_invoke_config,
            Qualifier=other,
        )


def test_lists_have_pages(client: Any) -> None:
    for qualifier in ("1", "live", "$LATEST"):
        client.put_function_event_invoke_config(
            FunctionName="f", Qualifier=qualifier, MaximumRetryAttempts=1
        )
    seen, marker = [], None
    while True:
        page = client.list_function_event_invoke_configs(
            FunctionName="f", MaxItems=2, **({"Marker": marker} if marker else {})
        )
        seen += [c["FunctionArn"].rpartition(":")[2] for c in page["FunctionEventInvokeConfigs"]]
        marker = page.get("NextMarker")
        if marker is None:
            break
    assert sorted(seen) == ["$LATEST", "1", "live"]
    assert client.list_function_event_invoke_configs(FunctionName="other")[
        "FunctionEventInvokeConfigs"
    ] == []  # fmt: skip


def test_what_is_deleted_is_gone(client: Any) -> None:
    client.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=1)
    answer = client.delete_function_event_invoke_config(FunctionName="f")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    missing = f"The function {ARN}f:$LATEST doesn't have an EventInvokeConfig"
    for call in (
        client.get_function_event_invoke_config,
        client.delete_function_event_invoke_config,
    ):
        refused("ResourceNotFoundException", 404, missing, call)
    refused(
        "ResourceNotFoundException",
        404,
        missing,
        client.update_function_event_invoke_config,
        MaximumRetryAttempts=1,
    )


def test_a_configuration_goes_with_its_alias(client: Any) -> None:
    client.create_alias(FunctionName="f", Name="short", FunctionVersion="1")
    client.put_function_event_invoke_config(
        FunctionName="f", Qualifier="short", MaximumRetryAttempts=1
    )
    client.delete_alias(FunctionName="f", Name="short")
    listed = client.list_function_event_invoke_configs(FunctionName="f")
    assert listed["FunctionEventInvokeConfigs"] == []


@pytest.mark.parametrize("operation", ["put", "update"])
def test_calls_that_are_refused(client: Any, operation: str) -> None:
    client.put_function_event_invoke_config(FunctionName="f", MaximumRetryAttempts=1)
    call = getattr(client, f"{operation}_function_event_invoke_config")
    invalid = "InvalidParameterValueException"
    nothing = "You must specify at least one of error handling or destination setting."
    refused(invalid, 400, nothing, call)
    for arguments in (
        {"FunctionName": "unknown"},
        {"FunctionName": f"{ARN}unknown"},
        {"Qualifier": "7"},
        {"Qualifier": "nobody"},
    ):
        refused(
            "ResourceNotFoundException",
            404,
            "The function doesn't exist.",
            call,
            MaximumRetryAttempts=1,
            **arguments,
        )
    refused(
        invalid,
        400,
        f"The destination ARN {ARN}unknown is invalid.",
        call,
        DestinationConfig={"OnSuccess": {"Destination": f"{ARN}unknown"}},
    )
    refused(
        invalid,
        400,
        "You can't specify the function as a destination for itself.",
        call,
        DestinationConfig={"OnFailure": {"Destination": f"{ARN}f"}},
    )
    refused(
        invalid,
        400,
        f"The provided destination config DestinationConfig(onSuccess=OnSuccess(destination={S3}), "
        f"onFailure=OnFailure(destination={ROLE})) is invalid.",
        call,
        DestinationConfig={"OnSuccess": {"Destination": S3}, "OnFailure": {"Destination": ROLE}},
    )
    refused(
        invalid,
        400,
        f"The provided destination config DestinationConfig(onSuccess=OnSuccess(destination={S3}), "
        "onFailure=null) is invalid.",
        call,
        DestinationConfig={"OnSuccess": {"Destination": S3}},
    )
    assert client.get_function_event_invoke_config(FunctionName="f")["MaximumRetryAttempts"] == 1


@pytest.mark.parametrize("target", [SQS, SNS, BUS, S3, f"{ARN}other", f"{ARN}other:$LATEST"])
def test_failures_may_go_to(client: Any, target: str) -> None:
    put = client.put_function_event_invoke_config(
        FunctionName="f", DestinationConfig={"OnFailure": {"Destination": target}}
    )
    assert put["DestinationConfig"]["OnFailure"] == {"Destination": target}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"MaximumRetryAttempts": 3},
            (
                "'maximumRetryAttempts' failed to satisfy constraint: Member must have value less than"
                " or equal to 2"
            ),
        ),
        (
            {"MaximumEventAgeInSeconds": 59},
            (
                "'maximumEventAgeInSeconds' failed to satisfy constraint: Member must have value"
                " greater than or equal to 60"
            ),
        ),
    ],
)
def test_values_out_of_range(client: Any, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ClientError) as caught:
        client.put_function_event_invoke_config(FunctionName="f", **arguments)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert message in caught.value.response["Error"]["Message"]
