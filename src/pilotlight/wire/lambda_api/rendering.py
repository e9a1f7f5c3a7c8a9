"""From the result of an operation to its HTTP answer.

Members that the result does not have are absent from the answer; None becomes ``null``. A
member that the model does not know is a mistake of ours and raises.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache, partial

from pilotlight.wire.lambda_api.answers import JSON_TYPE, HttpAnswer, header
from pilotlight.wire.lambda_model import model

_NO_CONTENT = 204
_EVENT_STREAM = b"application/vnd.amazon.eventstream"


def render(operation: str, result: Mapping[str, object], *, request_id: str) -> HttpAnswer:
    """Write the answer of a successful operation.

    Args:
        operation: a name of the model.
        result: output members by name: strings, numbers, booleans, bytes, aware datetimes (or
            seconds since the epoch), lists and mappings of these. A payload that is a stream of
            events is given as its encoded bytes.
        request_id: goes into ``x-amzn-RequestId``.

    Raises:
        ValueError: the result has a member that the model's output does not have.
        TypeError: a value cannot be written as its shape.
    """
    described = model.operation(operation)
    members = (
        {m.name: m for m in model.structure(described.output).members} if described.output else {}
    )
    unknown = result.keys() - members.keys()
    if unknown:
        raise ValueError(f"{operation} has no output member {', '.join(sorted(unknown))}")
    payload = model.structure(described.output).payload if described.output else None
    status = described.status
    headers = [header("x-amzn-RequestId", request_id)]
    fields: dict[str, object] = {}
    for name, value in result.items():
        member = members[name]
        if member.location == "statusCode":
            status = _status(value)
        elif member.location == "header":
            if value is not None:
                headers.append(header(member.wire_name, _text(member.shape, value)))
        elif name != payload:
            fields[member.wire_name] = encode(member.shape, value)
    if payload is not None:
        body, content_type = _payload(members[payload].shape, result.get(payload))
    else:
        body, content_type = (dump(fields) if described.output else b""), JSON_TYPE
    if status == _NO_CONTENT:
        body = b""
    if body and not any(name.lower() == b"content-type" for name, _ in headers):
        headers.append((b"Content-Type", content_type))
    return HttpAnswer(status, headers, body)


def dump(document: Mapping[str, object]) -> bytes:
    """Write a JSON document; NaN and infinities are refused with ValueError."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
        "utf-8", "replace"
    )


def encode(shape_name: str, value: object) -> object:
    """Turn a value into what its shape is in JSON.

    Raises:
        TypeError: the value is not of the shape's kind.
        ValueError: a structure has a member that its shape does not have.
    """
    return None if value is None else _encoder(shape_name)(value)


_Encoder = Callable[[object], object]


@cache
def _encoder(shape_name: str) -> _Encoder:
    """What encodes values of a shape; None is the caller's."""
    shape = model.shape(shape_name)
    if isinstance(shape, model.Scalar):
        return partial(_scalar, shape, _KINDS[shape.type])
    if isinstance(shape, model.ListShape):
        return partial(_list, shape_name, shape.member)
    if isinstance(shape, model.MapShape):
        return partial(_map, shape_name, shape.value)
    return partial(_structure, shape_name, {m.name: (m.wire_name, m.shape) for m in shape.members})


def _list(shape_name: str, member: str, value: object) -> list[object]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{shape_name} is a list, not {type(value).__name__}")
    encoder = _encoder(member)
    return [None if item is None else encoder(item) for item in value]


def _map(shape_name: str, member: str, value: object) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{shape_name} is a mapping, not {type(value).__name__}")
    encoder = _encoder(member)
    return {str(key): None if item is None else encoder(item) for key, item in value.items()}


def _structure(
    shape_name: str, members: Mapping[str, tuple[str, str]], value: object
) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{shape_name} is a mapping, not {type(value).__name__}")
    encoded: dict[str, object] = {}
    for name, item in value.items():
        known = members.get(name)
        if known is None:
            unknown = ", ".join(sorted(value.keys() - members.keys()))
            raise ValueError(f"{shape_name} has no member {unknown}")
        encoded[known[0]] = None if item is None else _encoder(known[1])(item)
    return encoded


_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "double": (int, float),
    "float": (int, float),
    "blob": (bytes, bytearray, memoryview),
    "timestamp": (int, float, datetime),
}
_JSON = frozenset({str, int, float, bool})
"""Types whose values are JSON as they are; a subclass may be written otherwise."""


def _scalar(shape: model.Scalar, kinds: tuple[type, ...], value: object) -> object:
    kind = type(value)
    if kind in kinds and kind in _JSON:
        return value
    is_stray_boolean = isinstance(value, bool) and shape.type != "boolean"
    if is_stray_boolean or not isinstance(value, kinds):
        raise TypeError(f"{shape.name} is a {shape.type}, not {kind.__name__}")
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime):
        seconds = value.timestamp()
        return int(seconds) if seconds.is_integer() else round(seconds, 3)
    return value


def _text(shape_name: str, value: object) -> str:
    """Write a value of a header."""
    shape = model.shape(shape_name)
    if not isinstance(shape, model.Scalar):
        raise TypeError(f"{shape_name} cannot be a header")
    plain = _scalar(shape, _KINDS[shape.type], value)
    if isinstance(value, datetime):
        return format_datetime(value.astimezone(UTC), usegmt=True)
    return str(plain).lower() if isinstance(plain, bool) else str(plain)


def _status(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"a status is an integer, not {type(value).__name__}")
    return value


def _payload(shape_name: str, value: object) -> tuple[bytes, bytes]:
    """Body and content type of a member that is the whole body."""
    shape = model.shape(shape_name)
    is_events = isinstance(shape, model.Structure) and isinstance(value, bytes)
    if value is None:
        return b"", JSON_TYPE
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), _EVENT_STREAM if is_events else JSON_TYPE
    if isinstance(value, Mapping) and isinstance(shape, model.Structure):
        encoded = encode(shape_name, value)
        return dump(encoded) if isinstance(encoded, dict) else b"", JSON_TYPE
    raise TypeError(f"{shape_name} cannot be a body as {type(value).__name__}")
