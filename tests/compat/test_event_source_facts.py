"""Event source mappings, code signing and tags of both, stated as facts.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html and the API
reference; the texts are what the service is known to say.
"""

from __future__ import annotations

import io
import itertools
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from pilotlight.testing.control_plane import ControlPlane, serving

pytestmark = pytest.mark.timeout(60)

ROLE = "arn:aws:iam::000000000000:role/any"
QUEUES = (f"arn:aws:sqs:us-east-1:000000000000:q{number}" for number in itertools.count())
STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
TABLE = "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/2026-01-01T00:00:00.000"
CLUSTER = "arn:aws:kafka:us-east-1:000000000000:cluster/c/5d2a6f2e-1111-2222-3333-444455556666-1"
BROKER = "arn:aws:mq:us-east-1:000000000000:broker:b:b-1234"
DOCUMENTS = "arn:aws:rds:us-east-1:000000000000:cluster:docs"
SECRET = {
    "Type": "BASIC_AUTH",
    "URI": "arn:aws:secretsmanager:us-east-1:000000000000:secret:s-abcdef",
}
NO_POSITION = (
    "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: "
    "Member must not be null."
)
NO_WINDOW = "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
PUBLISHER = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/abcdefghij"


def package() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("handler.py"), "")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client(plane: ControlPlane) -> Any:
    settings = Config(retries={"max_attempts": 0}, parameter_validation=False)
    return boto3.client("lambda", **plane.client_settings(), config=settings)


