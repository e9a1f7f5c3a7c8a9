"""Function URLs by path and by host, and the aws CLI as a client."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pilotlight.testing.client import ROLE, zipped
from pilotlight.testing.platform import Platform

Deploy = Callable[..., str]
pytestmark = pytest.mark.timeout(120)

SHOW = """
import json

def handler(event, context):
    http = event["requestContext"]["http"]
    if http["path"] == "/teapot":
        return {"statusCode": 418, "headers": {"x-kind": "tea"}, "cookies": ["a=1", "b=2"], "body": "short"}
    if http["path"] == "/fail":
        raise ValueError("no")
    return {"path": event["rawPath"], "query": event["rawQueryString"], "method": http["method"],
            "body": event.get("body"), "cookies": event.get("cookies")}
"""


def request(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, list[tuple[str, str]], bytes]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", where.port, timeout=20)
    try:
        path = where.path + (f"?{where.query}" if where.query else "")
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        connection.close()


@pytest.fixture
def public(api: Any, deploy: Deploy) -> str:
    name = deploy(SHOW)
    url = str(api.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"])
    api.add_permission(
        FunctionName=name, StatementId="open", Action="lambda:InvokeFunctionUrl", Principal="*",
        FunctionUrlAuthType="NONE",
    )  # fmt: skip
    return url


def by_path(url: str) -> str:
    where = urlsplit(url)
    return f"http://127.0.0.1:{where.port}/url/{(where.hostname or '').partition('.')[0]}"


def test_a_url_answers_by_path_and_by_host(public: str) -> None:
    status, _, body = request(by_path(public) + "/a/b?x=1&y=2", headers={"cookie": "k=v; l=w"})
    expected = {
        "path": "/a/b",
        "query": "x=1&y=2",
        "method": "GET",
        "body": None,
        "cookies": ["k=v", "l=w"],
    }
    assert (status, json.loads(body)) == (200, expected)
    host = urlsplit(public).netloc
    status, _, body = request(public + "a/b?x=1&y=2", headers={"host": host, "cookie": "k=v; l=w"})
    assert (status, json.loads(body)) == (200, expected)


def test_the_functions_answer_decides_status_headers_and_cookies(public: str) -> None:
    status, headers, body = request(by_path(public) + "/teapot", method="POST", body=b"{}")
    assert (status, body) == (418, b"short")
    named = [(name.lower(), value) for name, value in headers]
    assert ("x-kind", "tea") in named
    assert [value for name, value in named if name == "set-cookie"] == ["a=1", "b=2"]


def test_a_failing_function_is_a_502(public: str) -> None:
    status, _, body = request(by_path(public) + "/fail")
    assert status == 502
    assert b"Internal Server Error" in body


def test_without_the_permission_a_url_is_forbidden(api: Any, deploy: Deploy) -> None:
    name = deploy(SHOW)
    url = str(api.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"])
    assert request(by_path(url) + "/")[0] == 403


def test_another_host_name_is_refused(public: str) -> None:
    status, _, body = request(by_path(public) + "/", headers={"host": "evil.example"})
    assert status == 421
    assert b"allowed_hosts" in body


def test_the_aws_cli_creates_and_invokes(platform: Platform, tmp_path: Path) -> None:
    keys = platform.credentials()
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": platform.url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": keys["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": keys["aws_secret_access_key"],
        "AWS_PAGER": "",
    }

    def aws(*words: str) -> str:
        command = [sys.executable, "-m", "awscli", "lambda", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    package = tmp_path / "package.zip"
    package.write_bytes(zipped({"app.py": "def handler(e, c):\n    return {'got': e}\n"}))
    aws("create-function", "--function-name", "by-cli", "--runtime", "python3.11", "--role", ROLE,
        "--handler", "app.handler", "--zip-file", f"fileb://{package}")  # fmt: skip
    aws("wait", "function-active-v2", "--function-name", "by-cli")
    out = tmp_path / "out.json"
    said = aws("invoke", "--function-name", "by-cli", "--payload", '{"n": 1}', str(out))
    assert json.loads(said)["StatusCode"] == 200
    assert json.loads(out.read_text()) == {"got": {"n": 1}}
    listed = json.loads(aws("list-functions"))
    assert "by-cli" in [f["FunctionName"] for f in listed["Functions"]]
    aws("delete-function", "--function-name", "by-cli")
