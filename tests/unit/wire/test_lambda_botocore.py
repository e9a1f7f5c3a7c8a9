"""What botocore sends we read as it was meant, and what we send botocore reads."""

from __future__ import annotations

import io
import random
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import botocore.loaders
import botocore.model
import botocore.parsers
import botocore.serialize
import pytest
from botocore.awsrequest import HeadersDict, create_request_object, prepare_request_dict

from pilotlight.wire.lambda_api import parse, render, route
from pilotlight.wire.lambda_model.operations import OPERATIONS

WORDS = ("a", "my-function", "arn:aws:lambda:x", "a b+c%20d", "ünï/cödé", "q?&=#;", '"\\', "日本")
HEADER_WORDS = ("a", "RequestResponse", "b64==", "x y")
SEEDS = range(4)


@cache
def service() -> Any:
    raw = botocore.loaders.Loader().load_service_model("lambda", "service-2", "2015-03-31")
    return botocore.model.ServiceModel(raw)


class Maker:
    """Makes a value of any shape of the model."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def structure(self, shape: Any, depth: int = 0) -> dict[str, object]:
        made: dict[str, object] = {}
        for name, member in shape.members.items():
            location = member.serialization.get("location")
            is_needed = name in shape.required_members or name == shape.serialization.get("payload")
            if location == "statusCode":
                made[name] = 200
            elif is_needed or (depth < 4 and self._random.random() < 0.7):
                made[name] = self.value(member, depth + 1, location)
        return made

    def value(self, shape: Any, depth: int, location: str | None = None) -> object:
        kind = shape.type_name
        if kind == "structure":
            return self.structure(shape, depth)
        if kind == "list":
            count = self._random.randint(1, 3)
            return [self.value(shape.member, depth, location) for _ in range(count)]
        if kind == "map":
            keys = {str(self.value(shape.key, depth)) for _ in range(2)}
            return {key: self.value(shape.value, depth) for key in keys}
        return self.scalar(shape, kind, location)

    def scalar(self, shape: Any, kind: str, location: str | None) -> object:
        chance = self._random
        if kind == "string":
            words = HEADER_WORDS if location == "header" else WORDS
            return chance.choice(shape.enum or words)
        if kind in {"integer", "long"}:
            return chance.randint(-(2**31), 2**31 - 1)
        if kind in {"double", "float"}:
            return chance.choice((0.5, 1.25, 0.0))
        if kind == "boolean":
            return chance.choice((True, False))
        if kind == "timestamp":
            start = datetime(2024, 2, 29, tzinfo=UTC)
            return start + timedelta(seconds=chance.randint(0, 10**8))
        return chance.randbytes(chance.randint(1, 40))


def request_of(operation: Any, params: dict[str, object]) -> Any:
    serializer = botocore.serialize.create_serializer("rest-json", include_validation=False)
    described = serializer.serialize_to_request(params, operation)
    prepare_request_dict(described, endpoint_url="http://localhost:9700", context={})
    return create_request_object(described).prepare()


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_requests_of_botocore_are_read_as_they_were_meant(name: str) -> None:
    operation = service().operation_model(name)
    for seed in SEEDS:
        params = Maker(seed).structure(operation.input_shape)
        request = request_of(operation, params)
        url = urlsplit(request.url)
        found = route(request.method, url.path, url.query)
        assert found is not None
        assert found.operation == name
        headers = {
            key.lower(): value.decode() if isinstance(value, bytes) else value
            for key, value in request.headers.items()
        }
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        assert parse(found, url.query, headers, body) == params


# The body of the excluded operation is a stream of events, which is made elsewhere.
@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"InvokeWithResponseStream"}))
def test_answers_are_read_by_botocore_as_they_were_meant(name: str) -> None:
    operation = service().operation_model(name)
    parser = botocore.parsers.create_parser("rest-json")
    for seed in SEEDS:
        shape = operation.output_shape
        result = Maker(seed).structure(shape) if shape is not None else {}
        answer = render(name, result, request_id="a-request")
        headers = HeadersDict({key.decode(): value.decode() for key, value in answer.headers})
        body = io.BytesIO(answer.body) if operation.has_streaming_output else answer.body
        answered = {"headers": headers, "status_code": answer.status, "body": body}
        got = parser.parse(answered, shape)
        if operation.has_streaming_output:
            got["Payload"] = got["Payload"].read()
        metadata = got.pop("ResponseMetadata")
        assert got == result
        assert metadata["RequestId"] == "a-request"
