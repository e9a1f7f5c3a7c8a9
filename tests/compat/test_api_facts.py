"""What the service answers, stated as facts, with the official client.

Sources: the Lambda API reference (https://docs.aws.amazon.com/lambda/latest/api/) and the developer
guide; the texts are what the service is known to say.
"""

from __future__ import annotations

import io
import json
import re
import urllib.request
import zipfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from pilotlight.control.api import OPERATIONS
from pilotlight.testing.control_plane import ControlPlane, serving
from pilotlight.wire.lambda_model.operations import OPERATIONS as MODEL

pytestmark = pytest.mark.timeout(60)

ROLE = "arn:aws:iam::000000000000:role/any"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:"


def package(text: str = "") -> bytes:
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


def create(client: Any, name: str, **changes: Any) -> Any:
    arguments = {
        "FunctionName": name,
        "Runtime": "python3.12",
        "Handler": "handler.handler",
        "Role": ROLE,
        "Code": {"ZipFile": package(name)},
    } | changes
    return client.create_function(**{k: v for k, v in arguments.items() if v is not None})


@pytest.fixture
def function(client: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    name = "f-" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    create(client, name)
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    yield name
    client.delete_function(FunctionName=name)


def refused(code: str, status: int, message: str, call: Any, **arguments: Any) -> None:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    assert response["Error"]["Code"] == code
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert response["Error"]["Message"] == message
    assert len(response["ResponseMetadata"]["RequestId"]) == 36


MANDATORY = (
    "Runtime and Handler are mandatory parameters for functions created with deployment packages."
)
INVALID = "InvalidParameterValueException"
VALIDATION = "ValidationException"


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"Handler": None}, INVALID, MANDATORY),
        ({"Runtime": None}, INVALID, MANDATORY),
        (
            {"Timeout": 901},
            VALIDATION,
            (
                "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: "
                "Member must have value less than or equal to 900"
            ),
        ),
        (
            {"MemorySize": 127},
            VALIDATION,
            (
                "1 validation error detected: Value '127' at 'memorySize' failed to satisfy "
                "constraint: Member must have value greater than or equal to 128"
            ),
        ),
        (
            {"MemorySize": 10241},
            VALIDATION,
            (
                "1 validation error detected: Value '10241' at 'memorySize' failed to satisfy "
                "constraint: Member must have value less than or equal to 10240"
            ),
        ),
        (
            {"EphemeralStorage": {"Size": 511}},
            VALIDATION,
            (
                "1 validation error detected: Value '511' at 'ephemeralStorage.size' failed to satisfy "
                "constraint: Member must have value greater than or equal to 512"
            ),
        ),
        (
            {"Runtime": "python3.7"},
            INVALID,
            (
                "The runtime parameter of python3.7 is no longer supported for creating or updating "
                "AWS Lambda functions. We recommend you use a supported runtime while creating or "
                "updating functions."
            ),
        ),
        (
            {"Environment": {"Variables": {"AWS_REGION": "x"}}},
            INVALID,
            (
                "Lambda was unable to configure your environment variables because the environment "
                "variables you have provided contains reserved keys that are currently not supported "
                "for modification. Reserved keys used in this request: AWS_REGION"
            ),
        ),
        (
            {"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:no:1"]},
            INVALID,
            "Layer version arn:aws:lambda:us-east-1:000000000000:layer:no:1 does not exist.",
        ),
        (
            {"Code": {"ZipFile": b"this is no zip"}},
            INVALID,
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        ),
        (
            {"Tags": {"pilotlight:isolation": "cardboard"}},
            INVALID,
            (
                "The tag pilotlight:isolation has the value 'cardboard'; it must be one of: container, "
                "process, memory."
            ),
        ),
    ],
)
def test_a_creation_that_breaks_a_rule_is_refused(
    client: Any, changes: dict[str, Any], code: str, message: str
) -> None:
    refused(code, 400, message, lambda **more: create(client, "never", **more), **changes)
    gone = f"Function not found: {ARN}never"
    refused("ResourceNotFoundException", 404, gone, client.get_function, FunctionName="never")


def test_environment_of_exactly_4_kb_is_accepted_and_one_byte_more_is_not(client: Any) -> None:
    room = 4096 - len('{"KEY":""}')
    create(client, "env-fits", Environment={"Variables": {"KEY": "x" * room}})
    client.delete_function(FunctionName="env-fits")
    with pytest.raises(ClientError, match=r"exceeded the 4KB limit\. String measured: "):
        create(client, "env-no", Environment={"Variables": {"KEY": "x" * (room + 1)}})