def create(client: Any, name: str, **more: Any) -> Any:
    return client.create_function(
        FunctionName=name, Runtime="python3.12", Handler="handler.handler", Role=ROLE,
        Code={"ZipFile": package()}, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def function(client: Any) -> str:
    create(client, "mapped")
    return "mapped"


def refused(code: str, message: str, call: Callable[..., Any], **arguments: Any) -> None:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"] == {"Code": code, "Message": message}


def until(client: Any, uuid: str, state: str) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        shown: dict[str, Any] = client.get_event_source_mapping(UUID=uuid)
        if shown["State"] == state:
            return shown
        time.sleep(0.02)
    raise AssertionError(f"never {state}")


def gone(client: Any, uuid: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            client.get_event_source_mapping(UUID=uuid)
        except client.exceptions.ResourceNotFoundException:
            return
        time.sleep(0.02)
    raise AssertionError("never gone")


def test_a_mapping_lives_from_creating_to_deleting(client: Any, function: str) -> None:
    queue = next(QUEUES)
    made = client.create_event_source_mapping(FunctionName=function, EventSourceArn=queue)
    uuid = made["UUID"]
    assert made["State"] == "Creating"
    assert made["StateTransitionReason"] == "USER_INITIATED"
    assert (made["BatchSize"], made["FunctionResponseTypes"]) == (10, [])
    until(client, uuid, "Enabled")
    changed = client.update_event_source_mapping(UUID=uuid, Enabled=False, BatchSize=5)
    assert (changed["State"], changed["BatchSize"]) == ("Disabling", 5)
    refused(
        "ResourceInUseException",
        "Cannot update the event source mapping because it is in use.",
        client.update_event_source_mapping,
        UUID=uuid,
        BatchSize=6,
    )
    until(client, uuid, "Disabled")
    assert client.update_event_source_mapping(UUID=uuid, BatchSize=7)["State"] == "Updating"
    until(client, uuid, "Disabled")
    assert client.delete_event_source_mapping(UUID=uuid)["State"] == "Deleting"
    gone(client, uuid)


def test_a_queue_is_mapped_to_a_function_once(client: Any, function: str) -> None:
    queue = next(QUEUES)
    made = client.create_event_source_mapping(FunctionName=function, EventSourceArn=queue)
    refused(
        "ResourceConflictException",
        f'An event source mapping with SQS arn (" {queue} ") and function (" {function} ") '
        f"already exists. Please update or delete the existing mapping with UUID {made['UUID']}",
        client.create_event_source_mapping,
        FunctionName=function,
        EventSourceArn=queue,
    )


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (
            {"EventSourceArn": STREAM, "StartingPosition": "LATEST"},
            {
                "BatchSize": 100,
                "MaximumRetryAttempts": -1,
                "MaximumRecordAgeInSeconds": -1,
                "ParallelizationFactor": 1,
                "DestinationConfig": {"OnFailure": {}},
                "LastProcessingResult": "No records processed",
                "StateTransitionReason": "User action",
            },
        ),
        ({"EventSourceArn": TABLE, "StartingPosition": "TRIM_HORIZON"}, {"BatchSize": 100}),
        (
            {"EventSourceArn": CLUSTER, "StartingPosition": "LATEST", "Topics": ["topic"]},
            {"Topics": ["topic"], "StateTransitionReason": "USER_INITIATED"},
        ),
        (
            {
                "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["h:9092"]}},
                "SourceAccessConfigurations": [SECRET],
                "StartingPosition": "LATEST",
                "Topics": ["topic"],
            },
            {"SourceAccessConfigurations": [SECRET]},
        ),
        (
            {
                "EventSourceArn": BROKER,
                "Queues": ["q"],
                "SourceAccessConfigurations": [SECRET],
            },
            {"Queues": ["q"], "BatchSize": 100},
        ),
        (
            {
                "EventSourceArn": DOCUMENTS,
                "StartingPosition": "LATEST",
                "SourceAccessConfigurations": [SECRET],
                "DocumentDBEventSourceConfig": {"DatabaseName": "d"},
            },
            {"DocumentDBEventSourceConfig": {"DatabaseName": "d"}},
        ),
    ],
)
def test_every_kind_of_source_has_its_own_shape(
    client: Any, function: str, source: dict[str, Any], shown: dict[str, Any]
) -> None:
    made = client.create_event_source_mapping(FunctionName=function, Enabled=False, **source)
    assert made["State"] == "Disabled"
    assert {name: made[name] for name in shown} == shown
    kept = client.get_event_source_mapping(UUID=made["UUID"])
    assert {name: kept[name] for name in shown} == shown
    client.delete_event_source_mapping(UUID=made["UUID"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Unrecognized event source."),
        ({"EventSourceArn": "arn:aws:sns:us-east-1:000000000000:t"}, "Unrecognized event source."),
        (
            {"EventSourceArn": STREAM},
            NO_POSITION,
        ),
        (
            {"EventSourceArn": TABLE, "StartingPosition": "AT_TIMESTAMP"},
            f"Unsupported starting position for arn type: {TABLE}",
        ),
        (
            {"EventSourceArn": next(QUEUES), "BatchSize": 11},
            NO_WINDOW,
        ),
        (
            {"EventSourceArn": next(QUEUES), "ParallelizationFactor": 2},
            "Unsupported ParallelizationFactor parameter for given event source mapping type.",
        ),
        (
            {
                "EventSourceArn": STREAM,
                "StartingPosition": "LATEST",
                "DestinationConfig": {"OnSuccess": {"Destination": next(QUEUES)}},
            },
            "Unsupported DestinationConfig parameter for given event source mapping type.",
        ),
        (
            {
                "EventSourceArn": next(QUEUES),
                "FilterCriteria": {"Filters": [{"Pattern": "not json"}]},
            },
            "Invalid filter pattern definition.",
        ),
        (
            {"EventSourceArn": next(QUEUES), "FunctionName": "none"},
            "Function does not exist",
        ),
        (
            {
                "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["h:9092"]}},
                "Topics": ["topic"],
                "StartingPosition": "LATEST",
            },
            "Required 'sourceAccessConfigurations' parameter is missing.",
        ),
    ],
)
def test_what_a_source_does_not_allow_is_refused(
    client: Any, function: str, arguments: dict[str, Any], message: str
) -> None:
    refused(
        "InvalidParameterValueException",
        message,
        client.create_event_source_mapping,
        **{"FunctionName": function, **arguments},
    )


