"""One real platform for the end-to-end tests of a session, and clients of it."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from pilotlight.testing.platform import Platform, running_platform

ROLE = "arn:aws:iam::000000000000:role/e2e"


def isolation_arguments() -> tuple[str, ...]:
    """Containers as root; an ordinary user on cgroup v1 has no memory limit and says so."""
    return () if os.geteuid() == 0 else ("--allow-missing", "memory")


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("platform") / "data", *isolation_arguments()) as one:
        yield one


def lambda_client(platform: Platform) -> Any:
    config = Config(retries={"max_attempts": 0}, read_timeout=60, max_pool_connections=64)
    return boto3.client("lambda", config=config, **platform.credentials())


@pytest.fixture(scope="session")
def api(platform: Platform) -> Any:
    return lambda_client(platform)


def zipped(files: dict[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def zipped_folder(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def create(client: Any, name: str, package: bytes, **settings: Any) -> None:
    client.create_function(
        FunctionName=name,
        Role=ROLE,
        Code={"ZipFile": package},
        **{"Runtime": "python3.11", "Handler": "app.handler", "Timeout": 10, **settings},
    )
    client.get_waiter("function_active_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


Deploy = Callable[..., str]


@pytest.fixture
def deploy(api: Any, request: pytest.FixtureRequest) -> Iterator[Deploy]:
    """Deploy source as a function of this test; it is deleted afterwards."""
    names: list[str] = []

    def one(source: str | dict[str, str | bytes] | bytes, **settings: Any) -> str:
        name = f"f{len(names)}-{request.node.name}"[:60].translate(
            {ord(c): "-" for c in "[]./ :"}
        )
        if isinstance(source, str):
            source = {"app.py": source}
        names.append(name)
        create(api, name, source if isinstance(source, bytes) else zipped(source), **settings)
        return name

    yield one
    for name in names:
        api.delete_function(FunctionName=name)