def test_a_taken_name_is_a_conflict(client: Any, function: str) -> None:
    refused(
        "ResourceConflictException",
        409,
        f"Function already exist: {function}",
        lambda: create(client, function),
    )


def test_defaults_are_those_of_the_service(client: Any) -> None:
    answer = create(client, "defaults")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert (
        answer
        | {
            "Timeout": 3,
            "MemorySize": 128,
            "EphemeralStorage": {"Size": 512},
            "Architectures": ["x86_64"],
            "Description": "",
            "PackageType": "Zip",
            "Version": "$LATEST",
            "State": "Pending",
            "StateReason": "The function is being created.",
            "StateReasonCode": "Creating",
            "TracingConfig": {"Mode": "PassThrough"},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/defaults"},
            "FunctionArn": ARN + "defaults",
        }
        == answer
    )
    assert not {"Environment", "Layers", "VpcConfig", "LastUpdateStatus"} & answer.keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", answer["LastModified"])
    client.delete_function(FunctionName="defaults")


@pytest.mark.parametrize("waiter", ["function_exists", "function_active", "function_active_v2"])
def test_waiters_for_creation_pass(client: Any, waiter: str) -> None:
    create(client, "awaited")
    client.get_waiter(waiter).wait(FunctionName="awaited", WaiterConfig={"Delay": 1})
    client.delete_function(FunctionName="awaited")


@pytest.mark.parametrize("waiter", ["function_updated", "function_updated_v2"])
def test_waiters_for_updates_pass(client: Any, function: str, waiter: str) -> None:
    client.update_function_configuration(FunctionName=function, Timeout=7)
    client.get_waiter(waiter).wait(FunctionName=function, WaiterConfig={"Delay": 1})
    assert client.get_function_configuration(FunctionName=function)["Timeout"] == 7


def test_an_update_leaves_what_it_does_not_name(client: Any, function: str) -> None:
    waiter = client.get_waiter("function_updated_v2")
    client.update_function_configuration(
        FunctionName=function, Description="d", Environment={"Variables": {"KEY": "1"}}
    )
    waiter.wait(FunctionName=function)
    client.update_function_configuration(FunctionName=function, MemorySize=256)
    waiter.wait(FunctionName=function)
    shown = client.get_function_configuration(FunctionName=function)
    assert (shown["Description"], shown["MemorySize"]) == ("d", 256)
    assert shown["Environment"] == {"Variables": {"KEY": "1"}}


def test_an_update_meanwhile_is_a_conflict_and_a_stale_revision_is_refused(
    client: Any, function: str
) -> None:
    before = client.get_function_configuration(FunctionName=function)["RevisionId"]
    after = client.update_function_configuration(
        FunctionName=function, Timeout=5, RevisionId=before
    )
    assert after["LastUpdateStatus"] == "InProgress"
    refused(
        "ResourceConflictException",
        409,
        "The operation cannot be performed at this time. An update is in progress for resource: "
        f"{ARN}{function}",
        client.update_function_code,
        FunctionName=function,
        ZipFile=package("new"),
    )
    client.get_waiter("function_updated_v2").wait(FunctionName=function)
    refused(
        "PreconditionFailedException",
        412,
        "The Revision Id provided does not match the latest Revision Id. Call the "
        "GetFunction/GetAlias API to retrieve the latest Revision Id",
        client.update_function_configuration,
        FunctionName=function,
        Timeout=6,
        RevisionId=before,
    )


def test_a_dry_run_changes_nothing(client: Any, function: str) -> None:
    before = client.get_function_configuration(FunctionName=function)
    shown = client.update_function_code(
        FunctionName=function, ZipFile=package("other"), DryRun=True
    )
    assert shown["CodeSha256"] != before["CodeSha256"]
    after = client.get_function_configuration(FunctionName=function)
    before.pop("ResponseMetadata")
    after.pop("ResponseMetadata")
    assert after == before


def test_the_code_location_downloads_the_same_bytes(client: Any, function: str) -> None:
    code = client.get_function(FunctionName=function)["Code"]
    assert code["RepositoryType"] == "S3"
    with urllib.request.urlopen(code["Location"]) as answer:  # noqa: S310  our own listener
        assert answer.read() == package(function)


