"""What a user of boto3 does with a platform: package, create, invoke. Needs boto3 installed."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from pilotlight.testing.platform import Platform

ROLE = "arn:aws:iam::000000000000:role/e2e"
ECHO = "def handler(event, context):\n    return event\n"


def isolation_arguments() -> tuple[str, ...]:
    """Containers as root; an ordinary user may have no memory limit and has to say so."""
    return () if os.geteuid() == 0 else ("--allow-missing", "memory")


def lambda_client(platform: Platform) -> Any:  # noqa: ANN401  (boto3 is untyped)
    """A Lambda client without retries."""
    config = Config(retries={"max_attempts": 0}, read_timeout=60, max_pool_connections=64)
    return boto3.client("lambda", config=config, **platform.credentials())


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """A package with these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def zipped_folder(folder: Path) -> bytes:
    """A package of all files below a folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def create(client: Any, name: str, package: bytes, **settings: Any) -> None:  # noqa: ANN401
    """Create a function and wait until it is active."""
    client.create_function(
        FunctionName=name,
        Role=ROLE,
        Code={"ZipFile": package},
        **{"Runtime": "python3.11", "Handler": "app.handler", "Timeout": 10, **settings},
    )
    client.get_waiter("function_active_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


def invoke(
    client: Any,  # noqa: ANN401
    name: str,
    event: Any = None,  # noqa: ANN401
    **more: Any,  # noqa: ANN401
) -> tuple[Any, dict[str, Any]]:
    """Invoke; return the decoded answer and all that boto3 returned."""
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event).encode(), **more)
    return json.loads(answer["Payload"].read() or b"null"), answer
