"""The constraints of the model, reported as the service reports them: all at once.

``2 validation errors detected: Value 'x' at 'functionName' failed to satisfy constraint: Member
must …; Value …``. Clients match on these texts, so words, order and punctuation are the
service's own. Members of lists and maps are judged together: one violation that prints the
whole collection and every constraint of its members.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import islice

from pilotlight.model.errors import ApiError
from pilotlight.wire.lambda_model import model
from pilotlight.wire.lambda_model.overrides import UNCHECKED

_NOT_NULL = "Member must not be null"
_PATTERN_LIMIT = 16 * 1024
"""Characters after which a value fails its pattern unread, so no input can make matching slow.
No shape with a pattern that matters admits more; policies (20 KiB) have a pattern that admits all."""
_VIOLATIONS_LIMIT = 100
_PRINTED_LIMIT = 8 * 1024
"""Violations of one request, and characters of one value, that an answer repeats at most."""


def validate(operation: str, params: Mapping[str, object]) -> None:
    """Check the parameters of an operation against the constraints of the model.

    Args:
        operation: a name of the model.
        params: as `parsing.parse` returns them.

    Raises:
        ApiError: ValidationException that names every violation, in the order of the model.
    """
    violations = _structure(model.structure(model.operation(operation).input), params, "")
    found = list(islice(violations, _VIOLATIONS_LIMIT))
    if not found:
        return
    plural = "s" if len(found) > 1 else ""
    message = f"{len(found)} validation error{plural} detected: {'; '.join(found)}"
    raise ApiError("ValidationException", message, status=400)


def violation(value: object, at: str, constraint: str, *, sensitive: bool = False) -> str:
    """Write one violation in the service's words.

    Args:
        value: what was found; None for a missing member.
        at: path of the member, for example ``snapStart.applyOn``.
        constraint: ``Member must …``.
        sensitive: the value is left out.
    """
    if value is None:
        printed = "Value null"
    else:
        printed = "Value" if sensitive else f"Value '{_print(value)[:_PRINTED_LIMIT]}'"
    return f"{printed} at '{at}' failed to satisfy constraint: {constraint}"


def _structure(shape: model.Structure, value: Mapping[str, object], prefix: str) -> Iterator[str]:
    for member in shape.members:
        item = value.get(member.name)
        path = prefix + member.label
        if item is None:
            if member.required:
                yield violation(None, path, _NOT_NULL)
        elif (shape.name, member.name) not in UNCHECKED:
            yield from _value(member.shape, item, path)


def _value(shape_name: str, value: object, path: str) -> Iterator[str]:
    shape = model.shape(shape_name)
    if isinstance(shape, model.Scalar):
        for text, holds in _checks(shape_name):
            if not holds(value):
                yield violation(value, path, text, sensitive=shape.sensitive)
    elif isinstance(shape, model.ListShape) and isinstance(value, list):
        yield from _list(shape, value, path)
    elif isinstance(shape, model.MapShape) and isinstance(value, dict):
        yield from _map(shape, value, path)
    elif isinstance(shape, model.Structure) and isinstance(value, dict):
        yield from _structure(shape, value, f"{path}.")


def _list(shape: model.ListShape, value: list[object], path: str) -> Iterator[str]:
    for text in _size(shape, len(value)):
        yield violation(value, path, text)
    if not _all_hold(shape.member, value):
        constraints = ", ".join([*_texts(shape.member), _NOT_NULL])
        yield violation(value, path, f"Member must satisfy constraint: [{constraints}]")
    for number, item in enumerate(value, 1):
        if item is not None:
            yield from _nested(shape.member, item, f"{path}.{number}.member")


def _map(shape: model.MapShape, value: dict[str, object], path: str) -> Iterator[str]:
    for text in _size(shape, len(value)):
        yield violation(value, path, text, sensitive=shape.sensitive)
    if not _all_hold(shape.key, list(value)):
        text = f"Map keys must satisfy constraint: [{', '.join(_texts(shape.key))}]"
        yield violation(value, path, text, sensitive=shape.sensitive)
    if not _all_hold(shape.value, list(value.values())):
        constraints = ", ".join([*_texts(shape.value), _NOT_NULL])
        text = f"Map value must satisfy constraint: [{constraints}]"
        yield violation(value, path, text, sensitive=shape.sensitive)
    for key, item in value.items():
        if item is not None:
            yield from _nested(shape.value, item, f"{path}.{key}.member")


def _nested(shape_name: str, value: object, path: str) -> Iterator[str]:
    """Violations inside a member of a collection; scalars were judged with the collection."""
    if not isinstance(model.shape(shape_name), model.Scalar):
        yield from _value(shape_name, value, path)


def _size(shape: model.ListShape | model.MapShape, size: int) -> Iterator[str]:
    if shape.maximum is not None and size > shape.maximum:
        yield f"Member must have length less than or equal to {shape.maximum}"
    if shape.minimum is not None and size < shape.minimum:
        yield f"Member must have length greater than or equal to {shape.minimum}"


def _all_hold(shape_name: str, values: list[object]) -> bool:
    if any(value is None for value in values):
        return False
    if not isinstance(model.shape(shape_name), model.Scalar):
        return True
    checks = _checks(shape_name)
    return all(holds(value) for value in values for _, holds in checks)


def _texts(shape_name: str) -> list[str]:
    if not isinstance(model.shape(shape_name), model.Scalar):
        return []
    return [text for text, _ in _checks(shape_name)]


Check = tuple[str, Callable[[object], bool]]


@cache
def _checks(shape_name: str) -> tuple[Check, ...]:
    """Constraints of a scalar in the order the service reports them."""
    shape = model.shape(shape_name)
    if not isinstance(shape, model.Scalar):
        return ()
    checks = list(_limits(shape))
    if shape.pattern is not None:
        text = f"Member must satisfy regular expression pattern: {shape.pattern}"
        checks.append((text, _matcher(shape.pattern)))
    if shape.enum:
        allowed = frozenset(shape.enum)
        text = f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"
        checks.append((text, lambda value: value in allowed))
    return tuple(checks)


def _limits(shape: model.Scalar) -> Iterator[Check]:
    quantity = "length" if shape.type in {"string", "blob"} else "value"
    measure = _length if quantity == "length" else _amount
    maximum, minimum = shape.maximum, shape.minimum
    if maximum is not None:
        text = f"Member must have {quantity} less than or equal to {maximum}"
        yield text, lambda value: measure(value) <= maximum
    if minimum is not None:
        text = f"Member must have {quantity} greater than or equal to {minimum}"
        yield text, lambda value: measure(value) >= minimum


def _length(value: object) -> float:
    if isinstance(value, str) and not value.isascii():
        # The service counts UTF-16 units, as its language does.
        return len(value.encode("utf-16-le", "surrogatepass")) // 2
    return len(value) if isinstance(value, str | bytes) else 0


def _amount(value: object) -> float:
    return value if isinstance(value, int | float) else 0


def _matcher(pattern: str) -> Callable[[object], bool]:
    """Compile one of the model's patterns, which are Java's: ASCII classes, whole value."""
    if pattern == "([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)":
        return _is_tag_text
    if pattern in {"[\\s\\S]*", "[\\s\\S]+"}:
        return lambda value: bool(value) or pattern.endswith("*")
    compiled = re.compile(pattern, re.ASCII)
    return lambda value: (
        isinstance(value, str)
        and len(value) <= _PATTERN_LIMIT
        and compiled.fullmatch(value) is not None
    )


def _is_tag_text(value: object) -> bool:
    """Letters, separators and numbers of any script, and some signs; `re` has no classes for these."""
    return isinstance(value, str) and all(
        character in "_.:/=+-@" or unicodedata.category(character)[0] in "LZN"
        for character in value
    )


def _print(value: object) -> str:
    """Print a value as the service's language does: ``[a, b]``, ``{key=value}``, ``true``."""
    if isinstance(value, list):
        return f"[{', '.join(_print(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_print(item)}" for key, item in value.items()) + "}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
