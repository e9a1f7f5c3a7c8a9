"""Payloads to values and results to JSON text, with the same outcome as ``awslambdaric``.

That runtime uses ``simplejson``, whose results differ from the standard library's in visible
ways: named tuples become objects, bytes become text, decimals keep their digits, ``NaN`` in a
payload is refused. The standard library's C code is used only where both must agree. For results
that means values made of exact built-in types alone, which `marshal` finds out at C speed; all
others go through `_Spelling`.
"""

from __future__ import annotations

import decimal
import json
import marshal
import re
from collections.abc import Iterable
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, Callable

from pilotlight_guest.python import faults
from pilotlight_guest.python.faults import Fault
from pilotlight_guest.python.jsonfault import explain

_NO_REFERENCES = 2
"""Format version of `marshal` that follows shared values, and so refuses cycles by its depth
limit instead of storing them as references."""

_ASCII_ONLY_BEFORE = (3, 12)
"""Lambda's runtimes write non-ASCII characters as they are from ``python3.12`` on."""

_skip_space = re.compile(r"[ \t\n\r]*").match


class _Refused(ValueError):
    """A constant that JSON does not have."""


def _refuse(name: str) -> None:
    raise _Refused(name)


_scan: Callable[[str, int], tuple[Any, int]]
_scan = json.JSONDecoder(parse_constant=_refuse).scan_once  # type: ignore[attr-defined]  # since 2.7

_make_fast_encoder: Callable[..., Callable[[object, int], Iterable[str]]] | None
_make_fast_encoder = getattr(json.encoder, "c_make_encoder", None)


def decode(payload: bytes | bytearray | memoryview) -> Any:  # noqa: ANN401  # any JSON value
    """The event of an invocation.

    Raises:
        Fault: the payload is not UTF-8 or not JSON.
    """
    try:
        text = str(payload, "utf-8")
        try:
            value, end = _scan(text, 0)
            if end == len(text):
                return value
        except (StopIteration, ValueError):
            pass  # maybe no error at all: the scanner takes neither space nor a byte order mark
        return _decode_loosely(text)
    except Exception as exc:
        raise Fault(faults.UNMARSHAL, f"Unable to unmarshal input: {exc}") from exc


def _decode_loosely(text: str) -> Any:  # noqa: ANN401  # any JSON value
    start = _space_end(text, _mark_end(text))
    try:
        value, end = _scan(text, start)
    except (StopIteration, json.JSONDecodeError, _Refused) as exc:
        raise ValueError(explain(text, start)) from exc
    if _space_end(text, end) != len(text):
        raise ValueError(explain(text, start))
    return value


def _mark_end(text: str) -> int:
    """Where the text begins after a byte order mark, also one that was encoded twice."""
    if text.startswith("\ufeff"):
        return 1
    return 3 if text.startswith("\xef\xbb\xbf") else 0


def _space_end(text: str, start: int) -> int:
    match = _skip_space(text, start)
    return match.end() if match else start


class Encoder:
    """Writes results as the runtime of one Python version does."""

    def __init__(self, *, ascii_only: bool) -> None:
        self._quote: Callable[[str], str] = (
            encode_basestring_ascii if ascii_only else encode_basestring
        )
        self._fast = _make_fast_encoder and _make_fast_encoder(
            None,  # no memory of open containers: a value that `marshal` took has no cycle
            _no_default,
            self._quote,
            None,  # no indentation
            ": ",
            ", ",
            *(False, False, True),  # keys in their order, none skipped; NaN is written
        )

    def text(self, value: object) -> str:
        """JSON text of a value.

        Raises:
            TypeError: a value or a key has a type that JSON has not.
            ValueError: the value contains itself, or bytes that are not UTF-8.
        """
        if self._fast is not None:
            try:
                marshal.dumps(value, _NO_REFERENCES)  # type: ignore[arg-type]  # that is the question
                return "".join(self._fast(value, 0))
            except (ValueError, TypeError):
                pass  # not of built-in types alone, or an error that `_Spelling` words
        chunks: list[str] = []
        _Spelling(self._quote, chunks).add(value)
        return "".join(chunks)

    def result(self, value: object) -> bytes:
        """What a handler returned, as the body of the answer; bytes are the answer as they are.

        Raises:
            Fault: the value cannot be written as JSON.
            UnicodeEncodeError: text with lone surrogates; ends the process as on Lambda.
        """
        if isinstance(value, bytes):
            return value
        try:
            text = self.text(value)
        except Exception as exc:
            raise Fault(faults.MARSHAL, f"Unable to marshal response: {exc}") from exc
        return text.encode()


