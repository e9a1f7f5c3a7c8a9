"""Event patterns: whether a filter of an event source mapping can be one.

Pure. Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html and
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

_DEPTH_MAX: Final = 32
_COMPARISONS: Final = frozenset({"=", "<", "<=", ">", ">="})
_OR: Final = "$or"


def is_pattern(text: str) -> bool:
    """Whether a text is a pattern: JSON objects whose leaves are lists of values and matchers."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and bool(document) and _is_object(document, 0)


def _is_object(document: Mapping[str, object], depth: int) -> bool:
    if depth > _DEPTH_MAX:
        return False
    return all(_is_member(name, value, depth) for name, value in document.items())


def _is_member(name: str, value: object, depth: int) -> bool:
    if isinstance(value, dict):
        return bool(value) and _is_object(value, depth + 1)
    if not isinstance(value, list) or not value:
        return False
    if name == _OR and all(isinstance(item, dict) for item in value):
        return len(value) > 1 and all(_is_object(item, depth + 1) for item in value)
    return all(_is_leaf(item) for item in value)


def _is_leaf(item: object) -> bool:
    if not isinstance(item, dict):
        return item is None or isinstance(item, str | int | float | bool)
    if len(item) != 1:
        return False
    ((name, value),) = item.items()
    check = _MATCHERS.get(name)
    return check is not None and check(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_affix(value: object) -> bool:
    if isinstance(value, dict):
        return len(value) == 1 and _is_text(value.get("equals-ignore-case"))
    return _is_text(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_numeric(value: object) -> bool:
    """One comparison, or two that bound a range."""
    if not isinstance(value, list) or len(value) not in (2, 4):
        return False
    pairs = list(zip(value[::2], value[1::2], strict=True))
    return all(sign in _COMPARISONS and _is_number(number) for sign, number in pairs)


def _is_anything_but(value: object) -> bool:
    if isinstance(value, dict):
        ((name, inner),) = value.items() if len(value) == 1 else (("", None),)
        if name not in ("prefix", "suffix", "equals-ignore-case", "wildcard"):
            return False
        return (
            all(map(_is_text, inner)) and bool(inner)
            if isinstance(inner, list)
            else _is_text(inner)
        )
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(isinstance(item, str) or _is_number(item) for item in values)


def _is_cidr(value: object) -> bool:
    try:
        ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        return False
    return isinstance(value, str) and "/" in value


def _is_wildcard(value: object) -> bool:
    return isinstance(value, str) and bool(value) and "**" not in value


_MATCHERS: Mapping[str, Callable[[object], bool]] = MappingProxyType(
    {
        "exists": lambda value: isinstance(value, bool),
        "prefix": _is_affix,
        "suffix": _is_affix,
        "equals-ignore-case": _is_text,
        "wildcard": _is_wildcard,
        "numeric": _is_numeric,
        "anything-but": _is_anything_but,
        "cidr": _is_cidr,
    }
)
