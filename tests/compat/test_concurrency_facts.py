"""Reserved and provisioned concurrency, runtime management and recursion, stated as facts.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html and the API reference;
the texts are what the service is known to say.
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


@pytest.fixture
def function(client: Any) -> Iterator[str]:
    name = next(NAMES)
    client.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Handler="handler.handler",
        Role=ROLE,
        Code={"ZipFile": package()},
    )
    client.get_waiter("function_active_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 0.02, "MaxAttempts": 500}
    )
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    yield name
    client.delete_function(FunctionName=name)


def refused(code: str, message: str, call: Callable[..., Any], **arguments: Any) -> None:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"] == {"Code": code, "Message": message}


def unreserved(client: Any) -> int:
    return int(client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"])


def test_reserved_concurrency_is_taken_from_the_account(client: Any, function: str) -> None:
    before = unreserved(client)
    client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=40)
    assert unreserved(client) == before - 40
    shown = client.get_function(FunctionName=function)["Concurrency"]
    assert shown == {"ReservedConcurrentExecutions": 40}
    client.put_function_concurrency(
        FunctionName=function, ReservedConcurrentExecutions=before - 100
    )
    refused(
        "InvalidParameterValueException",
        "Specified ReservedConcurrentExecutions for function decreases account's "
        "UnreservedConcurrentExecution below its minimum value of [100].",
        client.put_function_concurrency,
        FunctionName=function,
        ReservedConcurrentExecutions=before - 99,
    )
    client.delete_function_concurrency(FunctionName=function)
    assert unreserved(client) == before
    assert "Concurrency" not in client.get_function(FunctionName=function)


def test_provisioned_concurrency_belongs_to_versions_and_aliases(
    client: Any, function: str
) -> None:
    put = client.put_provisioned_concurrency_config
    refused(
        "InvalidParameterValueException",
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
        put,
        FunctionName=function,
        Qualifier="$LATEST",
        ProvisionedConcurrentExecutions=1,
    )
    refused(
        "ResourceNotFoundException",
        f"Cannot find alias arn: {ARN}{function}:none",
        put,
        FunctionName=function,
        Qualifier="none",
        ProvisionedConcurrentExecutions=1,
    )
    refused(
        "ProvisionedConcurrencyConfigNotFoundException",
        "No Provisioned Concurrency Config found for this function",
        client.get_provisioned_concurrency_config,
        FunctionName=function,
        Qualifier="live",
    )
    made = put(FunctionName=function, Qualifier="live", ProvisionedConcurrentExecutions=3)
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert made["Status"] == "IN_PROGRESS"
    refused(
        "ResourceConflictException",
        "Version is pointed by a Provisioned Concurrency alias",
        put,
        FunctionName=function,
        Qualifier="1",
        ProvisionedConcurrentExecutions=1,
    )
    listed = client.list_provisioned_concurrency_configs(FunctionName=function)
    (only,) = listed["ProvisionedConcurrencyConfigs"]
    assert only["FunctionArn"] == f"{ARN}{function}:live"
    assert only["RequestedProvisionedConcurrentExecutions"] == 3
    # Nothing starts environments here: what is shown must not claim any.
    assert (only["Status"], only["AllocatedProvisionedConcurrentExecutions"]) == ("IN_PROGRESS", 0)
    client.delete_alias(FunctionName=function, Name="live")
    listed = client.list_provisioned_concurrency_configs(FunctionName=function)
    assert listed["ProvisionedConcurrencyConfigs"] == []


def test_provisioned_concurrency_fits_into_what_is_reserved(client: Any, function: str) -> None:
    put = client.put_provisioned_concurrency_config
    client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=5)
    refused(
        "InvalidParameterValueException",
        "Requested Provisioned Concurrency should not be greater than the "
        "reservedConcurrentExecution for function",
        put,
        FunctionName=function,
        Qualifier="1",
        ProvisionedConcurrentExecutions=6,
    )
    put(FunctionName=function, Qualifier="1", ProvisionedConcurrentExecutions=5)
    refused(
        "InvalidParameterValueException",
        "ReservedConcurrentExecutions  4 should not be lower than function's total provisioned "
        "concurrency [5].",
        client.put_function_concurrency,
        FunctionName=function,
        ReservedConcurrentExecutions=4,
    )
    client.delete_provisioned_concurrency_config(FunctionName=function, Qualifier="1")
    client.delete_provisioned_concurrency_config(FunctionName=function, Qualifier="1")
    client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=4)


def test_runtime_management_is_of_a_version(client: Any, function: str) -> None:
    shown = client.get_runtime_management_config(FunctionName=function)
    assert shown["UpdateRuntimeOn"] == "Auto"
    assert shown["FunctionArn"] == f"{ARN}{function}:$LATEST"
    client.put_runtime_management_config(
        FunctionName=function, Qualifier="1", UpdateRuntimeOn="FunctionUpdate"
    )
    of_version = client.get_runtime_management_config(FunctionName=function, Qualifier="1")
    assert of_version["UpdateRuntimeOn"] == "FunctionUpdate"
    assert client.get_runtime_management_config(FunctionName=function)["UpdateRuntimeOn"] == "Auto"
    with pytest.raises(ClientError, match="RuntimeVersionArn is required"):
        client.put_runtime_management_config(FunctionName=function, UpdateRuntimeOn="Manual")


def test_recursion_ends_unless_allowed(client: Any, function: str) -> None:
    get = client.get_function_recursion_config
    assert get(FunctionName=function)["RecursiveLoop"] == "Terminate"
    client.put_function_recursion_config(FunctionName=function, RecursiveLoop="Allow")
    assert get(FunctionName=function)["RecursiveLoop"] == "Allow"
    refused(
        "ResourceNotFoundException",
        f"Function not found: {ARN}none",
        get,
        FunctionName="none",
    )
