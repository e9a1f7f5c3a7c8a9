"""Violations in the service's own words.

The texts are what the service answers; AWS documents the constraints behind them on the page of
each operation: https://docs.aws.amazon.com/lambda/latest/api/API_Operations.html
"""

from __future__ import annotations

import pytest

from pilotlight.model.errors import ApiError
from pilotlight.wire.lambda_api import validate

ROLE = "arn:aws:iam::000000000000:role/lambda"
FUNCTION: dict[str, object] = {
    "FunctionName": "f",
    "Runtime": "python3.12",
    "Role": ROLE,
    "Handler": "index.handler",
    "Code": {"ZipFile": b"zip"},
}
REGEX = "Member must satisfy regular expression pattern: "
ENUM = "Member must satisfy enum value set: "
FUNCTION_NAME = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?"
    r"(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?"
)
URL_QUALIFIER = r"((?!^\d+$)^[0-9a-zA-Z-_]+$)"
TAGGABLE = (
    r"arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:"
    r"(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|layer:([a-zA-Z0-9-_]+)|"
    r"code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-"
    r"[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|capacity-provider:[a-zA-Z0-9-_]+)"
)
PERMISSION: dict[str, object] = {
    "FunctionName": "f",
    "Action": "lambda:InvokeFunction",
    "StatementId": "s3",
    "Principal": "s3.amazonaws.com",
}
LAYER_PERMISSION: dict[str, object] = {
    "LayerName": "l",
    "VersionNumber": 1,
    "StatementId": "s",
    "Action": "lambda:GetLayerVersion",
    "Principal": "*",
}
ARN = f"arn:aws:lambda:us-east-1:000000000000:function:{'a' * 110}"


def at(value: str, member: str, constraint: str) -> str:
    return f"Value '{value}' at '{member}' failed to satisfy constraint: {constraint}"


def refusal(operation: str, params: dict[str, object]) -> str:
    with pytest.raises(ApiError) as caught:
        validate(operation, params)
    assert caught.value.code == "ValidationException"
    assert caught.value.status == 400
    return caught.value.message


