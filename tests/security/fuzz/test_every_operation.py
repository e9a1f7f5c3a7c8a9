"""Whatever is sent to any operation: an answer of the service's form, and nothing half-done.

Requests are drawn from the service's model by `pilotlight.testing.hostile_requests`. Without
``--run-long`` the same few are sent each time; with it many, and others each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
import botocore.parsers
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings

from pilotlight.kernel.system import SystemClock
from pilotlight.ports.auth import SignedRequest
from pilotlight.testing.control_plane import ACCOUNT, ROOT, ControlPlane, serving
from pilotlight.testing.hostile_requests import HostileRequest, hostile_requests
from pilotlight.wire import sigv4
from pilotlight.wire.lambda_api import route
from pilotlight.wire.lambda_api.failures import PROTOCOL_ERRORS
from pilotlight.wire.lambda_model import model
from pilotlight.wire.lambda_model.errors import ERRORS
from pilotlight.wire.lambda_model.operations import OPERATIONS

SHORT, LONG = 40, 1500
"""Requests for each operation."""

OWN_ERRORS = {
    "NotFound": 404, "MethodNotAllowed": 405, "BadRequest": 400, "RequestHeaderFieldsTooLarge": 431,
}  # fmt: skip
"""Codes of the native API and of the listener, with their status."""
MOVING = frozenset(
    [
        *(
            "state",
            "state_reason",
            "state_reason_code",
            "pending",
            "serving",
            "optimization_status",
        ),
        *("last_update_status", "last_update_reason", "last_update_reason_code"),
        *("status", "status_reason", "allocated", "available", "state_transition_reason"),
        *("last_processing_result", "revision_id"),
    ]
)
"""Members of records that change by themselves, after earlier calls."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def package() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), "def handler(event, context): return event")
    return buffer.getvalue()


