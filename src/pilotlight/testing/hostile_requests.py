"""Requests of any operation, drawn from the service's model: valid, at the limits, and hostile.

The model says what is valid; everything else here is what clients get wrong and what attackers
try: wrong types, lengths beside the limits, strange text, duplicate keys, deep and huge JSON,
wrong content types, and paths that mean another place.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from pilotlight.wire.lambda_model import model

Known = Mapping[str, Sequence[Any]]
"""Good values by member name: names of things that exist, and texts with a form of their own."""
Draw = Callable[[st.SearchStrategy[Any]], Any]

_LONGEST = 70_000
"""Texts are not made longer than this, whatever the model allows."""
_DEEPEST = 6
"""Structures deeper than this are cut: the model has one that contains itself."""


class Raw(str):
    """JSON text that goes into the body as it is."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """Members of a JSON object in order; names may repeat."""


@dataclass(frozen=True, slots=True, repr=False)
class HostileRequest:
    """One request; ``target`` is path and query as they go on the wire."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        """The request, long parts cut."""
        parts = (self.method, self.target[:400], str(self.headers)[:400], self.body[:1500])
        return f"HostileRequest{parts!r}"


UGLY = (
    "", " ", "\t", "../../etc/passwd", "..", ".", "/", "//", "a/b", "%00", "%2F", "%2e%2e%2f",
    "\x00", "a\r\nX-Amz-Evil: 1", "\u202eevil", "é", "e\u0301", "😀" * 20, "\ufeff", "\ufffe",
    "null", "None", "true", "-1", "1e309", "NaN", "$LATEST", "$LATEST.PUBLISHED", "*", "**",
    "${aws:username}", "{{7*7}}", "'; DROP TABLE records; --", "arn:aws:lambda:", ":", "::::::",
    "arn:aws:lambda:us-east-1:000000000000:function:", "arn:aws:lambda:us-east-1:1:function:f",
    "arn:aws:lambda:eu-west-1:111111111111:function:other:1", "a" * 64, "a" * 65, "a" * 129,
    "a" * 257, "a" * 5000, "x" * _LONGEST, "0" * 400, "(a+)+$", "a" * 200 + "!",
)  # fmt: skip
"""Texts that have broken something somewhere."""

RAW = (
    Raw("1e400"), Raw("-1e400"), Raw("1" * 4000), Raw("-0"), Raw("1.0"), Raw("0.1e-400"), Raw("01"),
    Raw("NaN"), Raw("Infinity"), Raw('"\\ud800"'), Raw('"\\udc00\\ud800"'), Raw('"\\u0000"'),
    Raw("[" * 3000 + "]" * 3000), Raw('{"a":' * 3000 + "1" + "}" * 3000), Raw("[" * 3000),
    Raw("tru"), Raw('"unended'), Raw(""), Raw("9223372036854775808"), Raw("2147483648"),
)  # fmt: skip
"""JSON that is wrong, or right and unusual."""

LABELS = (
    "", "..", ".", "%2e%2e", "%2E%2E%2F", "%2F", "%2f%2f", "%00", "%", "%zz", "%0d%0aX:%20y", "%C0%AF",
    "%FF", "%25252F", ";x=1", "a;b", "a%3Bb", "a%20b", "a+b", "%E2%80%AE", "a%3A%3A%3Ab", "%2A", "a" * 9000,
)  # fmt: skip
"""Path segments as they go on the wire."""

BODIES = (
    b"", b"null", b"[]", b"1", b'"text"', b"true", b"{", b"}", b"\xff\xfe", b"\xef\xbb\xbf{}",
    b"\x1f\x8b\x08\x00", b'{"a":"\xc3"}', b"{}{}", b"{} x", b" " * 4096, b"\x00" * 64,
    b"<xml/>", b"a=1&b=2",
)  # fmt: skip
"""Whole bodies that are no JSON object, or only just."""

CONTENT_TYPES = (
    "application/json", "application/x-amz-json-1.1", "application/x-www-form-urlencoded", "text/xml",
    "multipart/form-data; boundary=x", "application/json; charset=utf-16", "", "x" * 2000,
)  # fmt: skip

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
    | st.text(max_size=8) | st.sampled_from(RAW),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
_ANY = st.sampled_from(UGLY) | st.sampled_from(RAW) | _JSON


def hostile_requests(operation: str, known: Known) -> st.SearchStrategy[HostileRequest]:
    """Requests of an operation: about a third should be acceptable, the rest have a fault or two.

    Args:
        operation: name in the model.
        known: good values.
    """

    @st.composite
    def request(draw: Any) -> HostileRequest:  # noqa: ANN401  (hypothesis gives no type for it)
        return _Maker(draw, known).request(model.operation(operation))

    return request()


class _Maker:
    """Draws one request; ``faults`` is how many values may still be spoiled."""

    def __init__(self, draw: Draw, known: Known) -> None:
        self._draw = draw
        self._known = known
        self._faults = draw(st.sampled_from((0, 0, 1, 1, 2, 8)))
        self._is_sparse = draw(st.booleans())

    def request(self, operation: model.Operation) -> HostileRequest:
        shape = model.structure(operation.input)
        path, _, fixed = operation.uri.partition("?")
        query = [pair for pair in fixed.split("&") if pair]
        headers: dict[str, str] = {}
        body: Any = Pairs()
        for member in shape.members:
            if not self._wants(member):
                continue
            if member.location == "uri":
                path = path.replace("{" + member.wire_name + "}", self._label(member), 1)
            elif member.location == "querystring":
                query += self._pairs(member)
            elif member.location == "header":
                headers[member.wire_name] = self._header(member)
            elif member.name == shape.payload:
                body = self._value(member.name, member.shape, 0)
            elif member.location == "":
                body.append((member.wire_name, self._value(member.name, member.shape, 0)))
        encoded = self._body(body, is_whole=shape.payload is not None)
        if encoded or self._spoils(10):
            headers["Content-Type"] = self._one_of(CONTENT_TYPES, usual="application/json")
        target = self._target(path, query)
        method = operation.method
        if self._spoils(20):
            method = self._draw(st.sampled_from(("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD")))
        return HostileRequest(method, target, headers, encoded)

    def _spoils(self, one_in: int) -> bool:
        if self._faults <= 0 or self._draw(st.integers(1, one_in)) != 1:
            return False
        self._faults -= 1
        return True

    def _one_of(self, values: Sequence[Any], *, usual: Any) -> Any:  # noqa: ANN401
        return self._draw(st.sampled_from(values)) if self._spoils(8) else usual

    def _wants(self, member: model.Member) -> bool:
        if member.required or member.location == "uri":
            return member.location == "uri" or not self._spoils(12)
        return bool(
            self._draw(st.integers(0, 5)) == 0 if self._is_sparse else self._draw(st.booleans())
        )

    # -- places -------------------------------------------------------------------------------

    def _label(self, member: model.Member) -> str:
        if self._spoils(6):
            return str(self._draw(st.sampled_from(LABELS)))
        return quote(_text(self._value(member.name, member.shape, 0)), safe="")

    def _pairs(self, member: model.Member) -> list[str]:
        value = self._value(member.name, member.shape, 0)
        values = value if isinstance(value, list) and not isinstance(value, Pairs) else [value]
        pairs = [f"{member.wire_name}={quote(_text(item), safe='')}" for item in values]
        if self._spoils(8):
            pairs.append(f"{member.wire_name}={quote(self._draw(st.sampled_from(UGLY)), safe='')}")
        return pairs

    def _header(self, member: model.Member) -> str:
        text = _text(self._value(member.name, member.shape, 0))
        return "".join(c for c in text if " " <= c <= "~")[:4000].strip()

    def _target(self, path: str, query: list[str]) -> str:
        if self._spoils(8):
            place = self._draw(st.sampled_from(("//", "/./", "/x/../", "/%2e/", "/", "/%2F")))
            head, _, tail = path[1:].partition("/")
            path = f"/{head}{place}{tail}" if place != "/" else path + "/"
        if self._spoils(8):
            query.append(
                self._draw(st.sampled_from(("=", "x", "Marker=%00", "%", "MaxItems=", "&&")))
            )
        return path + ("?" + "&".join(query) if query else "")

    def _body(self, body: Any, *, is_whole: bool) -> bytes:  # noqa: ANN401
        if self._spoils(8):
            return bytes(self._draw(st.sampled_from(BODIES)))
        if is_whole and isinstance(body, bytes):
            return body
        if not body:
            return b""
        if isinstance(body, Pairs) and self._spoils(8):
            body.append((body[0][0], self._draw(_ANY)))
        if isinstance(body, Pairs) and self._spoils(8):
            body.append((self._draw(st.sampled_from(UGLY)), self._draw(_ANY)))
        return dump(body).encode("utf-8", "surrogatepass")

    # -- values -------------------------------------------------------------------------------

    def _value(self, name: str, shape_name: str, depth: int) -> Any:  # noqa: ANN401
        if self._spoils(8):
            return self._draw(_ANY)
        good = self._known.get(name)
        if good and self._draw(st.integers(0, 9)) != 0:
            return self._draw(st.sampled_from(good))
        shape = model.shape(shape_name)
        if isinstance(shape, model.Scalar):
            return self._scalar(shape)
        if isinstance(shape, model.ListShape):
            count = self._count(int(shape.minimum or 0), int(min(shape.maximum or 3, 3)), shape)
            return [self._value("", shape.member, depth + 1) for _ in range(count)]
        if isinstance(shape, model.MapShape):
            return self._map(shape, depth)
        members = shape.members if depth <= _DEEPEST else ()
        return Pairs(
            (member.wire_name, self._value(member.name, member.shape, depth + 1))
            for member in members
            if self._wants(member)
        )

    def _map(self, shape: model.MapShape, depth: int) -> Pairs:
        count = self._count(0, 3, shape)
        keys = [_text(self._value("", shape.key, depth + 1)) for _ in range(count)]
        return Pairs((key, self._value("", shape.value, depth + 1)) for key in keys)

    def _count(self, least: int, most: int, shape: model.ListShape | model.MapShape) -> int:
        if self._spoils(10):
            return int(min((shape.maximum or 4) + 1, 60))
        return int(self._draw(st.integers(min(least, 5), max(least, most))))

    def _scalar(self, shape: model.Scalar) -> Any:  # noqa: ANN401
        if shape.type == "boolean":
            return self._draw(st.booleans())
        if shape.type == "blob":
            return self._draw(st.binary(max_size=16))
        if shape.type == "timestamp":
            return self._draw(
                st.sampled_from((0, 1.5, 1_700_000_000, "2024-01-01T00:00:00Z", 2**40))
            )
        if shape.type != "string":
            return self._number(shape)
        if shape.enum:
            return self._draw(st.sampled_from(shape.enum))
        return self._string(shape)

    def _number(self, shape: model.Scalar) -> Any:  # noqa: ANN401
        least = int(shape.minimum or 0)
        most = int(shape.maximum) if shape.maximum is not None else least + 1000
        if self._spoils(4):
            odd = (least - 1, most + 1, -1, 2**31, 2**63, -(2**63) - 1, 1.5, 10**30)
            return self._draw(st.sampled_from(odd))
        return self._draw(st.sampled_from((least, most)) | st.integers(least, most))

    def _string(self, shape: model.Scalar) -> str:
        least = int(shape.minimum or 0)
        most = int(min(shape.maximum or least + 40, _LONGEST))
        lengths = st.sampled_from((least, most)) | st.integers(least, min(most, 40 + least))
        if self._spoils(4):
            lengths = st.sampled_from((max(0, least - 1), most + 1))
        length = int(self._draw(lengths))
        piece = str(self._draw(st.sampled_from(("a", "b1", "x-y", "Z_", "9"))))
        return (piece * (length + 1))[:length]


def dump(value: Any) -> str:  # noqa: ANN401
    """Write JSON as the parts say, faults included."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, bytes):
        return json.dumps(base64.b64encode(value).decode())
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{json.dumps(_text(k))}:{dump(v)}" for k, v in value) + "}"
    if isinstance(value, Mapping):
        return dump(Pairs(value.items()))
    if isinstance(value, list | tuple):
        return "[" + ",".join(dump(item) for item in value) + "]"
    return json.dumps(value)


def _text(value: Any) -> str:  # noqa: ANN401
    """A value where only text can stand."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, bool):
        return str(value).lower()
    text = (
        value
        if isinstance(value, str)
        else str(value)
        if isinstance(value, int | float)
        else dump(value)
    )
    return text[:9000].encode("utf-8", "replace").decode()
