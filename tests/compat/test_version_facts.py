"""Versions and aliases, stated as facts, with the official client.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html,
https://docs.aws.amazon.com/lambda/latest/dg/configuration-aliases.html and the API reference; the
texts are what the service is known to say.
"""

from __future__ import annotations

import io
import itertools
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
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
NAMES = (f"f{number}" for number in itertools.count())


def package(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("handler.py"), text)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client(plane: ControlPlane) -> Any:
    settings = Config(retries={"max_attempts": 0}, parameter_validation=False)
    return boto3.client("lambda", **plane.client_settings(), config=settings)


def create(client: Any, **changes: Any) -> Any:
    arguments = {
        "FunctionName": next(NAMES),
        "Runtime": "python3.12",
        "Handler": "handler.handler",
        "Role": ROLE,
        "Code": {"ZipFile": package("first")},
    }
    return client.create_function(**arguments | changes)


def settle(client: Any, name: str) -> None:
    client.get_waiter("function_active_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 0.02, "MaxAttempts": 500}
    )
    client.get_waiter("function_updated_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 0.02, "MaxAttempts": 500}
    )


@pytest.fixture
def function(client: Any) -> str:
    name: str = create(client)["FunctionName"]
    settle(client, name)
    return name


def describe(client: Any, function: str, text: str) -> None:
    client.update_function_configuration(FunctionName=function, Description=text)
    settle(client, function)


def refused(code: str, message: str, call: Callable[..., Any], **arguments: Any) -> None:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"] == {"Code": code, "Message": message}


def test_publishing_what_is_unchanged_gives_the_same_version(client: Any, function: str) -> None:
    first = client.publish_version(FunctionName=function, Description="one")
    again = client.publish_version(FunctionName=function, Description="ignored")
    assert (first["Version"], again["Version"], again["Description"]) == ("1", "1", "one")
    assert first["RevisionId"] == again["RevisionId"]
    assert first["FunctionArn"] == f"{ARN}{function}:1"
    assert first["State"] == "Active"
    describe(client, function, "changed")
    assert client.publish_version(FunctionName=function)["Version"] == "2"


def test_publishing_checks_what_the_caller_expects(client: Any, function: str) -> None:
    current = client.get_function_configuration(FunctionName=function)["CodeSha256"]
    refused(
        "InvalidParameterValueException",
        f"CodeSHA256 (other) is different from current CodeSHA256 in $LATEST ({current}). "
        "Please try again with the CodeSHA256 in $LATEST.",
        client.publish_version,
        FunctionName=function,
        CodeSha256="other",
    )
    refused(
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        client.publish_version,
        FunctionName=function,
        RevisionId="00000000-0000-0000-0000-000000000000",
    )
    revision = client.get_function_configuration(FunctionName=function)["RevisionId"]
    assert client.publish_version(FunctionName=function, RevisionId=revision, CodeSha256=current)


def test_a_number_is_never_given_twice(client: Any, function: str) -> None:
    client.publish_version(FunctionName=function)
    client.delete_function(FunctionName=function, Qualifier="1")
    assert client.publish_version(FunctionName=function)["Version"] == "2"
    refused(
        "ResourceNotFoundException",
        f"Function not found: {ARN}{function}:1",
        client.get_function,
        FunctionName=function,
        Qualifier="1",
    )


def test_a_function_and_its_first_version_can_be_made_by_one_call(client: Any) -> None:
    made = create(client, Publish=True)
    name = made["FunctionName"]
    assert (made["Version"], made["State"]) == ("1", "Pending")
    assert made["FunctionArn"] == ARN + name
    settle(client, name)
    shown = client.get_function_configuration(FunctionName=name, Qualifier="1")
    assert (shown["State"], shown["FunctionArn"]) == ("Active", f"{ARN}{name}:1")
    assert client.get_function_configuration(FunctionName=name)["Version"] == "$LATEST"
    assert client.publish_version(FunctionName=name)["Version"] == "1"


def test_a_code_update_can_publish(client: Any, function: str) -> None:
    updated = client.update_function_code(
        FunctionName=function, ZipFile=package("second"), Publish=True
    )
    assert (updated["Version"], updated["FunctionArn"]) == ("1", f"{ARN}{function}:1")
    settle(client, function)
    shown = client.get_function_configuration(FunctionName=function, Qualifier="1")
    assert (shown["State"], shown["CodeSha256"]) == ("Active", updated["CodeSha256"])
    again = client.update_function_code(
        FunctionName=function, ZipFile=package("second"), Publish=True
    )
    assert again["Version"] == "1"


def test_versions_are_listed_by_number_in_pages(client: Any, function: str) -> None:
    for number in range(1, 12):
        describe(client, function, f"number {number}")
        client.publish_version(FunctionName=function)
    expected = ["$LATEST", *(str(number) for number in range(1, 12))]
    listed: list[str] = []
    marker: dict[str, str] = {}
    while True:
        page = client.list_versions_by_function(FunctionName=function, MaxItems=5, **marker)
        listed += [version["Version"] for version in page["Versions"]]
        if "NextMarker" not in page:
            break
        marker = {"Marker": page["NextMarker"]}
    assert listed == expected
    pages = client.get_paginator("list_functions").paginate(
        FunctionVersion="ALL", PaginationConfig={"PageSize": 3}
    )
    everything = [known for page in pages for known in page["Functions"]]
    mine = [known for known in everything if known["FunctionName"] == function]
    assert [known["Version"] for known in mine] == expected
    assert mine[0]["FunctionArn"] == f"{ARN}{function}:$LATEST"
    assert len({known["FunctionArn"] for known in everything}) == len(everything)


