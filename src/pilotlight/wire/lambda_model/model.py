"""The generated tables as typed objects, built when first asked for and kept.

Shapes refer to one another by name, so nothing is built that no request touches.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pilotlight.wire.lambda_model import overrides
from pilotlight.wire.lambda_model.errors import ERRORS
from pilotlight.wire.lambda_model.operations import OPERATIONS
from pilotlight.wire.lambda_model.shapes import LISTS, MAPS, SCALARS, STRUCTURES


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a structure.

    Attributes:
        location: ``uri``, ``querystring``, ``header``, ``statusCode``, or "" for the body.
        wire_name: its name at that location.
        label: its name in texts of violations: the first letter in lower case.
    """

    name: str
    shape: str
    location: str
    wire_name: str
    required: bool
    label: str


@dataclass(frozen=True, slots=True)
class Structure:
    """A structure; ``payload`` names the member that is the whole body, if one is."""

    name: str
    payload: str | None
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class ListShape:
    """A list of ``member``; limits are numbers of members."""

    name: str
    member: str
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True, slots=True)
class MapShape:
    """A map; limits are numbers of entries. A sensitive one is never printed."""

    name: str
    key: str
    value: str
    minimum: float | None
    maximum: float | None
    sensitive: bool


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value without parts.

    Attributes:
        type: ``string, integer, long, double, float, boolean, timestamp`` or ``blob``.
        minimum: smallest number, or smallest length of a string or blob.
        maximum: largest number, or largest length of a string or blob.
        pattern: regular expression of the whole value, in Java's syntax.
        enum: allowed values in the order the service prints them; () for any.
        sensitive: the value is never printed.
    """

    name: str
    type: str
    minimum: float | None
    maximum: float | None
    pattern: str | None
    enum: tuple[str, ...]
    sensitive: bool


Shape = Structure | ListShape | MapShape | Scalar


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation; ``uri`` is the template of its path, with a fixed query if it has one."""

    name: str
    method: str
    uri: str
    status: int
    input: str
    output: str | None


@dataclass(frozen=True, slots=True)
class ErrorShape:
    """One error of the model.

    Attributes:
        sender_fault: ``Type`` is ``User``; else ``Service``.
        message: name of the message member: ``message`` or ``Message``.
        members: its other members, without ``Type``.
    """

    name: str
    status: int
    sender_fault: bool
    message: str
    members: tuple[Member, ...]


def _members(rows: tuple[tuple[str, str, str, str, bool], ...]) -> tuple[Member, ...]:
    return tuple(Member(*row, label=row[0][:1].lower() + row[0][1:]) for row in rows)


@cache
def shape(name: str) -> Shape:
    """Return the shape of this name.

    Raises:
        KeyError: the model has no such shape.
    """
    if name in SCALARS:
        kind, minimum, maximum, pattern, enum, sensitive = SCALARS[name]
        return Scalar(
            name,
            kind,
            minimum,
            overrides.MAXIMUM.get(name, maximum),
            overrides.PATTERN.get(name, pattern),
            overrides.ENUM_ORDER.get(name, enum),
            sensitive,
        )
    if name in LISTS:
        return ListShape(name, *LISTS[name])
    if name in MAPS:
        return MapShape(name, *MAPS[name])
    return structure(name)


@cache
def structure(name: str) -> Structure:
    """Return the structure of this name.

    Raises:
        KeyError: the model has no such structure.
    """
    payload, rows = STRUCTURES[name]
    return Structure(name, payload, _members(rows))


@cache
def operation(name: str) -> Operation:
    """Return the operation of this name.

    Raises:
        KeyError: the service has no such operation.
    """
    method, uri, status, input_shape, output_shape = OPERATIONS[name]
    status = overrides.STATUS.get(name, status)
    return Operation(name, method, uri, status, input_shape, output_shape)


@cache
def error(name: str) -> ErrorShape | None:
    """Return the error of this name, or None where the model has none."""
    if name not in ERRORS:
        return None
    status, sender_fault, message, rows = ERRORS[name]
    return ErrorShape(name, status, sender_fault, message, _members(rows))