@pytest.mark.parametrize(
    ("operation", "params", "violation"),
    [
        (
            "CreateFunction",
            FUNCTION | {"Role": "r1"},
            at(
                "r1",
                "role",
                REGEX + r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+",
            ),
        ),
        (
            "CreateFunction",
            FUNCTION | {"Architectures": ["x86_64", "arm64"]},
            at(
                "[x86_64, arm64]",
                "architectures",
                "Member must have length less than or equal to 1",
            ),
        ),
        (
            "CreateFunction",
            FUNCTION | {"Architectures": ["X86_64"]},
            at(
                "[X86_64]",
                "architectures",
                f"Member must satisfy constraint: [{ENUM}[x86_64, arm64], Member must not be null]",
            ),
        ),
        (
            "CreateFunction",
            FUNCTION | {"FunctionName": "invalid:function:name"},
            at("invalid:function:name", "functionName", REGEX + FUNCTION_NAME),
        ),
        (
            "CreateFunction",
            FUNCTION | {"FunctionName": ARN},
            at(ARN, "functionName", "Member must have length less than or equal to 140"),
        ),
        (
            "CreateFunction",
            FUNCTION | {"SnapStart": {"ApplyOn": "invalidOption"}},
            at("invalidOption", "snapStart.applyOn", ENUM + "[PublishedVersions, None]"),
        ),
        (
            "CreateFunction",
            FUNCTION | {"Timeout": 901},
            at("901", "timeout", "Member must have value less than or equal to 900"),
        ),
        (
            "CreateFunction",
            FUNCTION | {"MemorySize": 127},
            at("127", "memorySize", "Member must have value greater than or equal to 128"),
        ),
        (
            "CreateFunction",
            FUNCTION | {"MemorySize": 10241},
            at("10241", "memorySize", "Member must have value less than or equal to 10240"),
        ),
        (
            "CreateFunction",
            FUNCTION | {"Environment": {"Variables": {"1a": "secret"}}},
            (
                "Value at 'environment.variables' failed to satisfy constraint: Map keys must "
                f"satisfy constraint: [{REGEX}[a-zA-Z]([a-zA-Z0-9_])+]"
            ),
        ),
        (
            "ListFunctions",
            {"FunctionVersion": "invalid"},
            at("invalid", "functionVersion", ENUM + "[ALL]"),
        ),
        (
            "AddLayerVersionPermission",
            LAYER_PERMISSION | {"Action": "*"},
            at("*", "action", REGEX + "lambda:GetLayerVersion"),
        ),
        (
            "AddPermission",
            PERMISSION | {"StatementId": "example.com"},
            at("example.com", "statementId", REGEX + "([a-zA-Z0-9-_]+)"),
        ),
        (
            "AddPermission",
            PERMISSION | {"Qualifier": "with-?-char"},
            at("with-?-char", "qualifier", REGEX + r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"),
        ),
        (
            "PutFunctionRecursionConfig",
            {"FunctionName": "f", "RecursiveLoop": "InvalidValue"},
            at("InvalidValue", "recursiveLoop", ENUM + "[Terminate, Allow]"),
        ),
        (
            "TagResource",
            {"Resource": "arn:aws:something", "Tags": {"key": "value"}},
            at("arn:aws:something", "resource", REGEX + TAGGABLE),
        ),
        (
            "UntagResource",
            {"Resource": "arn:aws:lambda:us-east-1:000000000000:function:f"},
            "Value null at 'tagKeys' failed to satisfy constraint: Member must not be null",
        ),
        *(
            (
                operation,
                {"FunctionName": "f", "Qualifier": qualifier} | more,
                at(qualifier, "qualifier", REGEX + URL_QUALIFIER),
            )
            for operation, more in (
                ("CreateFunctionUrlConfig", {"AuthType": "NONE"}),
                ("GetFunctionUrlConfig", {}),
                ("UpdateFunctionUrlConfig", {"AuthType": "AWS_IAM"}),
                ("DeleteFunctionUrlConfig", {}),
            )
            for qualifier in ("1", "2", "$LATEST")
        ),
        (
            "CreateFunctionUrlConfig",
            {"FunctionName": "f", "AuthType": "NONE", "InvokeMode": "UNKNOWN"},
            at("UNKNOWN", "invokeMode", ENUM + "[RESPONSE_STREAM, BUFFERED]"),
        ),
        (
            "CreateEventSourceMapping",
            {"FunctionName": "f", "StartingPosition": ""},
            at("", "startingPosition", ENUM + "[LATEST, AT_TIMESTAMP, TRIM_HORIZON]"),
        ),
        (
            "CreateFunctionUrlConfig",
            {"FunctionName": "f", "AuthType": "NONE", "Cors": {"AllowMethods": ["GET", "OPTIONS"]}},
            at(
                "[GET, OPTIONS]",
                "cors.allowMethods",
                "Member must satisfy constraint: [Member must have length less than or equal to 6, "
                "Member must have length greater than or equal to 0, "
                f"{REGEX}.*, Member must not be null]",
            ),
        ),
    ],
)
def test_a_violation_has_the_words_of_the_service(
    operation: str, params: dict[str, object], violation: str
) -> None:
    assert refusal(operation, params) == f"1 validation error detected: {violation}"


def test_all_violations_are_reported_at_once() -> None:
    message = refusal("CreateFunction", {"FunctionName": "a b", "Role": "r", "Code": {}})
    assert message.startswith("2 validation errors detected: Value 'a b' at 'functionName' ")
    assert f"{FUNCTION_NAME}; Value 'r' at 'role' " in message


def test_members_of_structures_in_lists_are_numbered_from_one() -> None:
    config = {"Arn": "arn:aws:x", "LocalMountPath": "/mnt/a"}
    message = refusal("CreateFunction", FUNCTION | {"FileSystemConfigs": [config]})
    assert "Value 'arn:aws:x' at 'fileSystemConfigs.1.member.arn' " in message


def test_a_null_in_a_list_is_a_violation() -> None:
    message = refusal("CreateFunction", FUNCTION | {"Architectures": [None]})
    assert "Value '[null]' at 'architectures'" in message


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("CreateFunction", FUNCTION),
        (
            "CreateFunction",
            FUNCTION | {"FunctionName": f"arn:aws:lambda:us-east-1:{'0' * 12}:function:f"},
        ),
        ("CreateFunction", FUNCTION | {"Runtime": "python9.9"}),  # refused later, otherwise
        ("CreateFunction", FUNCTION | {"KMSKeyArn": "", "Description": "", "Timeout": 900}),
        ("TagResource", {"Resource": ARN[:60], "Tags": {"ключ /x+": "значение ½"}}),
        ("Invoke", {"FunctionName": "f:$LATEST", "Payload": b"{}", "Qualifier": "live"}),
        ("GetFunction", {"FunctionName": "000000000000:function:f"}),
    ],
)
def test_what_the_service_accepts_passes(operation: str, params: dict[str, object]) -> None:
    validate(operation, params)


def test_tags_admit_only_letters_numbers_separators_and_some_signs() -> None:
    message = refusal("TagResource", {"Resource": ARN[:60], "Tags": {"a": "b*"}})
    assert "Value '{a=b*}' at 'tags' failed to satisfy constraint: Map value must" in message


def test_lengths_are_counted_in_utf_16_units() -> None:
    validate("CreateFunction", FUNCTION | {"Description": "é" * 256})
    validate("CreateFunction", FUNCTION | {"Description": "🔥" * 128})
    message = refusal("CreateFunction", FUNCTION | {"Description": "🔥" * 129})
    assert message.endswith("Member must have length less than or equal to 256")


def test_an_answer_repeats_a_bounded_part_of_a_hostile_request() -> None:
    message = refusal("CreateFunction", FUNCTION | {"Handler": "h" * 1_000_000})
    assert len(message) < 20_000
    many = [{"Arn": "x", "LocalMountPath": "y"}] * 10_000
    assert len(refusal("CreateFunction", FUNCTION | {"FileSystemConfigs": many})) < 2_000_000


@pytest.mark.parametrize("text", ["a" * 10_000, "a-" * 5_000, "a:" * 5_000, "a." * 5_000 + "!"])
def test_patterns_do_not_backtrack_without_end(text: str) -> None:
    endpoints = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": [text[:300]]}}
    params: dict[str, object] = {
        "FunctionName": text,
        "EventSourceArn": text,
        "SelfManagedEventSource": endpoints,
    }
    refusal("CreateEventSourceMapping", params)
    refusal("CreateFunction", FUNCTION | {"Role": text, "Handler": text, "Layers": [text]})