def test_a_version_that_an_alias_means_stays(client: Any, function: str) -> None:
    client.publish_version(FunctionName=function)
    client.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    refused(
        "ResourceConflictException",
        "Unable to delete version because the following aliases reference it: [live]",
        client.delete_function,
        FunctionName=function,
        Qualifier="1",
    )
    refused(
        "InvalidParameterValueException",
        "Deletion of aliases is not currently supported.",
        client.delete_function,
        FunctionName=f"{function}:live",
    )
    client.delete_alias(FunctionName=function, Name="live")
    client.delete_function(FunctionName=function, Qualifier="1")


def test_aliases_are_refused_where_they_mean_nothing(client: Any, function: str) -> None:
    client.publish_version(FunctionName=function)
    describe(client, function, "two")
    client.publish_version(FunctionName=function)
    client.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    arn = f"{ARN}{function}"
    named = {"FunctionName": function, "Name": "live"}
    refused(
        "ResourceConflictException",
        f"Alias already exists: {arn}:live",
        client.create_alias,
        **named,
        FunctionVersion="1",
    )
    refused(
        "ResourceNotFoundException",
        f"Function not found: {arn}:9",
        client.update_alias,
        **named,
        FunctionVersion="9",
    )
    refused(
        "ResourceNotFoundException",
        f"Cannot find alias arn: {arn}:none",
        client.get_alias,
        FunctionName=function,
        Name="none",
    )
    refused(
        "InvalidParameterValueException",
        "Number of items in AdditionalVersionWeights cannot be greater than 1",
        client.update_alias,
        **named,
        RoutingConfig={"AdditionalVersionWeights": {"1": 0.1, "2": 0.1}},
    )
    refused(
        "InvalidParameterValueException",
        "Invalid function version 1. Function version 1 is already included in routing "
        "configuration.",
        client.update_alias,
        **named,
        RoutingConfig={"AdditionalVersionWeights": {"1": 0.1}},
    )
    refused(
        "InvalidParameterValueException",
        "$LATEST is not supported for an alias pointing to more than 1 version",
        client.update_alias,
        **named,
        FunctionVersion="$LATEST",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.1}},
    )
    assert client.get_alias(**named)["FunctionVersion"] == "1"


def test_a_policy_of_an_alias_goes_with_it_and_its_url_stays(client: Any, function: str) -> None:
    client.publish_version(FunctionName=function)
    client.create_alias(FunctionName=function, Name="live", FunctionVersion="1")
    url = client.create_function_url_config(
        FunctionName=function, Qualifier="live", AuthType="NONE"
    )
    before = client.get_alias(FunctionName=function, Name="live")["RevisionId"]
    client.add_permission(
        FunctionName=function,
        Qualifier="live",
        StatementId="all",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )
    policy = client.get_policy(FunctionName=function, Qualifier="live")
    after = client.get_alias(FunctionName=function, Name="live")["RevisionId"]
    assert after == policy["RevisionId"] != before
    client.delete_alias(FunctionName=function, Name="live")
    with pytest.raises(ClientError, match="The resource you requested does not exist"):
        client.get_policy(FunctionName=function, Qualifier="live")
    kept = client.get_function_url_config(FunctionName=function, Qualifier="live")
    assert kept["FunctionUrl"] == url["FunctionUrl"]


def test_what_runs_of_a_version_is_not_changed_by_its_policy(
    plane: ControlPlane, client: Any, function: str
) -> None:
    client.publish_version(FunctionName=function)
    before = plane.view.resolve("000000000000", function, "1")
    client.add_permission(
        FunctionName=f"{function}:1",
        StatementId="s3",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
    )
    shown = client.get_function_configuration(FunctionName=function, Qualifier="1")
    policy = client.get_policy(FunctionName=f"{function}:1")
    assert shown["RevisionId"] == policy["RevisionId"]
    after = plane.view.resolve("000000000000", function, "1")
    assert before is not None
    assert after is not None
    assert after.function.identity == before.function.identity


def test_the_isolation_of_a_function_is_that_of_its_versions(
    plane: ControlPlane, client: Any, function: str
) -> None:
    client.publish_version(FunctionName=function)
    client.tag_resource(Resource=ARN + function, Tags={"pilotlight:isolation": "process"})
    running = plane.view.resolve("000000000000", function, "1")
    assert running is not None
    assert running.function.isolation == "process"
    assert client.publish_version(FunctionName=function)["Version"] == "1"


def test_a_deleted_function_leaves_no_version(client: Any) -> None:
    name = create(client, Publish=True)["FunctionName"]
    settle(client, name)
    client.delete_function(FunctionName=name)
    create(client, FunctionName=name)
    settle(client, name)
    with pytest.raises(ClientError, match="Function not found"):
        client.get_function(FunctionName=name, Qualifier="1")
    assert client.publish_version(FunctionName=name)["Version"] == "1"
