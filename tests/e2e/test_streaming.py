"""Streamed answers through a whole platform: sandbox, worker, frontend, boto3 and plain HTTP.

Nothing waits here by time. A handler that has more to say than all buffers between it and its
client hold cannot end before the client reads: what the client sees until then, it sees early.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pilotlight.testing.platform import Platform

Deploy = Callable[..., str]
pytestmark = pytest.mark.timeout(120)

CODE = """
import json

PIECE = b"0123456789abcdef" * 4096

def handler(event, context):
    context_of = event.get("requestContext")
    kind = context_of["http"]["path"][1:] if context_of else event["kind"]
    return {"much": much, "head": head, "broken": broken, "early": early}[kind]()

def plain(event, context):
    return {"statusCode": 202, "body": "at once"}

def much():
    yield b"first"
    for _ in range(1000):
        yield PIECE

def head():
    yield {"statusCode": 418, "headers": {"content-type": "text/plain", "x-kind": "tea"}, "cookies": ["a=1"]}
    yield "short "
    yield "and stout"

def broken():
    print("about to fail")
    yield "half"
    raise ValueError("in the middle")

def early():
    raise ValueError("before it began")
    yield
"""
PIECES = 1000
PIECE = b"0123456789abcdef" * 4096
MUCH = 5 + PIECES * len(PIECE)


def public(api: Any, name: str, mode: str) -> str:
    """A URL by its path."""
    made = api.create_function_url_config(FunctionName=name, AuthType="NONE", InvokeMode=mode)
    api.add_permission(
        FunctionName=name, StatementId="open", Action="lambda:InvokeFunctionUrl", Principal="*",
        FunctionUrlAuthType="NONE",
    )  # fmt: skip
    where = urlsplit(str(made["FunctionUrl"]))
    return f"http://127.0.0.1:{where.port}/url/{(where.hostname or '').partition('.')[0]}"


@contextmanager
def getting(url: str) -> Iterator[http.client.HTTPResponse]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", where.port, timeout=30)
    try:
        connection.request("GET", where.path)
        with connection.getresponse() as answer:
            yield answer
    finally:
        connection.close()


def environments(platform: Platform, name: str) -> list[dict[str, Any]]:
    """Environments of a function, as the platform tells an operator."""
    keys = platform.credentials()
    url = f"{platform.url}/api/v1/functions/{name}/environments"
    signed = AWSRequest("GET", url)
    secret = Credentials(keys["aws_access_key_id"], keys["aws_secret_access_key"])
    SigV4Auth(secret, "lambda", "us-east-1").add_auth(signed)
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request("GET", urlsplit(url).path, headers=dict(signed.headers.items()))
        found: list[dict[str, Any]] = json.load(connection.getresponse())["environments"]
    finally:
        connection.close()
    return found


def test_a_url_gives_the_first_byte_while_the_function_runs(
    platform: Platform, api: Any, deploy: Deploy
) -> None:
    name = deploy(CODE, Timeout=60)
    with getting(public(api, name, "RESPONSE_STREAM") + "/much") as answer:
        assert answer.status == 200
        assert answer.getheader("transfer-encoding") == "chunked"
        assert answer.getheader("content-type") == "application/octet-stream"
        assert answer.read(5) == b"first"
        assert [one["in_flight"] for one in environments(platform, name)] == [1]
        digest, count = hashlib.sha256(), 0
        while piece := answer.read(1 << 16):
            digest.update(piece)
            count += len(piece)
    assert count == MUCH - 5
    assert digest.digest() == hashlib.sha256(PIECE * PIECES).digest()


def test_a_url_takes_its_head_from_the_stream(api: Any, deploy: Deploy) -> None:
    name = deploy(CODE)
    url = public(api, name, "RESPONSE_STREAM")
    for _ in ("streamed", "buffered"):
        with getting(url + "/head") as answer:
            assert (answer.status, answer.read()) == (418, b"short and stout")
            assert answer.getheader("x-kind") == "tea"
            assert answer.getheader("content-type") == "text/plain"
            assert answer.getheader("set-cookie") == "a=1"
        api.update_function_url_config(FunctionName=name, InvokeMode="BUFFERED")


def test_a_body_that_breaks_is_not_taken_for_whole(api: Any, deploy: Deploy) -> None:
    name = deploy(CODE)
    url = public(api, name, "RESPONSE_STREAM")
    with getting(url + "/broken") as answer, pytest.raises(http.client.IncompleteRead) as caught:
        answer.read()
    assert caught.value.partial == b"half"
    with getting(url + "/early") as answer:
        assert answer.status == 502
    api.update_function_url_config(FunctionName=name, InvokeMode="BUFFERED")
    with getting(url + "/broken") as answer:
        assert answer.status == 502


def test_a_function_that_does_not_stream_answers_as_ever(api: Any, deploy: Deploy) -> None:
    name = deploy(CODE, Handler="app.plain")
    with getting(public(api, name, "RESPONSE_STREAM")) as answer:
        assert (answer.status, answer.read()) == (202, b"at once")


def test_boto3_reads_events_while_the_function_runs(api: Any, deploy: Deploy) -> None:
    name = deploy(CODE, Timeout=60)
    answer = api.invoke_with_response_stream(FunctionName=name, Payload=b'{"kind": "much"}')
    stream = iter(answer["EventStream"])
    assert next(stream) == {"PayloadChunk": {"Payload": b"first"}}
    count, last = 5, None
    for event in stream:
        assert last is None
        if "PayloadChunk" in event:
            count += len(event["PayloadChunk"]["Payload"])
        else:
            last = event
    assert (count, last) == (MUCH, {"InvokeComplete": {}})


def test_boto3_learns_how_it_broke(api: Any, deploy: Deploy) -> None:
    name = deploy(CODE)
    answer = api.invoke_with_response_stream(
        FunctionName=name, Payload=b'{"kind": "broken"}', LogType="Tail"
    )
    chunk, complete = answer["EventStream"]
    assert chunk == {"PayloadChunk": {"Payload": b"half"}}
    end = complete["InvokeComplete"]
    assert end["ErrorCode"] == "Unhandled"
    error = json.loads(end["ErrorDetails"])
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "in the middle")
    log = base64.b64decode(end["LogResult"]).decode()
    assert "about to fail" in log
    assert "[ERROR] ValueError: in the middle" in log
    assert "REPORT RequestId" in log


def test_invoke_gives_a_stream_whole(api: Any, deploy: Deploy) -> None:
    name = deploy(CODE)
    answer = api.invoke(FunctionName=name, Payload=b'{"kind": "head"}')
    head, _, body = answer["Payload"].read().partition(bytes(8))
    assert (json.loads(head)["statusCode"], body) == (418, b"short and stout")
    assert "FunctionError" not in answer
    answer = api.invoke(FunctionName=name, Payload=b'{"kind": "much"}')
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == "Function.ResponseSizeTooLarge"


def test_a_client_that_goes_leaves_the_function_to_its_end(
    platform: Platform, api: Any, deploy: Deploy
) -> None:
    name = deploy(CODE, Timeout=60)
    answer = api.invoke_with_response_stream(FunctionName=name, Payload=b'{"kind": "much"}')
    stream = iter(answer["EventStream"])
    assert next(stream) == {"PayloadChunk": {"Payload": b"first"}}
    answer["EventStream"].close()
    until_s = time.monotonic() + 30
    while [one["in_flight"] for one in environments(platform, name)] != [0]:
        assert time.monotonic() < until_s, "it stands still, though nobody holds it back"
        time.sleep(0.05)  # the platform has no event for it
    assert environments(platform, name)[0]["invocations"] == 1
