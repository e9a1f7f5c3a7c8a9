"""From an HTTP request to the event of a function URL, payload format 2.0.

Source: "Request payload format" at
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html#urls-request-payload
"""

from __future__ import annotations

import base64
import functools
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

import msgspec

from pilotlight.dataplane.frontend.http.head import RequestHead
from pilotlight.ports.auth import Caller

_encode = msgspec.json.Encoder().encode
_HIDDEN = frozenset(
    {
        b"connection",
        b"cookie",  # has a member of its own
        b"expect",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-amzn-trace-id",
        b"x-forwarded-for",
        b"x-forwarded-port",
        b"x-forwarded-proto",
    }
)
"""Headers that concern the connection, or that we say ourselves."""
_TEXT_TYPES = frozenset({"application/json", "application/javascript", "application/xml"})
_MAX_QUERY_FIELDS = 1000
_HOLES = tuple(secrets.token_hex(16) for _ in range(4))
"""What stands in a template for trace, request id, time and epoch: nobody can guess and send it."""


class Fields(NamedTuple):
    """The headers of a request as one pass over them finds them.

    Attributes:
        headers: by lower-case name, the values of repeated ones joined by commas; without those
            that concern the connection and those that the event carries elsewhere.
        cookies: each ``name=value``.
        forwarded_for: what the client or a proxy said before us.
        trace: the trace header, None without one.
    """

    headers: dict[str, str]
    cookies: list[str]
    forwarded_for: list[str]
    trace: bytes | None


class Origin(NamedTuple):
    """Where a request arrived; the members of the event that no header carries.

    Attributes:
        path: as received, still percent-encoded, without the ``/url/<id>`` of the path form.
        port: of the listener, for ``x-forwarded-port``.
        scheme: of the listener, for ``x-forwarded-proto``.
        owner: account of the function.
        caller: who signed the request, None for a public URL.
    """

    url_id: str
    domain: str
    path: bytes
    request_id: str
    trace: str
    wall_s: float
    port: str
    scheme: str
    owner: str
    caller: Caller | None


def build_event(head: RequestHead, fields: Fields, body: bytes, origin: Origin) -> bytes:
    """The event as JSON text. The body is joined in last, so a large one is copied but once."""
    return _with_body(
        _encode(_document(head, fields, origin)), body, is_text=_is_text(fields.headers)
    )


class Template:
    """The event of a request whose head comes again and again, but for what differs each time.

    Clients of a keep-alive connection repeat their head to the byte; encoding the event anew for
    each request costs more than parsing it.
    """

    __slots__ = ("_is_text", "_parts")

    def __init__(self, head: RequestHead, fields: Fields, origin: Origin) -> None:
        trace, request_id, time, epoch = _HOLES
        document = _document(head, fields, origin._replace(trace=trace, request_id=request_id))
        document["requestContext"] |= {"time": time, "timeEpoch": epoch}
        rest = _encode(document)
        parts: list[bytes] = []
        for hole in (trace, request_id, time, f'"{epoch}"'):
            part, _, rest = rest.partition(hole.encode("ascii"))
            parts.append(part)
        self._parts = (*parts, rest)
        self._is_text = _is_text(fields.headers)

    def fill(self, body: bytes, *, trace: str, request_id: str, wall_s: float) -> bytes:
        """The event of one request.

        Args:
            body: of the request.
            trace: as `trace_id` gives it: without characters that JSON would escape.
            request_id: a UUID.
            wall_s: seconds since the epoch.
        """
        first, second, third, fourth, rest = self._parts
        event = b"%b%b%b%b%b%b%b%d%b" % (
            first,
            trace.encode("ascii"),
            second,
            request_id.encode("ascii"),
            third,
            _time_text(int(wall_s)).encode("ascii"),
            fourth,
            int(wall_s * 1000),
            rest,
        )
        return _with_body(event, body, is_text=self._is_text)


def _document(head: RequestHead, fields: Fields, origin: Origin) -> dict[str, Any]:
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": origin.path.decode("ascii"),
        "rawQueryString": head.query.decode("ascii"),
    }
    if fields.cookies:
        event["cookies"] = fields.cookies
    address = head.client[0] if head.client is not None else ""
    headers = dict(fields.headers)
    headers["x-forwarded-for"] = ", ".join([*fields.forwarded_for, address])
    headers["x-forwarded-port"] = origin.port
    headers["x-forwarded-proto"] = origin.scheme
    headers["x-amzn-trace-id"] = origin.trace
    event["headers"] = headers
    if head.query:
        event["queryStringParameters"] = join_query(head.query)
    event["requestContext"] = _context(head, origin, address, headers.get("user-agent", ""))
    return event


