"""Every call of the control plane is kept: who asked for what, and how it ended; never secrets."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from pilotlight.kernel.system import SystemClock
from pilotlight.model.errors import StorageFull
from pilotlight.ports.audit import AuditEntry, AuditLog, AuditQuery, StoredEntry
from pilotlight.ports.auth import SignedRequest
from pilotlight.testing.client import zipped
from pilotlight.testing.control_plane import ACCOUNT, ROOT, ControlPlane, serving
from pilotlight.wire import sigv4

pytestmark = pytest.mark.timeout(60)


FORGED = {"aws_secret_access_key": "a guess"}


class Kept(AuditLog):
    """Entries in a list; ``is_full`` says that there is no room."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []
        self.queries: list[AuditQuery] = []
        self.is_full = False

    def require(self) -> None:
        if self.is_full:
            raise StorageFull("The audit log cannot be written.")

    def record(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    async def read(self, query: AuditQuery) -> Sequence[StoredEntry]:
        self.queries.append(query)
        return [StoredEntry(number, entry) for number, entry in enumerate(self.entries, 1)]


class Audited(ControlPlane):
    __slots__ = ("kept",)

    def __init__(self) -> None:
        super().__init__()
        self.kept = Kept()
        self.with_gateway(
            audit=self.kept, is_admin=lambda caller: caller.access_key == ROOT.access_key
        )


@pytest.fixture
def plane() -> Iterator[Any]:
    with serving(Audited) as running:
        yield running


def client(plane: Any, **changes: str) -> Any:
    settings = plane.client_settings() | changes
    return boto3.client("lambda", **settings, config=Config(retries={"max_attempts": 0}))


def get(plane: Any, target: str) -> tuple[int, Any]:
    path, _, query = target.partition("?")
    host = f"127.0.0.1:{plane.port}"
    request = SignedRequest(b"GET", path.encode(), query.encode(), [(b"host", host.encode())])
    headers = sigv4.sign(
        request,
        credentials=sigv4.SigningCredentials(ROOT.access_key, ROOT.secret_key),
        region="us-east-1",
        service="lambda",
        now_s=SystemClock().wall(),
        body_sha256=sigv4.EMPTY_SHA256,
    )
    return plain(plane, "GET", target, {k.decode(): v.decode() for k, v in headers})


def plain(plane: Any, method: str, target: str, headers: Mapping[str, str]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=20)
    try:
        connection.request(method, target, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def create(api: Any, name: str = "f", **more: Any) -> Any:
    return api.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Handler="app.handler",
        Role=f"arn:aws:iam::{ACCOUNT}:role/r",
        Code={"ZipFile": zipped({"app.py": "the secret source"})},
        **more,
    )


def test_an_entry_says_who_asked_for_what_and_how_it_ended(plane: Any) -> None:
    made = create(client(plane))
    with pytest.raises(ClientError):
        client(plane).get_function(FunctionName="absent")
    first, second = plane.kept.entries
    assert (first.service, first.operation, first.resource) == ("lambda", "CreateFunction", "f")
    assert (first.status, first.error_code) == (201, "")
    assert first.request_id == made["ResponseMetadata"]["RequestId"]
    assert (first.account, first.access_key) == (ACCOUNT, ROOT.access_key)
    assert first.principal == f"arn:aws:iam::{ACCOUNT}:root"
    assert (first.is_proven, first.source) == (True, "127.0.0.1")
    assert abs(first.wall_s - SystemClock().wall()) < 60
    assert (second.operation, second.resource) == ("GetFunction", "absent")
    assert (second.status, second.error_code) == (404, "ResourceNotFoundException")


def test_calls_of_the_native_api_are_kept_too(plane: Any) -> None:
    get(plane, "/api/v1/status")
    entry = plane.kept.entries[0]
    assert (entry.service, entry.operation) == ("pilotlight", "GET /api/v1/status")
    assert (entry.status, entry.is_proven) == (200, True)


def test_a_forged_call_is_kept_as_a_claim(plane: Any) -> None:
    with pytest.raises(ClientError):
        client(plane, **FORGED).list_functions()
    entry = plane.kept.entries[0]
    assert (entry.access_key, entry.is_proven) == (ROOT.access_key, False)
    assert (entry.account, entry.principal) == ("", "")
    assert (entry.status, entry.error_code) == (403, "InvalidSignatureException")


def test_strangers_cannot_fill_the_log(plane: Any) -> None:
    plain(plane, "GET", "/2015-03-31/functions", {})
    assert plane.kept.entries == []
    api = client(plane, **FORGED)
    clock = SystemClock()
    began = clock.monotonic()
    for _ in range(150):
        with pytest.raises(ClientError):
            api.list_functions()
    came_back = 10 * (clock.monotonic() - began)
    assert 100 <= len(plane.kept.entries) <= 100 + came_back + 1
    client(plane).list_functions()
    assert plane.kept.entries[-1].is_proven


def test_no_secret_and_no_payload_is_kept(plane: Any) -> None:
    api = client(plane)
    create(api, Environment={"Variables": {"PASSWORD": "hunter2"}}, Description="private words")
    link = api.get_function(FunctionName="f")["Code"]["Location"].removeprefix(plane.origin)
    status, _ = plain_bytes(plane, link)
    assert status == 200
    api.tag_resource(
        Resource=f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:f", Tags={"token": "hunter3"}
    )
    text = repr(plane.kept.entries)
    assert len(plane.kept.entries) == 4
    signature = link.partition("X-Amz-Signature=")[2]
    for secret in (
        "hunter", "PASSWORD", "private words", "secret source", signature, ROOT.secret_key,
        "Signature",
    ):  # fmt: skip
        assert secret not in text, secret


def plain_bytes(plane: Any, target: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=20)
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_without_room_nothing_changes_and_reading_goes_on(plane: Any) -> None:
    plane.kept.is_full = True
    api = client(plane)
    with pytest.raises(ClientError, match="audit log cannot be written") as caught:
        create(api)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert api.list_functions()["Functions"] == []
    assert [entry.status for entry in plane.kept.entries] == [200]
    plane.kept.is_full = False
    create(api)


def test_the_root_credentials_read_the_log(plane: Any) -> None:
    client(plane).list_functions()
    status, answer = get(plane, "/api/v1/audit?operation=ListFunctions&limit=7&after_id=0&start=1")
    assert status == 200
    assert answer["entries"][0]["operation"] == "ListFunctions"
    assert answer["last_id"] == answer["entries"][-1]["id"]
    assert plane.kept.queries == [AuditQuery(operation="ListFunctions", limit=7, start_s=1.0)]
    for query in ("bogus=1", "limit=0", "limit=7&limit=8", "start=x", "after_id=-1"):
        assert get(plane, f"/api/v1/audit?{query}")[0] == 400, query


def test_nobody_else_reads_the_log() -> None:
    def make() -> ControlPlane:
        plane = ControlPlane()
        plane.with_gateway(audit=Kept(), is_admin=lambda _: False)
        return plane

    with serving(make) as plane:
        status, answer = get(plane, "/api/v1/audit")
        assert (status, "root credentials" in answer["Message"]) == (403, True)
        assert plain(plane, "GET", "/api/v1/audit", {})[0] == 403