@pytest.mark.parametrize(
    ("reference", "is_found"),
    [
        ("{name}", True),
        ("{name}:$LATEST", True),
        ("function:{name}", True),
        ("000000000000:function:{name}", True),
        ("arn:aws:lambda:us-east-1:000000000000:function:{name}", True),
        ("arn:aws:lambda:us-east-1:000000000000:function:{name}:$LATEST", True),
        ("{name}:7", False),
        ("{name}:live", False),
    ],
)
def test_references_in_all_forms(
    client: Any, function: str, reference: str, *, is_found: bool
) -> None:
    text = reference.format(name=function)
    if is_found:
        shown = client.get_function_configuration(FunctionName=text)
        assert shown["FunctionName"] == function
        qualifier = ":$LATEST" if text.endswith("$LATEST") else ""
        assert shown["FunctionArn"] == ARN + function + qualifier
    else:
        message = f"Function not found: {ARN}{text}"
        refused("ResourceNotFoundException", 404, message, client.get_function, FunctionName=text)


def test_lists_are_paged_with_opaque_markers(client: Any) -> None:
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        create(client, name)
    pages = list(client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2}))
    listed = [shown["FunctionName"] for page in pages for shown in page["Functions"]]
    assert [name for name in listed if name in names] == names
    assert all(len(page["Functions"]) <= 2 for page in pages)
    with pytest.raises(ClientError, match="Invalid Marker"):
        client.list_functions(Marker="forged")
    for name in names:
        client.delete_function(FunctionName=name)


def test_a_public_url_needs_url_config_and_permission(
    plane: ControlPlane, client: Any, function: str
) -> None:
    made = client.create_function_url_config(FunctionName=function, AuthType="NONE")
    url_id = made["FunctionUrl"].split("//")[1].split(".")[0]
    assert re.fullmatch(r"[a-z0-9]{32}", url_id)
    assert "InvokeMode" not in made
    seen = plane.view.url(url_id)
    assert seen is not None
    assert not seen.is_public
    permission = {
        "FunctionName": function,
        "StatementId": "public",
        "Action": "lambda:InvokeFunctionUrl",
        "Principal": "*",
        "FunctionUrlAuthType": "NONE",
    }
    statement = json.loads(client.add_permission(**permission)["Statement"])
    assert statement["Condition"] == {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}
    seen = plane.view.url(url_id)
    assert seen is not None
    assert seen.is_public
    refused(
        "ResourceConflictException",
        409,
        "The statement id (public) provided already exists. Please provide a new statement id, or "
        "remove the existing statement.",
        client.add_permission,
        **permission,
    )
    changed = client.update_function_url_config(FunctionName=function, AuthType="AWS_IAM")
    assert changed["AuthType"] == "AWS_IAM"
    listed = client.list_function_url_configs(FunctionName=function)["FunctionUrlConfigs"]
    assert [shown["AuthType"] for shown in listed] == ["AWS_IAM"]
    client.remove_permission(FunctionName=function, StatementId="public")
    seen = plane.view.url(url_id)
    assert seen is not None
    assert not seen.is_public
    client.delete_function_url_config(FunctionName=function)
    assert plane.view.url(url_id) is None


@pytest.mark.parametrize(
    ("cors", "told"),
    [
        (
            {"MaxAge": 86401},
            (
                "Value '86401' at 'cors.maxAge' failed to satisfy constraint: Member must have value "
                "less than or equal to 86400"
            ),
        ),
        (
            {"AllowMethods": ["GET", "OPTIONS"]},
            (
                "Value '[GET, OPTIONS]' at 'cors.allowMethods' failed to satisfy constraint: Member "
                "must satisfy constraint: [Member must have length less than or equal to 6, Member "
                "must have length greater than or equal to 0, Member must satisfy regular expression "
                "pattern: .*, Member must not be null]"
            ),
        ),
        (
            {"AllowOrigins": [f"https://{n}" for n in range(101)]},
            (
                "at 'cors.allowOrigins' failed to satisfy constraint: Member must have length less "
                "than or equal to 100"
            ),
        ),
    ],
)
def test_limits_of_cors(client: Any, function: str, cors: dict[str, Any], told: str) -> None:
    """Source: https://docs.aws.amazon.com/lambda/latest/api/API_Cors.html"""
    with pytest.raises(client.exceptions.ClientError) as error:
        client.create_function_url_config(FunctionName=function, AuthType="NONE", Cors=cors)
    assert error.value.response["Error"]["Code"] == "ValidationException"
    assert told in error.value.response["Error"]["Message"]


