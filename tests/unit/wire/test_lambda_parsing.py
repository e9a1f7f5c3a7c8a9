"""Requests that are not what an SDK would send."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotlight.model.errors import ApiError
from pilotlight.wire.lambda_api import Route, parse, validate
from pilotlight.wire.lambda_model import model
from pilotlight.wire.lambda_model.operations import OPERATIONS

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
CREATE = Route("CreateFunction", {})


def refusal(route: Route, body: bytes = b"", query: str = "") -> str:
    with pytest.raises(ApiError) as caught:
        parse(route, query, {}, body)
    assert caught.value.code == "SerializationException"
    return caught.value.message


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"FunctionName": 1}, "NUMBER_VALUE can not be converted to a String"),
        ({"FunctionName": True}, "TRUE_VALUE can not be converted to a String"),
        ({"FunctionName": {}}, "Start of structure or map found where not expected."),
        ({"FunctionName": []}, "Start of list found where not expected"),
        ({"MemorySize": "128"}, "STRING_VALUE can not be converted to an Integer"),
        ({"MemorySize": False}, "FALSE_VALUE can not be converted to an Integer"),
        ({"MemorySize": 1.5}, "NUMBER_VALUE can not be converted to an Integer"),
        ({"MemorySize": 10**400}, "NUMBER_VALUE can not be converted to an Integer"),
        ({"MemorySize": 1e300}, "NUMBER_VALUE can not be converted to an Integer"),
        ({"MemorySize": 2**31}, "NUMBER_VALUE can not be converted to an Integer"),
        ({"Publish": "true"}, "STRING_VALUE can not be converted to a Boolean"),
        ({"Layers": "a"}, "Expected list or null"),
        ({"Layers": {}}, "Start of structure or map found where not expected."),
        ({"Environment": "a"}, "Unexpected field type"),
        ({"Environment": {"Variables": []}}, "Start of list found where not expected"),
        (
            {"Environment": {"Variables": {"A": 1}}},
            "NUMBER_VALUE can not be converted to a String",
        ),
        ({"Code": {"ZipFile": "not base64"}}, "Blob value is not valid base64"),
        ({"Code": {"ZipFile": 1}}, "NUMBER_VALUE can not be converted to a Blob"),
        ([], "Start of list found where not expected"),
        ("text", "Unexpected field type"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(document: object, message: str) -> None:
    assert refusal(CREATE, json.dumps(document).encode()) == message


@pytest.mark.parametrize(
    "body", [b"{", b'{"a":NaN}', b"\xff", b'{"FunctionName":"\\ud800"}', b"[" * 100_000, b"{}{}"]
)
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    assert refusal(CREATE, body).startswith("Could not parse request body into json: ")


def test_unknown_members_are_ignored_and_null_is_absent() -> None:
    body = b'{"Nothing":1,"FunctionName":"f","Description":null,"Code":{"Nothing":[],"S3Key":null}}'
    assert parse(CREATE, "", {}, body) == {"FunctionName": "f", "Code": {}}


@pytest.mark.parametrize("body", [b"", b"  ", b"null", b"{}"])
def test_an_empty_body_has_no_members(body: bytes) -> None:
    assert parse(CREATE, "", {}, body) == {}


def test_a_payload_is_not_looked_into() -> None:
    route = Route("Invoke", {"FunctionName": "f"})
    headers = {"x-amz-invocation-type": "Event"}
    assert parse(route, "Qualifier=live", headers, b"\xff{") == {
        "FunctionName": "f",
        "InvocationType": "Event",
        "Qualifier": "live",
        "Payload": b"\xff{",
    }


@pytest.mark.parametrize("text", ["", "x", "1e3", "1_0", "٣", "9" * 5000, "99999999999"])
def test_a_number_of_the_query_must_be_one(text: str) -> None:
    message = refusal(Route("ListFunctions", {}), query=f"MaxItems={text}")
    assert "can not be converted to an Integer" in message


def test_lists_of_the_query_keep_all_values() -> None:
    route = Route("UntagResource", {"Resource": "r"})
    query = "tagKeys=a&tagKeys=b%26c&tagKeys=&other=1"
    assert parse(route, query, {}, b"")["TagKeys"] == ["a", "b&c", ""]


@pytest.mark.parametrize("stamp", ["1709164800", "1.7091648e9", '"2024-02-29T00:00:00Z"'])
def test_timestamps_are_read_in_all_their_forms(stamp: str) -> None:
    body = f'{{"StartingPositionTimestamp":{stamp}}}'.encode()
    params = parse(Route("CreateEventSourceMapping", {}), "", {}, body)
    assert params["StartingPositionTimestamp"] == datetime(2024, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize("stamp", ["1e300", "true", '"yesterday"', '"9999-99-99"'])
def test_impossible_timestamps_are_refused(stamp: str) -> None:
    body = f'{{"StartingPositionTimestamp":{stamp}}}'.encode()
    message = refusal(Route("CreateEventSourceMapping", {}), body)
    assert message.endswith("can not be converted to a Timestamp")


def documents() -> st.SearchStrategy[object]:
    names = sorted(
        {m.wire_name for o in OPERATIONS for m in model.structure(OPERATIONS[o][3]).members}
    )
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    keys = st.sampled_from(names) | st.text()
    return st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=20
    )


@UNTIMED
@given(
    operation=st.sampled_from(sorted(OPERATIONS)),
    query=st.text(),
    header=st.text(),
    body=st.binary() | documents().map(lambda value: json.dumps(value).encode()),
)
def test_no_request_crashes_parsing_or_validation(
    operation: str, query: str, header: str, body: bytes
) -> None:
    members = model.structure(model.operation(operation).input).members
    labels = {member.wire_name: header for member in members if member.location == "uri"}
    headers = {m.wire_name.lower(): header for m in members if m.location == "header"}
    query += "".join(f"&{m.wire_name}={header}" for m in members if m.location == "querystring")
    # Anything but an ApiError fails the test.
    with suppress(ApiError):
        validate(operation, parse(Route(operation, labels), query, headers, body))