def test_mappings_are_listed_by_function_and_source(client: Any) -> None:
    create(client, "listed")
    queues = [next(QUEUES) for _ in range(3)]
    made = [
        client.create_event_source_mapping(FunctionName="listed", EventSourceArn=queue)["UUID"]
        for queue in queues
    ]
    pages = client.get_paginator("list_event_source_mappings").paginate(
        FunctionName="listed", PaginationConfig={"PageSize": 2}
    )
    assert sorted(m["UUID"] for page in pages for m in page["EventSourceMappings"]) == sorted(made)
    found = client.list_event_source_mappings(EventSourceArn=queues[1])["EventSourceMappings"]
    assert [m["UUID"] for m in found] == [made[1]]
    client.delete_function(FunctionName="listed")
    kept = client.get_event_source_mapping(UUID=made[0])
    assert kept["FunctionArn"].endswith(":function:listed")


def test_code_that_must_be_signed_is_refused(client: Any) -> None:
    made = client.create_code_signing_config(
        AllowedPublishers={"SigningProfileVersionArns": [PUBLISHER]}, Description="d"
    )["CodeSigningConfig"]
    arn = made["CodeSigningConfigArn"]
    assert made["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
    create(client, "signed", CodeSigningConfigArn=arn)
    client.get_waiter("function_active_v2").wait(
        FunctionName="signed", WaiterConfig={"Delay": 0.02, "MaxAttempts": 500}
    )
    assert (
        client.get_function_code_signing_config(FunctionName="signed")["CodeSigningConfigArn"]
        == arn
    )
    users = client.list_functions_by_code_signing_config(CodeSigningConfigArn=arn)
    assert [name.rpartition(":")[2] for name in users["FunctionArns"]] == ["signed"]
    client.update_code_signing_config(
        CodeSigningConfigArn=arn, CodeSigningPolicies={"UntrustedArtifactOnDeployment": "Enforce"}
    )
    with pytest.raises(ClientError) as caught:
        client.update_function_code(FunctionName="signed", ZipFile=package())
    assert caught.value.response["Error"]["Code"] == "CodeVerificationFailedException"
    with pytest.raises(ClientError, match="used by 1 functions"):
        client.delete_code_signing_config(CodeSigningConfigArn=arn)
    client.delete_function_code_signing_config(FunctionName="signed")
    client.update_function_code(FunctionName="signed", ZipFile=package())
    client.delete_code_signing_config(CodeSigningConfigArn=arn)
    refused(
        "ResourceNotFoundException",
        f"The Lambda code signing configuration {arn} can not be found.",
        client.get_code_signing_config,
        CodeSigningConfigArn=arn,
    )
    refused(
        "CodeSigningConfigNotFoundException",
        "The code signing configuration cannot be found. Check that the provided code signing "
        f"configuration is not deleted: {arn}.",
        client.put_function_code_signing_config,
        FunctionName="signed",
        CodeSigningConfigArn=arn,
    )


def test_tags_belong_to_every_kind(client: Any, function: str) -> None:
    mapping = client.create_event_source_mapping(
        FunctionName=function, EventSourceArn=next(QUEUES), Tags={"a": "1"}
    )["EventSourceMappingArn"]
    signing = client.create_code_signing_config(
        AllowedPublishers={"SigningProfileVersionArns": [PUBLISHER]}, Tags={"a": "1"}
    )["CodeSigningConfig"]["CodeSigningConfigArn"]
    for arn in (mapping, signing):
        client.tag_resource(Resource=arn, Tags={"b": "2"})
        client.untag_resource(Resource=arn, TagKeys=["a", "none"])
        assert client.list_tags(Resource=arn)["Tags"] == {"b": "2"}
    unknown = mapping[:-12] + "0" * 12
    refused(
        "ResourceNotFoundException",
        f"The resource does not exist: {unknown}",
        client.list_tags,
        Resource=unknown,
    )
