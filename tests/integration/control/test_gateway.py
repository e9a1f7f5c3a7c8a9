"""The gateway over real HTTP, as a hostile or a plain client meets it."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import io
import json
import socket
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from pilotlight.control.gateway import create_app
from pilotlight.kernel.system import SystemClock
from pilotlight.model.errors import StorageFull
from pilotlight.ports.auth import SignedRequest
from pilotlight.ports.telemetry import LogLine
from pilotlight.testing.control_plane import ACCOUNT, ROOT, ControlPlane, serving
from pilotlight.wire import sigv4

pytestmark = pytest.mark.timeout(60)
FUNCTIONS = "/2015-03-31/functions"


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with serving() as running:
        yield running


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.headers.get("x-amzn-errortype", "")


def signature(plane: ControlPlane, method: str, target: str, body_sha256: str) -> dict[str, str]:
    path, _, query = target.partition("?")
    host = f"127.0.0.1:{plane.port}"
    request = SignedRequest(
        method.encode(), path.encode(), query.encode(), [(b"host", host.encode())]
    )
    added = sigv4.sign(
        request,
        credentials=sigv4.SigningCredentials(ROOT.access_key, ROOT.secret_key),
        region="us-east-1",
        service="lambda",
        now_s=SystemClock().wall(),
        body_sha256=body_sha256,
    )
    return {name.decode(): value.decode() for name, value in added}


def send(
    plane: ControlPlane,
    method: str,
    target: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    is_signed: bool = True,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=20)
    try:
        all_headers = dict(headers or {})
        if is_signed:
            digest = hashlib.sha256(body).hexdigest()
            all_headers = signature(plane, method, target, digest) | all_headers
        connection.request(method, target, body=body or None, headers=all_headers)
        return Answer(connection.getresponse())
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "status"), [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/nowhere", 404)]
)
def test_open_paths_need_no_signature(plane: ControlPlane, path: str, status: int) -> None:
    answer = send(plane, "GET", path, is_signed=False)
    assert answer.status == status
    assert len(answer.headers["x-amzn-requestid"]) == 36


def test_beyond_loopback_metrics_need_a_signature_and_readiness_says_no_more(
    plane: ControlPlane,
) -> None:
    """Decision D17: nothing listens beyond loopback without credentials."""
    parts = replace(plane.gateway, is_local=False, readiness=lambda: ("the database",))
    app = create_app(parts)

    def get(path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send_one(message: Any) -> None:
            sent.append(message)

        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        raw.append((b"host", f"127.0.0.1:{plane.port}".encode()))
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
            "query_string": b"", "headers": raw, "scheme": "http", "root_path": "",
        }  # fmt: skip
        asyncio.run(app(scope, receive, send_one))
        return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])

    assert get("/metrics", {})[0] == 403
    forged = signature(plane, "GET", "/metrics", sigv4.EMPTY_SHA256)
    forged["authorization"] = forged["authorization"][:-4] + "0000"
    assert get("/metrics", forged)[0] == 403
    signed = signature(plane, "GET", "/metrics", sigv4.EMPTY_SHA256)
    assert get("/metrics", signed) == (200, b"up 1\n")
    assert get("/healthz", {})[0] == 200
    assert get("/readyz", {}) == (503, b'{"ready":false}')


def test_an_unsigned_request_is_refused_before_its_body_is_read(plane: ControlPlane) -> None:
    with socket.create_connection(("127.0.0.1", plane.port), timeout=20) as connection:
        head = (
            f"POST {FUNCTIONS} HTTP/1.1\r\nHost: 127.0.0.1:{plane.port}\r\n"
            "Content-Length: 70000000\r\n\r\n"
        )
        connection.sendall(head.encode())
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"MissingAuthenticationTokenException" in answer


def test_a_wrong_secret_and_an_unknown_key_are_told_apart(plane: ControlPlane) -> None:
    wrong = plane.client_settings() | {"aws_secret_access_key": "not-the-secret"}
    with pytest.raises(ClientError) as caught:
        boto3.client("lambda", **wrong).list_functions()
    assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"
    unknown = plane.client_settings() | {"aws_access_key_id": "AKIDNOBODY"}
    with pytest.raises(ClientError) as caught:
        boto3.client("lambda", **unknown).list_functions()
    assert caught.value.response["Error"]["Code"] == "UnrecognizedClientException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_a_foreign_session_token_is_refused(plane: ControlPlane) -> None:
    with_token = plane.client_settings() | {"aws_session_token": "token"}
    with pytest.raises(ClientError, match="security token included in the request is invalid"):
        boto3.client("lambda", **with_token).list_functions()


def test_a_body_that_is_not_the_signed_one_is_refused(plane: ControlPlane) -> None:
    signed = signature(plane, "POST", FUNCTIONS, hashlib.sha256(b"{}").hexdigest())
    answer = send(plane, "POST", FUNCTIONS, body=b'{"a":1}', headers=signed, is_signed=False)
    assert (answer.status, answer.error) == (403, "InvalidSignatureException")


def test_only_uploads_may_exceed_six_megabytes(plane: ControlPlane) -> None:
    body = b" " * (6 * 1024 * 1024 + 1)
    answer = send(plane, "PUT", f"{FUNCTIONS}/f/configuration", body=body)
    assert (answer.status, answer.error) == (413, "RequestEntityTooLargeException")
    assert answer.json["message"] == (
        "Request must be smaller than 6291456 bytes for the UpdateFunctionConfiguration operation"
    )
    upload = send(plane, "POST", FUNCTIONS, body=body)
    assert (upload.status, upload.error) == (400, "ValidationException")


def test_broken_json_is_a_serialization_fault(plane: ControlPlane) -> None:
    answer = send(plane, "POST", FUNCTIONS, body=b'{"a":')
    assert (answer.status, answer.error) == (400, "SerializationException")


def test_faults_without_a_plan_answer_without_detail(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> ControlPlane:
        plane = ControlPlane()

        def broken() -> Mapping[str, object]:
            raise RuntimeError("the secret detail")

        plane.with_gateway(status=broken)
        return plane

    with serving(make) as plane:
        answer = send(plane, "GET", "/api/v1/status")
    assert (answer.status, answer.error) == (500, "ServiceException")
    assert "secret detail" not in answer.body.decode()
    assert answer.headers["x-amzn-requestid"] in answer.json["Message"]
    assert "secret detail" in caplog.text


def test_a_full_disk_is_503_and_leaves_nothing() -> None:
    class FullIntake:
        async def accept(self, package: Any) -> Any:  # noqa: ARG002
            raise StorageFull("The disk is nearly full: 1 % is left.")

    with serving(lambda: ControlPlane(intake=FullIntake())) as full:
        client = boto3.client(
            "lambda", **full.client_settings(), config=Config(retries={"max_attempts": 0})
        )
        with pytest.raises(ClientError) as caught:
            client.create_function(
                FunctionName="f",
                Runtime="python3.12",
                Handler="h.h",
                Role="arn:aws:iam::000000000000:role/r",
                Code={"ZipFile": zipped("x")},
            )
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert client.list_functions()["Functions"] == []


def test_the_budget_of_bytes_refuses_and_recovers() -> None:
    def make() -> ControlPlane:
        plane = ControlPlane()
        plane.with_gateway(body_budget_bytes=100_000)
        return plane

    with serving(make) as plane:
        refused = send(plane, "POST", FUNCTIONS, body=b" " * 200_000)
        assert refused.status == 429
        again = send(plane, "POST", FUNCTIONS, body=b" " * 50_000)
        assert again.error == "ValidationException"


def zipped(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("handler.py"), text)
    return buffer.getvalue()


def test_a_download_link_is_good_for_its_package_only(plane: ControlPlane) -> None:
    client = boto3.client("lambda", **plane.client_settings())
    client.create_function(
        FunctionName="linked",
        Runtime="python3.12",
        Handler="h.h",
        Role="arn:aws:iam::000000000000:role/r",
        Code={"ZipFile": zipped("linked")},
    )
    link = client.get_function(FunctionName="linked")["Code"]["Location"]
    target = link.removeprefix(plane.origin)
    good = send(plane, "GET", target, is_signed=False)
    assert (good.status, good.body) == (200, zipped("linked"))
    assert good.headers["content-type"] == "application/zip"
    path, _, query = target.partition("?")
    other = path[:-64] + "0" * 64
    assert send(plane, "GET", f"{other}?{query}", is_signed=False).status == 403
    assert send(plane, "GET", path, is_signed=False).status == 403
    assert send(plane, "GET", other).status == 404


def test_logs_are_read_with_checked_parameters(plane: ControlPlane) -> None:
    plane.logs.lines = [
        LogLine(1.5, ACCOUNT, "f", "$LATEST", "/aws/lambda/f", "s", "r1", "hello"),
        LogLine(2.5, ACCOUNT, "f", "$LATEST", "/aws/lambda/f", "s", "r1", "again"),
    ]
    answer = send(plane, "GET", "/api/v1/logs?after_id=1&function=f&limit=5&start=1.5")
    assert answer.status == 200
    assert [line["text"] for line in answer.json["lines"]] == ["again"]
    assert answer.json["last_id"] == 2
    asked = plane.logs.queries[-1]
    assert (asked.account, asked.start_s, asked.limit) == (ACCOUNT, 1.5, 5)


@pytest.mark.parametrize(
    "query",
    ["", "limit=5", "function=f&limit=0", "function=f&start=-1", "function=f&bogus=1",
     "function=f&function=g", "function=f&order=random", "after_id=x&function=f"],
)  # fmt: skip
def test_logs_refuse_parameters_that_make_no_sense(plane: ControlPlane, query: str) -> None:
    answer = send(plane, "GET", f"/api/v1/logs?{query}" if query else "/api/v1/logs")
    assert (answer.status, answer.error) == (400, "ValidationException")


def test_the_native_api_is_signed_and_described(plane: ControlPlane) -> None:
    assert send(plane, "GET", "/api/v1/status", is_signed=False).status == 403
    assert send(plane, "GET", "/api/v1/status").json["version"] == "test"
    assert send(plane, "GET", "/api/v1/functions/f/environments").json == {"environments": []}
    assert send(plane, "GET", "/api/v1/unknown").status == 404
    assert send(plane, "POST", "/api/v1/status").status == 405
    described = send(plane, "GET", "/api/v1/openapi.json", is_signed=False).json
    assert "/api/v1/logs" in described["paths"]


def test_what_is_not_ready_is_named() -> None:
    def make() -> ControlPlane:
        plane = ControlPlane()
        plane.with_gateway(readiness=lambda: ("registry-view",))
        return plane

    with serving(make) as plane:
        answer = send(plane, "GET", "/readyz", is_signed=False)
    assert answer.status == 503
    assert answer.json == {"ready": False, "waiting_for": ["registry-view"]}
