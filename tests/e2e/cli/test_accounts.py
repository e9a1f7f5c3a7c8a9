"""Accounts are tenants: nothing of one is seen, named or used by another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from pilotlight.cli.client import Client
from pilotlight.config.target import Target
from pilotlight.testing.client import create, invoke, isolation_arguments, zipped
from pilotlight.testing.platform import Platform, running_platform

pytestmark = [pytest.mark.timeout(240)]
Admin = Callable[..., Any]


def client_of(platform: Platform, key: dict[str, str], service: str = "lambda") -> Any:
    settings = platform.credentials() | {
        "aws_access_key_id": key["access_key_id"],
        "aws_secret_access_key": key["secret_access_key"],
    }
    return boto3.client(service, config=Config(retries={"max_attempts": 0}), **settings)


def admin(cli: Callable[..., Any], *arguments: str) -> Any:
    done = cli(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def tenants(cli: Callable[..., Any]) -> Iterator[list[dict[str, str]]]:
    """Keys of two accounts."""
    made = [admin(cli, "account", "create", name) for name in ("red", "blue")]
    yield [admin(cli, "key", "create", account["id"]) for account in made]
    for account in made:
        admin(cli, "account", "delete", account["id"])


def whoami(source: str) -> bytes:
    return zipped(
        {"app.py": f"def handler(event, context):\n    print(event)\n    return {source!r}\n"}
    )


def test_two_accounts_have_functions_of_the_same_name(
    platform: Platform, api: Any, tenants: list[dict[str, str]]
) -> None:
    clients = [client_of(platform, key) for key in tenants]
    for client, key in zip(clients, tenants, strict=True):
        create(client, "shared-name", whoami(key["account"]))
    for client, key in zip(clients, tenants, strict=True):
        assert invoke(client, "shared-name", f"line of {key['account']}")[0] == key["account"]
        listed = client.list_functions()["Functions"]
        assert [known["FunctionName"] for known in listed] == ["shared-name"]
        arn = listed[0]["FunctionArn"]
        assert f":{key['account']}:" in arn
        logs = client_of(platform, key, "logs")
        events = logs.filter_log_events(logGroupName="/aws/lambda/shared-name")["events"]
        said = [event["message"].strip() for event in events if "line of" in event["message"]]
        assert said == [f"line of {key['account']}"]
        usage = client.get_account_settings()["AccountUsage"]
        assert usage["FunctionCount"] == 1
        client.put_function_concurrency(FunctionName="shared-name", ReservedConcurrentExecutions=1)
    names = {known["FunctionName"] for known in api.list_functions()["Functions"]}
    assert "shared-name" not in names
    for client in clients:
        client.delete_function(FunctionName="shared-name")


def test_nothing_of_another_account_is_reached_by_its_arn(
    platform: Platform, tenants: list[dict[str, str]]
) -> None:
    red, blue = (client_of(platform, key) for key in tenants)
    create(red, "private", whoami("red"))
    layer = red.publish_layer_version(LayerName="mine", Content={"ZipFile": whoami("x")})
    arn = red.get_function_configuration(FunctionName="private")["FunctionArn"]
    for call in (
        blue.get_function,
        blue.get_function_configuration,
        blue.delete_function,
        blue.list_versions_by_function,
        blue.publish_version,
        blue.get_policy,
        blue.get_function_concurrency,
        blue.get_function_url_config,
        blue.list_aliases,
        blue.invoke,
    ):
        with pytest.raises(ClientError) as refused:
            call(FunctionName=arn)
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404)
    with pytest.raises(ClientError) as refused:
        blue.list_tags(Resource=arn)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404)
    with pytest.raises(ClientError, match="no resource-based policy allows"):
        blue.get_layer_version_by_arn(Arn=layer["LayerVersionArn"])
    red.add_layer_version_permission(
        LayerName="mine", VersionNumber=1, StatementId="blue",
        Action="lambda:GetLayerVersion", Principal=tenants[1]["account"],
    )  # fmt: skip
    assert blue.get_layer_version_by_arn(Arn=layer["LayerVersionArn"])["Version"] == 1
    assert invoke(red, "private", {})[0] == "red"
    red.delete_function(FunctionName="private")
    red.delete_layer_version(LayerName="mine", VersionNumber=1)


def test_a_caller_is_told_who_it_is(platform: Platform, tenants: list[dict[str, str]]) -> None:
    for key in tenants:
        told = client_of(platform, key, "sts").get_caller_identity()
        assert told["Account"] == key["account"]
        assert told["Arn"] == f"arn:aws:iam::{key['account']}:root"
    with pytest.raises(ClientError) as refused:
        client_of(platform, tenants[0], "sts").get_session_token()
    assert refused.value.response["Error"]["Code"] == "InvalidAction"


def test_a_deleted_key_is_refused_at_once(
    platform: Platform, cli: Callable[..., Any], tenants: list[dict[str, str]]
) -> None:
    key = admin(cli, "key", "create", tenants[0]["account"])
    client = client_of(platform, key)
    client.list_functions()
    admin(cli, "key", "delete", key["access_key_id"])
    with pytest.raises(ClientError) as refused:
        client.list_functions()
    assert refused.value.response["Error"]["Code"] == "UnrecognizedClientException"
    client_of(platform, tenants[0]).list_functions()


def test_tenants_manage_nobody(
    platform: Platform, cli: Callable[..., Any], variables: dict[str, str],
    tenants: list[dict[str, str]],
) -> None:  # fmt: skip
    keys = {
        "PILOTLIGHT_ROOT_ACCESS_KEY_ID": tenants[0]["access_key_id"],
        "PILOTLIGHT_ROOT_SECRET_ACCESS_KEY": tenants[0]["secret_access_key"],
    }
    for arguments in (("account", "ls"), ("account", "create", "more"), ("key", "ls")):
        where = ("--data-dir", str(platform.data_dir))
        refused = cli(*arguments, *where, env=variables | keys)
        assert refused.returncode != 0
        assert "AccessDeniedException" in refused.stderr


def test_an_account_with_functions_stays(
    platform: Platform, cli: Callable[..., Any], tenants: list[dict[str, str]]
) -> None:
    client = client_of(platform, tenants[0])
    create(client, "kept", whoami("x"))
    refused = cli("account", "delete", tenants[0]["account"])
    assert refused.returncode != 0
    assert "still has functions" in refused.stderr
    client.delete_function(FunctionName="kept")


def test_keys_outlive_a_restart_and_no_file_has_their_secrets(tmp_path: Path) -> None:
    data = tmp_path / "data"

    def send(platform: Platform, path: str, content: dict[str, str]) -> dict[str, str]:
        keys = platform.credentials()
        target = Target(
            endpoint=keys["endpoint_url"], region=keys["region_name"],
            access_key_id=keys["aws_access_key_id"],
            secret_access_key=keys["aws_secret_access_key"], origin="the test",
        )  # fmt: skip
        with closing(Client(target)) as client:
            made: dict[str, str] = client.send("POST", path, content)
        return made

    with running_platform(data, *isolation_arguments()) as platform:
        account = send(platform, "/api/v1/accounts", {"name": "green"})
        key = send(platform, "/api/v1/keys", {"account": account["id"]})
        client_of(platform, key).list_functions()
    secret = key["secret_access_key"].encode()
    files = [path for path in data.rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    assert not [path for path in files if secret in path.read_bytes()]
    with running_platform(data, *isolation_arguments()) as platform:
        assert client_of(platform, key).list_functions()["Functions"] == []