def text(value: bytes) -> str:
    """A header's value as text: UTF-8 where it is that, else Latin-1, which never fails."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def read_fields(fields: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Sort a request's headers into what the event needs."""
    headers: dict[str, str] = {}
    cookies: list[str] = []
    forwarded: list[str] = []
    trace = None
    for name, value in fields:
        if name in _HIDDEN:
            if name == b"cookie":
                cookies += [part for c in text(value).split(";") if (part := c.strip())]
            elif name == b"x-forwarded-for":
                forwarded.append(text(value))
            elif name == b"x-amzn-trace-id":
                trace = value
            continue
        key = name.decode("ascii")
        if key in headers:
            headers[key] += "," + text(value)
        else:
            headers[key] = text(value)
    return Fields(headers, cookies, forwarded, trace)


def join_query(query: bytes) -> dict[str, str]:
    """Query parameters, decoded, the values of repeated ones joined by commas.

    Example: ``a=1&a=2&b`` gives ``{"a": "1,2", "b": ""}``.
    """
    joined: dict[str, list[str]] = {}
    for field in query.decode("ascii").split("&")[:_MAX_QUERY_FIELDS]:
        if field:
            name, _, value = field.partition("=")
            joined.setdefault(unquote_plus(name), []).append(unquote_plus(value))
    return {name: ",".join(values) for name, values in joined.items()}


@functools.lru_cache(maxsize=256)
def is_text_body(content_type: str, content_encoding: str) -> bool:
    """Whether a body of this type goes into the event as text rather than in Base64."""
    if content_encoding and content_encoding.lower() != "identity":
        return False
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in _TEXT_TYPES or kind.endswith(("+json", "+xml"))


@functools.lru_cache(maxsize=4)
def _time_text(second: int) -> str:
    """Example: 12/Mar/2020:19:03:58 +0000."""
    return f"{datetime.fromtimestamp(second, UTC):%d/%b/%Y:%H:%M:%S} +0000"


def _context(head: RequestHead, origin: Origin, address: str, user_agent: str) -> dict[str, object]:
    context: dict[str, object] = {
        "accountId": "anonymous",
        "apiId": origin.url_id,
        "domainName": origin.domain,
        "domainPrefix": origin.url_id,
        "http": {
            "method": head.method.decode("ascii"),
            "path": origin.path.decode("ascii"),
            "protocol": f"HTTP/{head.version}",
            "sourceIp": address,
            "userAgent": user_agent,
        },
        "requestId": origin.request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": _time_text(int(origin.wall_s)),
        "timeEpoch": int(origin.wall_s * 1000),
    }
    if origin.caller is not None:
        context["accountId"] = origin.owner
        context["authorizer"] = {"iam": _identity(origin.caller)}
    return context


def _identity(caller: Caller) -> dict[str, object]:
    return {
        "accessKey": caller.access_key,
        "accountId": caller.account,
        "callerId": caller.account,
        "cognitoIdentity": None,
        "principalOrgId": None,
        "userArn": f"arn:aws:iam::{caller.account}:root",
        "userId": caller.account,
    }


def _is_text(headers: Mapping[str, str]) -> bool:
    return is_text_body(headers.get("content-type", ""), headers.get("content-encoding", ""))


def _with_body(event: bytes, body: bytes, *, is_text: bool) -> bytes:
    if not body:
        return event[:-1] + b',"isBase64Encoded":false}'
    if is_text:
        try:
            return _joined(event, _encode(body.decode()), b"false")
        except UnicodeDecodeError:
            pass  # declared as text but is not UTF-8: Base64 keeps every byte
    return _joined(event, b'"%b"' % base64.b64encode(body), b"true")


def _joined(event: bytes, body: bytes, encoded: bytes) -> bytes:
    parts: Sequence[bytes] = (event[:-1], b',"body":', body, b',"isBase64Encoded":', encoded, b"}")
    return b"".join(parts)
