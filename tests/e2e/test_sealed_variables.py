"""No file of an installation holds an environment variable in the open."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from pilotlight.testing.client import create, invoke, isolation_arguments, lambda_client, zipped
from pilotlight.testing.platform import running_platform

pytestmark = [pytest.mark.timeout(180)]

VALUE = "plain-and-precious-7c1f"
SOURCE = "import os\ndef handler(event, context):\n    return len(os.environ['KEY'])\n"


def files_with(folder: Path, text: bytes) -> list[str]:
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and text in path.read_bytes()
    ]


def test_variables_are_sealed_in_every_file(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_platform(data, *isolation_arguments()) as platform:
        api = lambda_client(platform)
        package = zipped({"app.py": SOURCE})
        create(api, "sealed", package, Environment={"Variables": {"KEY": VALUE}})
        api.publish_version(FunctionName="sealed")
        assert invoke(api, "sealed", {})[0] == len(VALUE)
        assert invoke(api, "sealed:1", {})[0] == len(VALUE)
    assert files_with(data, VALUE.encode()) == []
    assert files_with(data, base64.b64encode(VALUE.encode())) == []
    assert files_with(data, b"sealed"), "the search finds nothing at all"
    with running_platform(data, *isolation_arguments()) as platform:
        api = lambda_client(platform)
        assert invoke(api, "sealed", {})[0] == len(VALUE)
        shown = api.get_function_configuration(FunctionName="sealed")
        assert shown["Environment"] == {"Variables": {"KEY": VALUE}}


def test_without_the_key_an_invocation_says_what_is_missing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_platform(data, *isolation_arguments()) as platform:
        api = lambda_client(platform)
        package = zipped({"app.py": SOURCE})
        create(api, "locked", package, Environment={"Variables": {"KEY": VALUE}})
    keys = data / "keys.json"
    document = json.loads(keys.read_text())
    document["keys"] = {"other": base64.b64encode(bytes(32)).decode()}
    keys.write_text(json.dumps(document | {"current": "other"}))
    with running_platform(data, *isolation_arguments()) as platform:
        api = lambda_client(platform)
        with pytest.raises(ClientError, match="restore that file from a backup") as refused:
            invoke(api, "locked", {})
        assert refused.value.response["Error"]["Code"] == "KMSInvalidStateException"
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 502
        shown = api.get_function_configuration(FunctionName="locked")
        assert shown["Environment"]["Error"]["ErrorCode"] == "KMSInvalidStateException"
