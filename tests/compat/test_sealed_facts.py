"""Environment variables through the API: sealed in the registry, open in answers."""

from __future__ import annotations

import asyncio
import io
import itertools
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config

from pilotlight.ports.registry import Put
from pilotlight.testing.control_plane import ControlPlane, serving
from pilotlight.wire import records
from pilotlight.wire.records import FunctionRecord, replaced

pytestmark = pytest.mark.timeout(60)

ACCOUNT = "000000000000"
VALUE = "plain-and-precious"
NAMES = (f"f{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def client(plane: ControlPlane) -> Any:
    settings = Config(retries={"max_attempts": 0})
    return boto3.client("lambda", **plane.client_settings(), config=settings)


def create(client: Any, variables: dict[str, str]) -> str:
    name = next(NAMES)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("handler.py"), "")
    client.create_function(
        FunctionName=name, Runtime="python3.12", Handler="handler.handler",
        Role="arn:aws:iam::000000000000:role/any", Code={"ZipFile": buffer.getvalue()},
        Environment={"Variables": variables},
    )  # fmt: skip
    settle(client, name)
    return name


def settle(client: Any, name: str) -> None:
    for waiter in ("function_active_v2", "function_updated_v2"):
        client.get_waiter(waiter).wait(
            FunctionName=name, WaiterConfig={"Delay": 0.02, "MaxAttempts": 500}
        )


def stored(plane: ControlPlane, name: str) -> FunctionRecord:
    found = asyncio.run(plane.store.get(records.FUNCTION, ACCOUNT, name))
    assert found is not None
    return records.decode(FunctionRecord, found.body)


def put(plane: ControlPlane, record: FunctionRecord) -> None:
    body = records.encode(record)
    change = Put(records.FUNCTION, ACCOUNT, record.current.name, body)
    asyncio.run(plane.store.commit((change,)))


def test_records_have_no_variable_in_the_open(plane: ControlPlane, client: Any) -> None:
    name = create(client, {"KEY": VALUE})
    client.publish_version(FunctionName=name)
    for kind in (records.FUNCTION, records.VERSION):
        for record in asyncio.run(plane.store.list(kind, ACCOUNT)):
            assert VALUE.encode() not in record.body
    shown = client.get_function_configuration(FunctionName=name, Qualifier="1")
    assert shown["Environment"] == {"Variables": {"KEY": VALUE}}


def test_equal_variables_are_no_change(client: Any) -> None:
    name = create(client, {"KEY": VALUE})
    client.publish_version(FunctionName=name)
    client.update_function_configuration(
        FunctionName=name, Environment={"Variables": {"KEY": VALUE}}
    )
    settle(client, name)
    assert client.publish_version(FunctionName=name)["Version"] == "1"
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {"KEY": "x"}})
    settle(client, name)
    assert client.publish_version(FunctionName=name)["Version"] == "2"


def test_a_seal_of_another_function_is_shown_as_an_error(plane: ControlPlane, client: Any) -> None:
    name, other = create(client, {"KEY": VALUE}), create(client, {"KEY": "other"})
    record, foreign = stored(plane, name), stored(plane, other)
    moved = replace(record.current, sealed_environment=foreign.current.sealed_environment)
    put(plane, replaced(record, current=moved))
    shown = client.get_function_configuration(FunctionName=name)["Environment"]
    assert shown["Error"]["ErrorCode"] == "KMSInvalidStateException"
    assert "belongs to another function" in shown["Error"]["Message"]
    assert "Variables" not in shown


def test_variables_of_an_older_release_are_sealed_by_the_next_update(
    plane: ControlPlane, client: Any
) -> None:
    name = create(client, {})
    record = stored(plane, name)
    old = replace(record.current, environment={"KEY": VALUE}, sealed_environment=None)
    put(plane, replaced(record, current=old, serving=old))
    expected = {"Variables": {"KEY": VALUE}}
    assert client.get_function_configuration(FunctionName=name)["Environment"] == expected
    client.update_function_configuration(FunctionName=name, Description="touched")
    settle(client, name)
    assert stored(plane, name).current.environment is None
    assert client.get_function_configuration(FunctionName=name)["Environment"] == expected
