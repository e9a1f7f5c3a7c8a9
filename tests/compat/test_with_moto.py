"""The same boto3 calls against us and against moto's server: do the tests ask what clients ask?

What both must agree on is stated once; moto is another reading of the same service.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from pilotlight.testing.control_plane import serving

pytestmark = pytest.mark.timeout(120)

NAMES = (f"both{number}" for number in itertools.count())


@dataclass(frozen=True, slots=True)
class Server:
    """A server under the suite, and what functions there need."""

    client: Any
    role: str
    queue: str


@contextlib.contextmanager
def moto() -> Iterator[dict[str, str]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield {
            "endpoint_url": f"http://{host}:{port}",
            "region_name": "us-east-1",
            "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
            "aws_secret_access_key": "none",
        }
    finally:
        server.stop()


@pytest.fixture(scope="module", params=["pilotlight", "moto"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    config = Config(retries={"max_attempts": 0})
    if request.param == "moto":
        with moto() as settings:
            trust = json.dumps({"Version": "2012-10-17", "Statement": []})
            iam = boto3.client("iam", **settings)
            role = iam.create_role(RoleName="any", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
            sqs = boto3.client("sqs", **settings)
            url = sqs.create_queue(QueueName="orders")["QueueUrl"]
            attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
            queue = attributes["Attributes"]["QueueArn"]
            yield Server(boto3.client("lambda", config=config, **settings), role, queue)
        return
    with serving() as plane:
        client = boto3.client("lambda", config=config, **plane.client_settings())
        queue = "arn:aws:sqs:us-east-1:000000000000:orders"
        yield Server(client, "arn:aws:iam::000000000000:role/any", queue)


def package(text: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), text)
    return buffer.getvalue()


def settle(server: Server, name: str) -> None:
    for waiter in ("function_active_v2", "function_updated_v2"):
        server.client.get_waiter(waiter).wait(
            FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200}
        )


@pytest.fixture
def function(server: Server) -> Iterator[str]:
    name = next(NAMES)
    server.client.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Handler="app.handler",
        Role=server.role,
        Code={"ZipFile": package()},
        Environment={"Variables": {"KEY": "1"}},
        Tags={"team": "x"},
    )
    settle(server, name)
    yield name
    server.client.delete_function(FunctionName=name)


def code_of(error: ClientError) -> tuple[str, int]:
    response = error.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_a_function_is_read_as_it_was_made(server: Server, function: str) -> None:
    got = server.client.get_function(FunctionName=function)
    shown = got["Configuration"]
    assert (shown["Handler"], shown["Runtime"]) == ("app.handler", "python3.12")
    assert (shown["Timeout"], shown["MemorySize"], shown["Version"]) == (3, 128, "$LATEST")
    assert shown["Environment"] == {"Variables": {"KEY": "1"}}
    assert shown["CodeSize"] == len(package())
    assert got["Tags"] == {"team": "x"}
    assert got["Code"]["RepositoryType"] == "S3"
    listed = server.client.list_functions()["Functions"]
    assert function in {known["FunctionName"] for known in listed}


def test_unknown_functions_are_not_found(server: Server) -> None:
    for call in (
        server.client.get_function,
        server.client.get_function_configuration,
        server.client.delete_function,
    ):
        with pytest.raises(ClientError) as caught:
            call(FunctionName="nobody")
        assert code_of(caught.value) == ("ResourceNotFoundException", 404)


def test_a_name_is_taken_once(server: Server, function: str) -> None:
    with pytest.raises(ClientError) as caught:
        server.client.create_function(
            FunctionName=function, Runtime="python3.12", Handler="app.handler",
            Role=server.role, Code={"ZipFile": package()},
        )  # fmt: skip
    assert code_of(caught.value) == ("ResourceConflictException", 409)


def test_updates_change_what_they_name(server: Server, function: str) -> None:
    before = server.client.get_function_configuration(FunctionName=function)
    server.client.update_function_configuration(
        FunctionName=function, Timeout=7, MemorySize=256, Description="changed"
    )
    settle(server, function)
    server.client.update_function_code(FunctionName=function, ZipFile=package("new"))
    settle(server, function)
    after = server.client.get_function_configuration(FunctionName=function)
    assert (after["Timeout"], after["MemorySize"], after["Description"]) == (7, 256, "changed")
    assert after["CodeSha256"] != before["CodeSha256"]
    assert after["Handler"] == before["Handler"]


def test_versions_and_aliases(server: Server, function: str) -> None:
    client = server.client
    first = client.publish_version(FunctionName=function)
    assert first["Version"] == "1"
    assert first["FunctionArn"].endswith(f":{function}:1")
    made = client.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    assert made["AliasArn"].endswith(f":{function}:live")
    assert client.get_alias(FunctionName=function, Name="live")["FunctionVersion"] == "1"
    client.update_alias(FunctionName=function, Name="live", Description="x")
    assert client.get_alias(FunctionName=function, Name="live")["Description"] == "x"
    listed = client.list_versions_by_function(FunctionName=function)["Versions"]
    assert [known["Version"] for known in listed] == ["$LATEST", "1"]
    client.delete_alias(FunctionName=function, Name="live")
    with pytest.raises(ClientError) as caught:
        client.get_alias(FunctionName=function, Name="live")
    assert code_of(caught.value) == ("ResourceNotFoundException", 404)


def test_layers(server: Server) -> None:
    client, name = server.client, next(NAMES)
    first = client.publish_layer_version(LayerName=name, Content={"ZipFile": package("1")})
    client.publish_layer_version(LayerName=name, Content={"ZipFile": package("2")})
    assert first["Version"] == 1
    assert first["LayerVersionArn"].endswith(f":layer:{name}:1")
    versions = client.list_layer_versions(LayerName=name)["LayerVersions"]
    assert {known["Version"] for known in versions} == {1, 2}
    got = client.get_layer_version(LayerName=name, VersionNumber=1)
    assert got["Content"]["CodeSha256"] == first["Content"]["CodeSha256"]
    client.delete_layer_version(LayerName=name, VersionNumber=1)
    names = {known["LayerName"] for known in client.list_layers()["Layers"]}
    assert name in names


def test_permissions(server: Server, function: str) -> None:
    client = server.client
    client.add_permission(
        FunctionName=function, StatementId="s3", Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com", SourceArn="arn:aws:s3:::bucket",
    )  # fmt: skip
    policy = json.loads(client.get_policy(FunctionName=function)["Policy"])
    (statement,) = policy["Statement"]
    assert (statement["Sid"], statement["Effect"]) == ("s3", "Allow")
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    client.remove_permission(FunctionName=function, StatementId="s3")


def test_tags(server: Server, function: str) -> None:
    client = server.client
    arn = client.get_function_configuration(FunctionName=function)["FunctionArn"]
    client.tag_resource(Resource=arn, Tags={"stage": "b"})
    client.untag_resource(Resource=arn, TagKeys=["team"])
    assert client.list_tags(Resource=arn)["Tags"] == {"stage": "b"}


def test_reserved_concurrency(server: Server, function: str) -> None:
    client = server.client
    client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=3)
    shown = client.get_function_concurrency(FunctionName=function)
    assert shown["ReservedConcurrentExecutions"] == 3
    client.delete_function_concurrency(FunctionName=function)
    shown = client.get_function_concurrency(FunctionName=function)
    assert "ReservedConcurrentExecutions" not in shown


def test_function_urls(server: Server, function: str) -> None:
    client = server.client
    made = client.create_function_url_config(FunctionName=function, AuthType="NONE")
    shown = client.get_function_url_config(FunctionName=function)
    assert shown["FunctionUrl"] == made["FunctionUrl"]
    client.update_function_url_config(FunctionName=function, AuthType="AWS_IAM")
    assert client.get_function_url_config(FunctionName=function)["AuthType"] == "AWS_IAM"
    client.delete_function_url_config(FunctionName=function)


def test_event_source_mappings(server: Server, function: str) -> None:
    client = server.client
    made = client.create_event_source_mapping(
        FunctionName=function, EventSourceArn=server.queue, BatchSize=5
    )
    assert made["FunctionArn"].endswith(f":function:{function}")
    listed = client.list_event_source_mappings(FunctionName=function)["EventSourceMappings"]
    assert [known["UUID"] for known in listed] == [made["UUID"]]
    assert client.get_event_source_mapping(UUID=made["UUID"])["BatchSize"] == 5


def test_event_invoke_configurations(server: Server, function: str) -> None:
    client = server.client
    client.put_function_event_invoke_config(FunctionName=function, MaximumRetryAttempts=1)
    shown = client.get_function_event_invoke_config(FunctionName=function)
    assert shown["MaximumRetryAttempts"] == 1
    client.delete_function_event_invoke_config(FunctionName=function)
    with pytest.raises(ClientError) as caught:
        client.get_function_event_invoke_config(FunctionName=function)
    assert code_of(caught.value) == ("ResourceNotFoundException", 404)
