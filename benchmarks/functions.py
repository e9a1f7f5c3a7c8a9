"""Functions that the scenarios deploy, and a boto3 client to deploy them."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import boto3
from botocore.config import Config

from pilotlight.testing.platform import Platform

ECHO_URL = """
import json

def handler(event, context):
    return {"statusCode": 200, "headers": {"content-type": "application/json"},
            "body": json.dumps(json.loads(event["body"]))}
"""
ECHO = "def handler(event, context):\n    return event\n"
ROLE = "arn:aws:iam::000000000000:role/bench"


def package(source: str, name: str = "app.py") -> bytes:
    """A zip with one module."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), source)
    return buffer.getvalue()


def client(platform: Platform) -> Any:
    """A boto3 Lambda client without retries."""
    config = Config(retries={"max_attempts": 0}, read_timeout=120, max_pool_connections=64)
    return boto3.client("lambda", config=config, **platform.credentials())


def deploy(api: Any, name: str, source: str, **settings: Any) -> None:
    """Create a function and wait until it is active."""
    api.create_function(
        FunctionName=name,
        Runtime=settings.pop("Runtime", "python3.11"),
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": package(source)},
        **{"MemorySize": 512, "Timeout": 30, **settings},
    )
    api.get_waiter("function_active_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


def public_url(api: Any, name: str) -> str:
    """A function URL that anybody may call, in its path form."""
    url = api.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
    api.add_permission(
        FunctionName=name,
        StatementId="public",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )
    host, _, _ = url.removeprefix("http://").partition("/")
    label, _, rest = host.partition(".")
    return f"http://127.0.0.1:{rest.rpartition(':')[2]}/url/{label}/"
