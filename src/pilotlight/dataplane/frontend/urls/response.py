"""From a function's answer to the HTTP response of its URL.

Source: "Response payload format" at
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-response-payload

A function is hostile: nothing it returns may end a header line, frame the body or start a second
response. What cannot be mapped safely is no response at all (502).
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from typing import NamedTuple

import msgspec

from pilotlight.dataplane.frontend.http.answers import NO_BODY_STATUSES
from pilotlight_guest.frames import BYTES_TYPE, HTTP_TYPE, PRELUDE_END

JSON_TYPE = ("content-type", "application/json")
JSON_ONLY = (JSON_TYPE,)
_decode = msgspec.json.Decoder().decode
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that are the server's to say; the function's are dropped."""
_MAX_HEADERS = 200
_MAX_HEADER_BYTES = 64 * 1024
_STATUSES = range(200, 600)


class NotAResponse(Exception):
    """What the function returned cannot be turned into an HTTP response."""


class UrlResponse(NamedTuple):
    """A response that is safe to send: names are tokens, values have no control characters."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def map_response(payload: bytes) -> UrlResponse:
    """Turn a function's result into a response.

    An object with ``statusCode`` says the whole response; anything else is the body of a 200: a
    string as it is, other values as compact JSON.

    Raises:
        NotAResponse: the result is no JSON, or a member has a wrong type or a forbidden character.
    """
    if b"statusCode" not in payload and b"\\" not in payload and payload[:1] not in b'" \t\r\n':
        return UrlResponse(200, JSON_ONLY, _compact(payload))
    value = _load(payload)
    if isinstance(value, dict) and "statusCode" in value:
        return _explicit(value)
    if isinstance(value, str):
        return UrlResponse(200, JSON_ONLY, _encode_text(value))
    return UrlResponse(200, JSON_ONLY, _compact(payload))


def map_stream(content_type: str, payload: bytes) -> UrlResponse:
    """Turn a streamed result that was collected into a response.

    Raises:
        NotAResponse: the prelude is missing, or says what cannot be said.
    """
    if content_type != HTTP_TYPE:
        return UrlResponse(200, (("content-type", content_type),), payload)
    prelude, found, body = payload.partition(PRELUDE_END)
    if not found:
        raise NotAResponse("the stream has no prelude")
    head = map_prelude(prelude)
    return head._replace(body=b"" if head.status in NO_BODY_STATUSES else body)


def map_prelude(prelude: bytes) -> UrlResponse:
    """Status and headers of a response whose body is streamed.

    Raises:
        NotAResponse: it is no JSON object, or a member has a wrong type or a forbidden character.
    """
    value = _load(prelude)
    if not isinstance(value, dict):
        raise NotAResponse("the prelude is not an object")
    head = {name: value.get(name) for name in ("headers", "cookies")}
    named = head["headers"]
    if isinstance(named, dict) and not any(str(name).lower() == JSON_TYPE[0] for name in named):
        head["headers"] = {JSON_TYPE[0]: BYTES_TYPE, **named}
    elif named is None:
        head["headers"] = {JSON_TYPE[0]: BYTES_TYPE}
    return _explicit({"statusCode": value.get("statusCode", 200), **head})


def _load(payload: bytes) -> object:
    try:
        return _decode(payload)
    except RecursionError:
        raise NotAResponse("nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Lone surrogates and huge numbers are JSON to Python but not to the fast decoder.
        try:
            value: object = json.loads(payload)
        except (ValueError, RecursionError):
            raise NotAResponse("not JSON") from None
        return value


def _compact(payload: bytes) -> bytes:
    try:
        return msgspec.json.format(payload, indent=-1)
    except (msgspec.MsgspecError, RecursionError):
        try:
            return json.dumps(json.loads(payload), separators=(",", ":")).encode()
        except (ValueError, RecursionError):
            raise NotAResponse("not JSON") from None


def _encode_text(value: str) -> bytes:
    return value.encode("utf-8", "replace")  # a lone surrogate becomes "?"


def _explicit(value: dict[str, object]) -> UrlResponse:
    status = _status(value["statusCode"])
    named = _headers(value.get("headers"))
    if JSON_TYPE[0] not in named:
        named = dict(JSON_ONLY) | named
    headers = [*named.items(), *_cookies(value.get("cookies"))]
    size = sum([len(name) + len(content) for name, content in headers])
    if len(headers) > _MAX_HEADERS or size > _MAX_HEADER_BYTES:
        raise NotAResponse("too many headers")
    body = _body(value.get("body"), is_base64=value.get("isBase64Encoded"))
    return UrlResponse(status, tuple(headers), b"" if status in NO_BODY_STATUSES else body)


def _status(value: object) -> int:
    if type(value) is int and value in _STATUSES:
        return value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 3:  # noqa: PLR2004
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value not in _STATUSES:
        raise NotAResponse("statusCode is not an integer from 200 to 599")
    return value


def _headers(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise NotAResponse("headers is not an object")
    headers: dict[str, str] = {}
    for name, content in value.items():
        key = _header_name(str(name))
        if content is not None and key not in _FRAMING:
            headers[key] = _checked(_scalar(content))
    return headers


@functools.lru_cache(maxsize=1024)
def _header_name(name: str) -> str:
    key = name.lower()
    if _NAME.fullmatch(key) is None:
        raise NotAResponse("a header's name is not a token")
    return key


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise NotAResponse("a header's value is not a string")


def _cookies(value: object) -> list[tuple[str, str]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise NotAResponse("cookies is not a list")
    return [("set-cookie", _checked(_scalar(cookie))) for cookie in value]


def _checked(value: str) -> str:
    if not value.isprintable() and _VALUE.fullmatch(value) is None:
        raise NotAResponse("a header's value has a control character")
    return value.strip(" \t")


def _body(value: object, *, is_base64: object) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, str):
        if isinstance(value, dict | list):
            raise NotAResponse("body is not a string")
        value = _scalar(value)
    if is_base64 is True or is_base64 == "true":
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise NotAResponse("body is not Base64") from None
    return _encode_text(value)
