"""Answers and errors as the service writes them."""

from __future__ import annotations

import json
from typing import Any

import botocore.parsers
import pytest
from botocore.awsrequest import HeadersDict

from pilotlight.model.errors import (
    ApiError,
    InvalidTransition,
    PackageRejected,
    PlatformError,
    RevisionConflict,
    StorageFull,
    Throttled,
)
from pilotlight.wire.lambda_api import (
    HttpAnswer,
    not_implemented,
    render,
    render_error,
    unknown_operation,
)
from pilotlight.wire.lambda_api.failures import PROTOCOL_ERRORS

JSON = (b"Content-Type", b"application/json")


def parsed(answer: HttpAnswer) -> dict[str, Any]:
    headers = HeadersDict({name.decode(): value.decode() for name, value in answer.headers})
    described = {"headers": headers, "status_code": answer.status, "body": answer.body}
    result: dict[str, Any] = botocore.parsers.create_parser("rest-json").parse(described, None)
    return result


def test_status_comes_from_the_model() -> None:
    assert render("CreateFunction", {}, request_id="r").status == 201
    assert render("GetFunction", {}, request_id="r").status == 200
    assert render("CreateEventSourceMapping", {}, request_id="r").status == 202


def test_delete_function_answers_204_without_body() -> None:
    answer = render("DeleteFunction", {}, request_id="r")
    assert answer == HttpAnswer(204, [(b"x-amzn-RequestId", b"r")], b"")


def test_absent_members_are_absent_and_none_is_null() -> None:
    answer = render("CreateFunction", {"FunctionName": "f", "Handler": None}, request_id="r")
    assert answer.body == b'{"FunctionName":"f","Handler":null}'
    assert answer.headers == [(b"x-amzn-RequestId", b"r"), JSON]


def test_an_invocation_answers_with_its_payload_untouched() -> None:
    result = {
        "StatusCode": 200,
        "FunctionError": "Unhandled",
        "ExecutedVersion": "$LATEST",
        "Payload": b'{ "a": 1 }\xff',
    }
    answer = render("Invoke", result, request_id="r")
    assert answer.status == 200
    assert answer.body == b'{ "a": 1 }\xff'
    assert (b"X-Amz-Function-Error", b"Unhandled") in answer.headers
    assert (b"X-Amz-Executed-Version", b"$LATEST") in answer.headers
    assert JSON in answer.headers


@pytest.mark.parametrize("status", [202, 204])
def test_asynchronous_and_dry_runs_answer_without_body(status: int) -> None:
    answer = render("Invoke", {"StatusCode": status}, request_id="r")
    assert (answer.status, answer.body) == (status, b"")


def test_a_stream_of_events_keeps_its_bytes_and_names_its_type() -> None:
    answer = render("InvokeWithResponseStream", {"EventStream": b"\x00\x01"}, request_id="r")
    assert answer.body == b"\x00\x01"
    assert (b"Content-Type", b"application/vnd.amazon.eventstream") in answer.headers


def test_no_value_can_end_its_header() -> None:
    answer = render("Invoke", {"FunctionError": "a\r\nX-Evil: 1\x00"}, request_id="r\n")
    assert (b"X-Amz-Function-Error", b"a  X-Evil: 1 ") in answer.headers
    assert (b"x-amzn-RequestId", b"r ") in answer.headers


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ({"Nothing": 1}, ValueError),
        ({"Environment": {"Nothing": 1}}, ValueError),
        ({"FunctionName": 1}, TypeError),
        ({"MemorySize": True}, TypeError),
        ({"Layers": "a"}, TypeError),
        ({"Environment": []}, TypeError),
    ],
)
def test_a_result_that_is_not_of_the_model_is_our_mistake(
    result: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        render("CreateFunction", result, request_id="r")


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (
            ApiError("ResourceNotFoundException", "Function not found: a"),
            404,
            {"Type": "User", "Message": "Function not found: a"},
        ),
        (
            ApiError("ResourceConflictException", "exists"),
            409,
            {"Type": "User", "message": "exists"},
        ),
        (
            ApiError("InvalidParameterValueException", "bad", Type=None),
            400,
            {"message": "bad"},
        ),
        (ApiError("ServiceException", "broken"), 500, {"Type": "Service", "Message": "broken"}),
        (
            ApiError("EC2UnexpectedException", "no", EC2ErrorCode="x"),
            502,
            {"Type": "Service", "Message": "no", "EC2ErrorCode": "x"},
        ),
        (ApiError("AccessDeniedException", "", Message=None), 403, {"Message": None}),
        (
            Throttled("ConcurrentInvocationLimitExceeded"),
            429,
            {
                "Type": "User",
                "message": "Rate Exceeded.",
                "Reason": "ConcurrentInvocationLimitExceeded",
            },
        ),
        (RevisionConflict("changed"), 412, {"Type": "User", "message": "changed"}),
        (PackageRejected("link", "a link"), 400, {"Type": "User", "message": "a link"}),
        (StorageFull("full"), 503, {"Type": "Service", "Message": "full"}),
        (ApiError("ValidationException", "1 …", status=400), 400, {"message": "1 …"}),
        (
            ApiError("RequestEntityTooLargeException", "smaller", status=413),
            413,
            {"message": "smaller"},
        ),
    ],
)
def test_errors_answer_as_their_shape_says(
    error: PlatformError, status: int, body: dict[str, object]
) -> None:
    answer = render_error(error, request_id="r")
    assert answer.status == status
    assert json.loads(answer.body) == body
    assert answer.headers[:3] == [
        (b"x-amzn-RequestId", b"r"),
        (b"x-amzn-ErrorType", error.code.encode()),
        JSON,
    ]


def test_a_member_bound_to_a_header_goes_there() -> None:
    error = ApiError("TooManyRequestsException", "slow", retryAfterSeconds="3")
    answer = render_error(error, request_id="r")
    assert (b"Retry-After", b"3") in answer.headers
    assert json.loads(answer.body) == {"Type": "User", "message": "slow"}


def test_a_bug_answers_without_its_story() -> None:
    answer = render_error(InvalidTransition("machine", "idle", "die", ("secret",)), request_id="r")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert b"machine" not in answer.body
    assert b"request r in" in answer.body


def test_what_is_not_implemented_names_its_operation() -> None:
    answer = render_error(not_implemented("CreateAlias"), request_id="r")
    assert answer.status == 501
    assert "CreateAlias" in json.loads(answer.body)["message"]


def test_an_unknown_operation_tells_what_the_path_has() -> None:
    answer = render_error(unknown_operation("PATCH", "/x" * 9999, ("GET",)), request_id="r")
    assert answer.status == 404
    assert b"this path has GET" in answer.body
    assert len(answer.body) < 1000


@pytest.mark.parametrize("code", sorted(PROTOCOL_ERRORS))
def test_sdks_read_code_and_message_of_protocol_errors(code: str) -> None:
    answer = render_error(ApiError(code, "the message"), request_id="r")
    assert answer.status == PROTOCOL_ERRORS[code][0]
    error = parsed(answer)["Error"]
    assert (error["Code"], error["Message"]) == (code, "the message")