def test_cors_and_invoke_mode_change_apart(client: Any, function: str) -> None:
    cors = {"AllowOrigins": ["*"], "MaxAge": 5, "AllowCredentials": False}
    made = client.create_function_url_config(
        FunctionName=function, AuthType="NONE", InvokeMode="RESPONSE_STREAM", Cors=cors
    )
    assert (made["InvokeMode"], made["Cors"]) == ("RESPONSE_STREAM", cors)
    changed = client.update_function_url_config(FunctionName=function, InvokeMode="BUFFERED")
    assert (changed["InvokeMode"], changed["Cors"]) == ("BUFFERED", cors)
    changed = client.update_function_url_config(FunctionName=function, Cors={})
    assert "Cors" not in changed
    got = client.get_function_url_config(FunctionName=function)
    assert (got["AuthType"], got["InvokeMode"], "Cors" in got) == ("NONE", "BUFFERED", False)


def test_a_deleted_function_takes_its_url_along(plane: ControlPlane, client: Any) -> None:
    create(client, "with-url")
    made = client.create_function_url_config(FunctionName="with-url", AuthType="NONE")
    url_id = made["FunctionUrl"].split("//")[1].split(".")[0]
    client.delete_function(FunctionName="with-url")
    assert plane.view.url(url_id) is None
    assert plane.view.resolve("000000000000", "with-url", None) is None


def test_what_terraform_reads_is_answered(client: Any, function: str) -> None:
    assert "CodeSigningConfigArn" not in client.get_function_code_signing_config(
        FunctionName=function
    )
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(
        FunctionName=function
    )
    assert client.list_tags(Resource=ARN + function)["Tags"] == {}


def test_tags_change_the_revision_but_not_what_runs(
    plane: ControlPlane, client: Any, function: str
) -> None:
    def running() -> Any:
        resolved = plane.view.resolve("000000000000", function, None)
        assert resolved is not None
        return resolved.function

    before, shown = running(), client.get_function_configuration(FunctionName=function)
    client.tag_resource(Resource=ARN + function, Tags={"team": "a"})
    assert running() == before
    after = client.get_function_configuration(FunctionName=function)
    assert after["RevisionId"] != shown["RevisionId"]
    client.tag_resource(Resource=ARN + function, Tags={"pilotlight:isolation": "process"})
    assert running().isolation == "process"
    assert running().identity != before.identity


MISSING = sorted(MODEL.keys() - OPERATIONS.keys() - {"Invoke"})


@pytest.mark.parametrize("operation", MISSING)
def test_an_operation_that_is_missing_says_so(plane: ControlPlane, operation: str) -> None:
    loose = boto3.client(
        "lambda", **plane.client_settings(), config=Config(parameter_validation=False)
    )
    labels = re.findall(r"\{([^}]+)\}", MODEL[operation][1])
    with pytest.raises(ClientError) as caught:
        getattr(loose, xform_name(operation))(**dict.fromkeys(labels, "1"))
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 501
    assert operation in response["Error"]["Message"]


def test_regions_name_the_arns_of_their_calls(plane: ControlPlane, function: str) -> None:
    other = boto3.client("lambda", **plane.client_settings("eu-west-1"))
    shown = other.get_function_configuration(FunctionName=function)
    assert shown["FunctionArn"] == f"arn:aws:lambda:eu-west-1:000000000000:function:{function}"
    refused(
        "ResourceNotFoundException",
        404,
        "Functions from 'us-east-1' are not reachable in this region ('eu-west-1')",
        other.get_function,
        FunctionName=ARN + function,
    )


def test_lists_show_the_shorter_form(client: Any, function: str) -> None:
    listed = client.list_functions()["Functions"]
    shown = next(known for known in listed if known["FunctionName"] == function)
    assert not {"State", "LastUpdateStatus", "RuntimeVersionConfig"} & shown.keys()
    qualified = client.list_functions(FunctionVersion="ALL")["Functions"]
    arns = {known["FunctionArn"] for known in qualified}
    assert f"{ARN}{function}:$LATEST" in arns
