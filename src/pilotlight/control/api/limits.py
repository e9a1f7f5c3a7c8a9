"""Rules for a function's configuration that the API's model does not express.

Each raises `ApiError` with the service's own text. Sources: the parameters of CreateFunction in
the API reference and https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pilotlight.model import limits
from pilotlight.model.errors import ApiError

_SHOWN_RUNTIMES = (
    "nodejs20.x, python3.14, provided.al2023, python3.12, python3.13, nodejs24.x, nodejs22.x, "
    "java25, python3.10, python3.11, java21, ruby3.3, ruby3.4, ruby3.2, python3.8, python3.9, "
    "java17, nodejs16.x, dotnet10, dotnet8, java11, dotnet6, nodejs18.x, provided.al2, java8.al2"
)
_NEWER_RUNTIMES = (
    "ruby4.0",
    "nodejs26.x",
    "python3.15",
    "java8.al2023",
    "java11.al2023",
    "java17.al2023",
)
RUNTIMES = frozenset((*_SHOWN_RUNTIMES.split(", "), *_NEWER_RUNTIMES))
"""Runtimes a function may be created with."""
DEPRECATED_RUNTIMES = frozenset(
    [
        "nodejs",
        "nodejs4.3",
        "nodejs4.3-edge",
        "nodejs6.10",
        "nodejs8.10",
        "nodejs10.x",
        "nodejs12.x",
        "nodejs14.x",
        "java8",
        "python2.7",
        "python3.6",
        "python3.7",
        "dotnetcore1.0",
        "dotnetcore2.0",
        "dotnetcore2.1",
        "dotnetcore3.1",
        "go1.x",
        "ruby2.5",
        "ruby2.7",
        "provided",
    ]
)

RESERVED_VARIABLES = frozenset(
    [
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
    ]
)
"""See "Reserved environment variables" in the developer guide."""


def invalid(message: str) -> ApiError:
    """An InvalidParameterValueException."""
    return ApiError("InvalidParameterValueException", message)


def check_runtime(runtime: str | None) -> None:
    """Check the runtime, where given."""
    if runtime is None or runtime in RUNTIMES:
        return
    if runtime in DEPRECATED_RUNTIMES:
        raise invalid(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating "
            "AWS Lambda functions. We recommend you use a supported runtime while creating or "
            "updating functions."
        )
    raise invalid(
        f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum "
        f"value set: [{_SHOWN_RUNTIMES}] or be a valid ARN"
    )


def check_environment(variables: Mapping[str, str] | None) -> None:
    """Check names and size of the environment variables, where given."""
    if not variables:
        return
    reserved = [name for name in variables if name in RESERVED_VARIABLES]
    if reserved:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment "
            "variables you have provided contains reserved keys that are currently not supported "
            f"for modification. Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = json.dumps(variables, separators=(",", ":"), ensure_ascii=False)
    if len(measured.encode()) > limits.ENVIRONMENT_BYTES:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment "
            "variables you have provided exceeded the 4KB limit. "
            f"String measured: {measured}"
        )


def check_zip_members(params: Mapping[str, Any]) -> None:
    """Check that a function made from a zip has a runtime and a handler."""
    if not params.get("Runtime") or not params.get("Handler"):
        raise invalid(
            "Runtime and Handler are mandatory parameters for functions created with deployment "
            "packages."
        )


def check_package(package: bytes | None, params: Mapping[str, Any]) -> bytes:
    """Return the zip of a direct upload; refuse what this installation cannot fetch."""
    if params.get("ImageUri"):
        raise invalid("Functions from container images are not supported here: give a ZipFile.")
    if not package:
        raise invalid("Please provide a source for function code.")
    if len(package) > limits.PACKAGE_BYTES:
        raise ApiError(
            "RequestTooLargeException",
            f"The package has {len(package)} bytes; a direct upload may have at most "
            f"{limits.PACKAGE_BYTES}.",
        )
    return package
