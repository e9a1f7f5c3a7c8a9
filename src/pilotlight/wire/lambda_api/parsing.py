"""From an HTTP request to the parameters of an operation, with the names and types boto3 uses.

The protocol is AWS's restJson1 (https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html).
This module decides what a value *is*; whether it is allowed is decided by
`pilotlight.wire.lambda_api.validation`. A value of the wrong kind is a SerializationException
with the service's words. Members that the model does not know are ignored, and ``null`` is the
same as absent, as in the service.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl

import msgspec

from pilotlight.model.errors import ApiError
from pilotlight.wire.lambda_api.routing import Route
from pilotlight.wire.lambda_model import model

_JSON = msgspec.json.Decoder()
_INTEGER_BITS = {"integer": 32, "long": 64}
_TEXTUAL_NUMBER_LENGTH = 32
"""Digits after which a number in a query or header is not read at all."""


def parse(route: Route, query: str, headers: Mapping[str, str], body: bytes) -> dict[str, object]:
    """Read the parameters of a request.

    Args:
        route: as `routing.route` found it.
        query: raw query string.
        headers: by lower-case name; a repeated header is joined with commas.
        body: the whole body.

    Returns:
        Parameters by member name. Blobs are bytes, timestamps aware datetimes in UTC; members
        that the request does not have are absent.

    Raises:
        ApiError: SerializationException, the body or a value cannot be read.
    """
    shape = model.structure(model.operation(route.operation).input)
    pairs = parse_qsl(query, keep_blank_values=True) if query else []
    fields: Mapping[str, object] = {}
    if any(member.location == "" for member in shape.members) and shape.payload is None:
        fields = _object(body)
    params: dict[str, object] = {}
    for member in shape.members:
        if member.location == "uri":
            value = _from_text(member.shape, route.labels.get(member.wire_name))
        elif member.location == "querystring":
            value = _from_query(member, pairs)
        elif member.location == "header":
            value = _from_text(member.shape, headers.get(member.wire_name.lower()))
        elif member.name == shape.payload:
            value = _payload(member.shape, body)
        else:
            value = _from_json(member.shape, fields.get(member.wire_name))
        if value is not None:
            params[member.name] = value
    return params


def _refused(message: str) -> ApiError:
    return ApiError("SerializationException", message)


def _decode(body: bytes) -> object:
    try:
        document: object = _JSON.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
        raise _refused(f"Could not parse request body into json: {cause}") from None
    return document


def _object(body: bytes) -> Mapping[str, object]:
    document = _decode(body) if body.strip() else None
    if document is None:
        return {}
    if isinstance(document, dict):
        return document
    raise _refused(_unexpected(document))


def _payload(shape_name: str, body: bytes) -> object:
    if not body:
        return None
    if isinstance(model.shape(shape_name), model.Scalar):
        return body
    return _from_json(shape_name, _decode(body))


def _from_query(member: model.Member, pairs: list[tuple[str, str]]) -> object:
    values = [value for name, value in pairs if name == member.wire_name]
    if not values:
        return None
    shape = model.shape(member.shape)
    if isinstance(shape, model.ListShape):
        return [_from_text(shape.member, value) for value in values]
    return _from_text(member.shape, values[0])


def _from_text(shape_name: str, text: str | None) -> object:
    """Read a value of the path, the query or a header."""
    shape = model.shape(shape_name)
    if text is None or not isinstance(shape, model.Scalar):
        return None
    if shape.type in {"integer", "long", "double", "float"}:
        return _number_of_text(shape, text)
    if shape.type == "boolean":
        if text.lower() not in {"true", "false"}:
            raise _refused("STRING_VALUE can not be converted to a Boolean")
        return text.lower() == "true"
    if shape.type == "timestamp":
        return _time_of_text(text)
    return text


def _number_of_text(shape: model.Scalar, text: str) -> int | float:
    complaint = _refused(f"STRING_VALUE can not be converted to {_article(shape.type)}")
    if len(text) > _TEXTUAL_NUMBER_LENGTH or not text.isascii() or "_" in text:
        raise complaint
    try:
        value = int(text) if shape.type in _INTEGER_BITS else float(text)
    except ValueError:
        raise complaint from None
    return _number(shape, value)


def _from_json(shape_name: str, value: object) -> object:
    """Read a value of the body; None stays None."""
    if value is None:
        return None
    shape = model.shape(shape_name)
    if isinstance(shape, model.Scalar):
        return _scalar(shape, value)
    if isinstance(shape, model.ListShape):
        if not isinstance(value, list):
            raise _refused(
                _unexpected(value) if isinstance(value, dict) else "Expected list or null"
            )
        return [_from_json(shape.member, item) for item in value]
    if not isinstance(value, dict):
        raise _refused(_unexpected(value))
    if isinstance(shape, model.MapShape):
        return {key: _from_json(shape.value, item) for key, item in value.items()}
    members = ((m.name, _from_json(m.shape, value.get(m.wire_name))) for m in shape.members)
    return {name: item for name, item in members if item is not None}


def _scalar(shape: model.Scalar, value: object) -> object:
    if isinstance(value, dict | list):
        raise _refused(_unexpected(value))
    if shape.type == "string":
        if not isinstance(value, str):
            raise _refused(f"{_token(value)} can not be converted to a String")
        return value
    if shape.type == "boolean":
        if not isinstance(value, bool):
            raise _refused(f"{_token(value)} can not be converted to a Boolean")
        return value
    if shape.type == "blob":
        return _blob(value)
    if shape.type == "timestamp":
        return _time(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(f"{_token(value)} can not be converted to {_article(shape.type)}")
    return _number(shape, value)


def _number(shape: model.Scalar, value: float) -> int | float:
    bits = _INTEGER_BITS.get(shape.type)
    if bits is None:
        fits = isinstance(value, int) or math.isfinite(value)
    else:
        limit = 2 ** (bits - 1)
        fits = -limit <= value < limit and value == int(value)
    if not fits:
        raise _refused(f"NUMBER_VALUE can not be converted to {_article(shape.type)}")
    return value if bits is None else int(value)


def _blob(value: object) -> bytes:
    if not isinstance(value, str):
        raise _refused(f"{_token(value)} can not be converted to a Blob")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise _refused("Blob value is not valid base64") from None


def _time(value: object) -> datetime:
    """Read a timestamp of the body: seconds since the epoch, or a date in text."""
    if isinstance(value, str):
        return _time_of_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(f"{_token(value)} can not be converted to a Timestamp")
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        raise _refused("NUMBER_VALUE can not be converted to a Timestamp") from None


def _time_of_text(text: str) -> datetime:
    """Read a timestamp of the query (ISO 8601) or a header (RFC 7231)."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            when = read(text)
            return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
        except (ValueError, OverflowError, TypeError, IndexError):
            continue
    raise _refused("STRING_VALUE can not be converted to a Timestamp")


def _article(kind: str) -> str:
    return {"integer": "an Integer"}.get(kind, f"a {kind.capitalize()}")


def _token(value: object) -> str:
    if isinstance(value, bool):
        return "TRUE_VALUE" if value else "FALSE_VALUE"
    return "STRING_VALUE" if isinstance(value, str) else "NUMBER_VALUE"


def _unexpected(value: object) -> str:
    if isinstance(value, dict):
        return "Start of structure or map found where not expected."
    if isinstance(value, list):
        return "Start of list found where not expected"
    return "Unexpected field type"
