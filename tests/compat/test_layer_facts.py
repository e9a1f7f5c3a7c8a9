"""Layers, stated as facts, with the official client.

Source: https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html; the texts are what the
service is known to say.
"""

from __future__ import annotations

import io
import itertools
import json
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
ARN = "arn:aws:lambda:us-east-1:000000000000:layer:"
NAMES = (f"layer{number}" for number in itertools.count())


def package(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("python/shared.py"), text)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client(plane: ControlPlane) -> Any:
    settings = Config(retries={"max_attempts": 0}, parameter_validation=False)
    return boto3.client("lambda", **plane.client_settings(), config=settings)


def publish(client: Any, name: str | None = None, text: str = "x", **more: Any) -> Any:
    return client.publish_layer_version(
        LayerName=name or next(NAMES), Content={"ZipFile": package(text)}, **more
    )


def create(client: Any, name: str, **changes: Any) -> Any:
    return client.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Handler="handler.handler",
        Role=ROLE,
        Code={"ZipFile": package("f")},
        **changes,
    )


def refused(code: str, message: str, call: Callable[..., Any], **arguments: Any) -> None:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"] == {"Code": code, "Message": message}


def test_numbers_go_on_after_a_deletion_and_lists_show_the_newest_first(client: Any) -> None:
    name = next(NAMES)
    for _ in range(3):
        publish(client, name)
    client.delete_layer_version(LayerName=name, VersionNumber=3)
    client.delete_layer_version(LayerName=name, VersionNumber=3)
    assert publish(client, name)["Version"] == 4
    pages = client.get_paginator("list_layer_versions").paginate(
        LayerName=name, PaginationConfig={"PageSize": 2}
    )
    assert [v["Version"] for page in pages for v in page["LayerVersions"]] == [4, 2, 1]


def test_layers_are_listed_with_their_newest_matching_version(client: Any) -> None:
    name = next(NAMES)
    publish(client, name, CompatibleRuntimes=["python3.12"])
    publish(client, name, CompatibleRuntimes=["python3.13"])

    def newest(**wanted: str) -> dict[str, int]:
        pages = client.get_paginator("list_layers").paginate(
            PaginationConfig={"PageSize": 1}, **wanted
        )
        found = [layer for page in pages for layer in page["Layers"]]
        return {layer["LayerName"]: layer["LatestMatchingVersion"]["Version"] for layer in found}

    assert newest()[name] == 2
    assert newest(CompatibleRuntime="python3.12")[name] == 1
    assert name not in newest(CompatibleRuntime="python3.11")


def test_a_layer_is_named_by_its_arn_too(client: Any) -> None:
    made = publish(client)
    by_arn = client.get_layer_version_by_arn(Arn=made["LayerVersionArn"])
    by_name = client.get_layer_version(LayerName=made["LayerArn"], VersionNumber=1)
    assert by_arn["Content"]["CodeSha256"] == by_name["Content"]["CodeSha256"]
    refused(
        "ResourceNotFoundException",
        "The resource you requested does not exist.",
        client.get_layer_version,
        LayerName=made["LayerArn"],
        VersionNumber=2,
    )


def test_a_function_is_refused_layers_that_it_cannot_have(client: Any) -> None:
    name = next(NAMES)
    first = publish(client, name)["LayerVersionArn"]
    second = publish(client, name)["LayerVersionArn"]
    refused(
        "InvalidParameterValueException",
        "Two different versions of the same layer are not allowed to be referenced in the same "
        f"function. {second} and {first}.",
        create,
        client=client,
        name="two",
        Layers=[first, second],
    )
    refused(
        "InvalidParameterValueException",
        f"Layer version {ARN}none:1 does not exist.",
        create,
        client=client,
        name="none",
        Layers=[ARN + "none:1"],
    )
    refused(
        "InvalidParameterValueException",
        "Layers are not in the same region as the function. "
        "Layers are expected to be in region us-east-1.",
        create,
        client=client,
        name="far",
        Layers=[first.replace("us-east-1", "eu-west-1")],
    )
    foreign = first.replace("000000000000", "111111111111")
    with pytest.raises(ClientError, match="no resource-based policy allows"):
        create(client, "foreign", Layers=[foreign])
    with pytest.raises(ClientError, match="Function not found"):
        client.get_function(FunctionName="two")


def test_a_function_and_its_layers_have_one_limit_of_size(client: Any) -> None:
    big = io.BytesIO()
    with zipfile.ZipFile(big, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(1000))
    arns = [
        client.publish_layer_version(LayerName=next(NAMES), Content={"ZipFile": big.getvalue()})[
            "LayerVersionArn"
        ]
        for _ in range(2)
    ]
    made = create(client, "sized", Layers=arns)
    assert [layer["Arn"] for layer in made["Layers"]] == arns
    assert all(layer["CodeSize"] == len(big.getvalue()) for layer in made["Layers"])


def test_layers_can_be_taken_away(client: Any) -> None:
    create(client, "bare", Layers=[publish(client)["LayerVersionArn"]])
    client.get_waiter("function_active_v2").wait(
        FunctionName="bare", WaiterConfig={"Delay": 0.02, "MaxAttempts": 500}
    )
    assert "Layers" not in client.update_function_configuration(FunctionName="bare", Layers=[])


def test_what_layers_store_counts(client: Any) -> None:
    before = client.get_account_settings()["AccountUsage"]["TotalCodeSize"]
    made = publish(client)
    after = client.get_account_settings()["AccountUsage"]["TotalCodeSize"]
    assert after - before == made["Content"]["CodeSize"]


def test_a_policy_admits_accounts_and_organizations(client: Any) -> None:
    name = next(NAMES)
    publish(client, name)
    version = {"LayerName": name, "VersionNumber": 1}
    added = client.add_layer_version_permission(
        **version,
        StatementId="org",
        Action="lambda:GetLayerVersion",
        Principal="*",
        OrganizationId="o-1234567890",
    )
    statement = json.loads(added["Statement"])
    assert statement["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}}
    shown = client.get_layer_version_policy(**version)
    assert shown["RevisionId"] == added["RevisionId"]
    client.remove_layer_version_permission(
        **version, StatementId="org", RevisionId=added["RevisionId"]
    )
    refused(
        "ResourceNotFoundException",
        "No policy is associated with the given resource.",
        client.get_layer_version_policy,
        **version,
    )