class Target:
    """The server under test, and a copy of its registry to compare with."""

    def __init__(self, plane: ControlPlane, loop: asyncio.AbstractEventLoop) -> None:
        self.plane = plane
        self._loop = loop
        self._connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=20)
        self._revision = 0
        self._records: dict[tuple[str, str, str], Any] = {}
        self._service = botocore.session.get_session().get_service_model("lambda")
        self._parser = botocore.parsers.create_parser("rest-json")
        self.client = boto3.client(
            "lambda",
            **plane.client_settings(),
            config=Config(retries={"max_attempts": 0}, parameter_validation=False),
        )

    def close(self) -> None:
        self._connection.close()

    def send(self, request: HostileRequest) -> tuple[int, dict[str, str], bytes]:
        path, _, query = request.target.partition("?")
        host = f"127.0.0.1:{self.plane.port}"
        signed = SignedRequest(
            request.method.encode(), path.encode(), query.encode(), [(b"host", host.encode())]
        )
        added = sigv4.sign(
            signed,
            credentials=sigv4.SigningCredentials(ROOT.access_key, ROOT.secret_key),
            region="us-east-1",
            service="lambda",
            now_s=SystemClock().wall(),
            body_sha256=hashlib.sha256(request.body).hexdigest(),
        )
        headers = {name.decode(): value.decode() for name, value in added}
        # Members in headers are not signed here, so none may have a name that must be.
        loose = {k: v for k, v in request.headers.items() if not k.lower().startswith("x-amz-")}
        for attempt in (1, 2):
            try:
                self._connection.request(
                    request.method, request.target, request.body or None, headers | loose
                )
                response = self._connection.getresponse()
                body = response.read()
                return response.status, {k.lower(): v for k, v in response.getheaders()}, body
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # The server closes after refusing a body that it did not read.
                self._connection.close()
                if attempt == 2:
                    raise
        raise AssertionError

    def changes(self) -> list[tuple[tuple[str, str, str], Any, Any]]:
        """What changed since the last call: name, before, after."""
        found = []
        reading = self.plane.store.changes(self._revision, limit=1_000_000)
        for change in asyncio.run_coroutine_threadsafe(reading, self._loop).result(20):
            name = (change.kind, change.account, change.key)
            after = None if change.body is None else json.loads(change.body)
            found.append((name, self._records.get(name), after))
            self._records[name] = after
            self._revision = change.revision
        return found

    def check(self, request: HostileRequest) -> None:
        self.changes()
        status, headers, body = self.send(request)
        assert _UUID.fullmatch(headers.get("x-amzn-requestid", "")), headers
        if status >= 400:
            self._check_refusal(request, status, headers, body)
        else:
            self._check_success(request, status, headers, body)

    def _check_refusal(
        self, request: HostileRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        code = headers["x-amzn-errortype"]
        known = {name: row[0] for name, row in ERRORS.items()}
        known |= {name: row[0] for name, row in PROTOCOL_ERRORS.items()} | OWN_ERRORS
        assert code in known, code
        assert status == known[code] or (code, status) == ("ServiceException", 503), (code, status)
        assert status != 500, body
        if request.method != "HEAD":
            answer = json.loads(body)
            text = answer.get("message", answer.get("Message", ""))
            assert isinstance(text, str | None), answer
            assert headers["content-type"] == "application/json"
        left = [(name, _difference(b, a)) for name, b, a in self.changes()]
        assert not any(difference for _, difference in left), left

    def _check_success(
        self, request: HostileRequest, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        path, _, query = request.target.partition("?")
        found = route(request.method, path, query)
        assert found is not None, request
        assert status == model.operation(found.operation).status
        assert body or status == 204 or model.operation(found.operation).output is None
        if status == 204:
            assert not body
        shape = self._service.operation_model(found.operation).output_shape
        answer = {"status_code": status, "headers": dict(headers), "body": body}
        self._parser.parse(answer, shape)

    def prepare(self) -> dict[str, list[Any]]:
        """Make what operations need to find, as far as it is not there; return good values."""
        known: dict[str, list[Any]] = {name: list(values) for name, values in GOOD.items()}
        for operation, member, parameters in WORLD:
            with contextlib.suppress(ClientError):
                answer = getattr(self.client, operation)(**parameters)
                if member:
                    known.setdefault(member, []).append(_found(answer, member))
        return known


def _difference(before: Any, after: Any) -> Any:
    """What differs, without what changes by itself; None when nothing does."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return None if before == after else (before, after)
    names = (before.keys() | after.keys()) - MOVING
    found = {name: _difference(before.get(name), after.get(name)) for name in names}
    return {name: value for name, value in found.items() if value is not None} or None


def _found(answer: Any, member: str) -> Any:
    if member in answer:
        return answer[member]
    return next(v[member] for v in answer.values() if isinstance(v, dict) and member in v)


FUNCTION_ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:fuzz"
LAYER_ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:fuzz-layer"
QUEUE_ARN = f"arn:aws:sqs:us-east-1:{ACCOUNT}:queue"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/fuzz"
GOOD: Mapping[str, list[Any]] = {
    "FunctionName": [
        "fuzz", "fuzz", "fuzz", FUNCTION_ARN, f"{FUNCTION_ARN}:1", "fuzz:live", "fuzz:$LATEST",
        f"{ACCOUNT}:function:fuzz", "absent", "new-one",
    ],
    "Role": [ROLE_ARN],
    "Handler": ["app.handler"],
    "Runtime": ["python3.12", "nodejs20.x"],
    "ZipFile": [package()],
    "Qualifier": ["1", "live", "$LATEST", "2", "absent"],
    "FunctionVersion": ["1", "$LATEST", "9"],
    "Version": ["1"],
    "Name": ["live", "other"],
    "StatementId": ["s1", "s2", "s3", "s4", "s5"],
    "Action": ["lambda:InvokeFunction", "lambda:InvokeFunction", "lambda:GetLayerVersion"],
    "Principal": ["s3.amazonaws.com", "*", ACCOUNT, "123456789012"],
    "Resource": [FUNCTION_ARN],
    "ResourceArn": [FUNCTION_ARN],
    "Tags": [{"a": "b"}, {}],
    "TagKeys": [["a"]],
    "LayerName": ["fuzz-layer", LAYER_ARN],
    "VersionNumber": [1],
    "Arn": [f"{LAYER_ARN}:1"],
    "Layers": [[f"{LAYER_ARN}:1"], []],
    "EventSourceArn": [QUEUE_ARN, f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/s"],
    "Destination": [QUEUE_ARN, FUNCTION_ARN],
    "TargetArn": [QUEUE_ARN],
    "AllowedPublishers": [
        {"SigningProfileVersionArns": [f"arn:aws:signer:us-east-1:{ACCOUNT}:/signing-profiles/p/v1"]}
    ],
    "CapacityProviderName": ["fuzz-provider"],
    "Variables": [{"A": "b"}],
    "MaxItems": [1, 10],
    "S3Bucket": ["bucket"],
    "S3Key": ["key"],
}  # fmt: skip
WORLD: list[tuple[str, str | None, dict[str, Any]]] = [
    ("create_function", None, {
        "FunctionName": "fuzz", "Runtime": "python3.12", "Handler": "app.handler", "Role": ROLE_ARN,
        "Code": {"ZipFile": package()},
    }),
    ("publish_version", None, {"FunctionName": "fuzz"}),
    ("create_alias", None, {"FunctionName": "fuzz", "Name": "live", "FunctionVersion": "1"}),
    ("add_permission", None, {
        "FunctionName": "fuzz", "StatementId": "s1", "Action": "lambda:InvokeFunction",
        "Principal": "s3.amazonaws.com",
    }),
    ("create_function_url_config", None, {"FunctionName": "fuzz", "AuthType": "NONE"}),
    ("put_function_concurrency", None, {"FunctionName": "fuzz", "ReservedConcurrentExecutions": 3}),
    ("put_provisioned_concurrency_config", None, {
        "FunctionName": "fuzz", "Qualifier": "live", "ProvisionedConcurrentExecutions": 1,
    }),
    ("put_function_event_invoke_config", None, {"FunctionName": "fuzz", "MaximumRetryAttempts": 1}),
    ("publish_layer_version", None, {"LayerName": "fuzz-layer", "Content": {"ZipFile": package()}}),
    ("create_code_signing_config", "CodeSigningConfigArn", {
        "AllowedPublishers": GOOD["AllowedPublishers"][0],
    }),
    ("create_event_source_mapping", "UUID", {
        "FunctionName": "fuzz", "EventSourceArn": QUEUE_ARN, "Enabled": False,
    }),
]  # fmt: skip
"""Calls that make what is found later, and the member of their answer that names it."""


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    loops = []

    def make() -> ControlPlane:
        loops.append(asyncio.get_running_loop())
        return ControlPlane(update_shows_s=0.0)

    with serving(make) as plane:
        under_test = Target(plane, loops[0])
        yield under_test
        under_test.close()


def run(target: Target, operation: str, *, examples: int, is_fixed: bool) -> None:
    known = target.prepare()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=is_fixed,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(hostile_requests(operation, known))
    def prop(request: HostileRequest) -> None:
        target.check(request)

    check: Callable[[], None] = prop
    check()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_answer_has_the_services_form_and_a_refusal_changes_nothing(
    target: Target, operation: str
) -> None:
    run(target, operation, examples=SHORT, is_fixed=True)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_many_requests_of_every_operation(target: Target, operation: str) -> None:
    run(target, operation, examples=LONG, is_fixed=False)


@pytest.mark.parametrize(
    "operation", ["GetFunction", "UpdateFunctionConfiguration", "AddPermission", "TagResource"]
)
def test_the_requests_drawn_reach_the_operation_and_not_only_its_gates(
    target: Target, operation: str
) -> None:
    """Else the test above would be of the parser alone."""
    found: set[int] = set()

    @settings(
        max_examples=60,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(hostile_requests(operation, target.prepare()))
    def prop(request: HostileRequest) -> None:
        found.add(target.send(request)[0] // 100)

    prop()
    assert found >= {2, 4}


def test_a_server_that_does_half_of_a_refused_call_would_be_noticed(target: Target) -> None:
    target.changes()
    request = HostileRequest("GET", "/2015-03-31/functions/absent", {}, b"")
    target.client.tag_resource(Resource=FUNCTION_ARN, Tags={"left": "behind"})
    status, headers, body = target.send(request)
    with pytest.raises(AssertionError, match="behind"):
        target._check_refusal(request, status, headers, body)