def _no_default(value: object) -> None:
    raise TypeError(type(value).__name__)


def encoder_for(execution_env: str) -> Encoder:
    """The encoder of a runtime, from its ``AWS_EXECUTION_ENV``."""
    match = re.fullmatch(r"AWS_Lambda_python(\d+)\.(\d+)", execution_env)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    return Encoder(ascii_only=version < _ASCII_ONLY_BEFORE)


class _Spelling:
    """Writes any value piece by piece, for what the C encoder would write differently."""

    def __init__(self, quote: Callable[[str], str], chunks: list[str]) -> None:
        self._quote = quote
        self._put = chunks.append
        self._open: set[int] = set()

    def add(self, value: Any) -> None:  # noqa: ANN401  # whatever the handler returned
        """Append the pieces of ``value``."""
        if isinstance(value, (str, bytes)):
            self._put(self._quoted(value))
        elif value is None or value is True or value is False:
            self._put(_CONSTANTS[value])
        elif isinstance(value, int):
            self._put(int.__repr__(value))
        elif isinstance(value, float):
            self._put(_number(value))
        elif isinstance(value, decimal.Decimal):
            self._put("NaN" if value.is_nan() else str(value))
        else:
            self._add_container(value)

    def _quoted(self, value: str | bytes) -> str:
        return self._quote(str(value, "utf-8") if isinstance(value, bytes) else str.__str__(value))

    def _add_container(self, value: Any) -> None:  # noqa: ANN401  # whatever the handler returned
        if id(value) in self._open:
            raise ValueError("Circular reference detected")
        self._open.add(id(value))
        fields = _fields(value)
        if fields is not None:
            self._add_object(fields)
        elif isinstance(value, (list, tuple)):
            self._add_array(value)
        elif isinstance(value, dict):
            self._add_object(value)
        else:
            raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
        self._open.discard(id(value))

    def _add_array(self, values: list[Any] | tuple[Any, ...]) -> None:
        before = "["
        for value in values:
            self._put(before)
            self.add(value)
            before = ", "
        self._put("[]" if before == "[" else "]")

    def _add_object(self, fields: dict[Any, Any]) -> None:
        before = "{"
        for key, value in fields.items():
            self._put(before)
            self._put(self._quoted(_key(key)))
            self._put(": ")
            self.add(value)
            before = ", "
        self._put("{}" if before == "{" else "}")


_CONSTANTS = {None: "null", True: "true", False: "false"}


def _number(value: float) -> str:
    if value != value:  # noqa: PLR0124  # only NaN differs from itself
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return float.__repr__(value)


def _key(key: object) -> str | bytes:
    if isinstance(key, (str, bytes)):
        return key
    if isinstance(key, float):
        return _number(key)
    if key is None or key is True or key is False:
        return _CONSTANTS[key]
    if isinstance(key, int):
        return int.__repr__(key)
    message = f"keys must be str, int, float, bool or None, not {type(key).__name__}"
    raise TypeError(message)


def _fields(value: Any) -> dict[Any, Any] | None:  # noqa: ANN401  # any user object
    """What a named tuple, or anything with a callable ``_asdict``, has as members."""
    method = getattr(value, "_asdict", None)
    if not callable(method):
        return None
    try:
        fields = method()
    except TypeError:
        return None
    if not isinstance(fields, dict):
        raise TypeError(f"_asdict() must return a dict, not {type(fields).__name__}")
    return fields
