"""Settings as frozen dataclasses, loaded from layers, with every fault reported at once.

A settings class declares each key with `key`: default, parser, unit and reason. Groups are nested
settings classes. A layer is one source of raw values; a later layer wins, but a fault in an earlier
one is still a fault: what cannot be used is never silently ignored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pilotlight.config.parsers import Parser
from pilotlight.model.errors import ConfigurationError

T = TypeVar("T")

_SPEC = "pilotlight.setting"


@dataclass(frozen=True, slots=True)
class Spec:
    """Declaration of one key.

    Attributes:
        reason: why the key exists and why its default is what it is.
        unit: of a number; "" where the name or the kind says it.
        is_secret: the value is never shown.
    """

    parser: Parser[object]
    reason: str
    unit: str = ""
    is_secret: bool = False


def key(
    default: T, parser: Parser[T], reason: str, *, unit: str = "", is_secret: bool = False
) -> T:
    """Declare a key of a settings class; to be used as the default of a dataclass field."""
    spec = Spec(Parser(parser.allowed, parser.convert), reason, unit=unit, is_secret=is_secret)
    made: T = dataclasses.field(default=default, metadata={_SPEC: spec}, repr=not is_secret)
    return made


@dataclass(frozen=True, slots=True)
class Given:
    """A raw value and how its author calls the place, for example ``--listen``."""

    value: object
    place: str


@dataclass(frozen=True, slots=True)
class Layer:
    """One source: dotted key to what it gives; relative paths start at ``base``."""

    values: Mapping[str, Given]
    base: Path | None = None


def specs(kind: type, prefix: str = "") -> Iterator[tuple[str, Spec, object]]:
    """All keys of a settings class with their declaration and default, groups included.

    A trailing underscore of an attribute (``async_``) is not part of its key.
    """
    for field in dataclasses.fields(kind):
        name = prefix + field.name.rstrip("_")
        spec = field.metadata.get(_SPEC)
        if isinstance(spec, Spec):
            yield name, spec, field.default
        elif isinstance(field.type, type):  # pragma: no cover  (annotations are text here)
            yield from specs(field.type, name + ".")
        elif dataclasses.is_dataclass(field.default):
            yield from specs(type(field.default), name + ".")


def build(kind: type[T], layers: Sequence[Layer], *, what: str) -> T:
    """Make a settings object out of layers, the last one strongest.

    Raises:
        ConfigurationError: one line for each fault of each layer, none left out.
    """
    known = {name: spec for name, spec, _ in specs(kind)}
    chosen: dict[str, object] = {}
    faults: list[str] = []
    for layer in layers:
        for name, given in layer.values.items():
            if name not in known:
                faults.append(_unknown(name, given, known))
                continue
            try:
                chosen[name] = _rooted(known[name].parser.convert(given.value), layer.base)
            except (ValueError, TypeError):
                faults.append(_unusable(given, known[name]))
    refuse(faults, what=what)
    made = _assemble(kind, chosen, "")
    if not isinstance(made, kind):
        raise TypeError(kind)
    return made


def refuse(faults: Sequence[str], *, what: str) -> None:
    """Raise one error that lists all faults, if there are any.

    Raises:
        ConfigurationError: there are faults.
    """
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise ConfigurationError(f"{what} cannot be used:\n{listed}")


def flatten(table: Mapping[str, object], known: type, place: str) -> dict[str, Given]:
    """Turn a parsed TOML file into dotted keys; tables that are values stay whole."""
    groups = {name.rpartition(".")[0] for name, _, _ in specs(known)} - {""}
    flat: dict[str, Given] = {}
    for name, value in table.items():
        if name in groups and isinstance(value, dict):
            for inner, raw in value.items():
                flat[f"{name}.{inner}"] = Given(raw, f"{place}: [{name}] {inner}")
        else:
            flat[name] = Given(value, f"{place}: {name}")
    return flat


def read_toml(path: Path) -> dict[str, object]:
    """Parse a TOML file.

    Raises:
        ConfigurationError: it cannot be read or is not TOML.
    """
    import tomllib  # noqa: PLC0415  (only commands that meet a file pay for it)

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path} is not valid TOML: {exc}") from exc


def _assemble(kind: type, chosen: Mapping[str, object], prefix: str) -> object:
    values: dict[str, object] = {}
    for field in dataclasses.fields(kind):
        name = prefix + field.name.rstrip("_")
        if dataclasses.is_dataclass(field.default) and _SPEC not in field.metadata:
            values[field.name] = _assemble(type(field.default), chosen, name + ".")
        elif name in chosen:
            values[field.name] = chosen[name]
    return kind(**values)


def _rooted(value: object, base: Path | None) -> object:
    """Let a relative path start where its author stood."""
    if base is None:
        return value
    if isinstance(value, Path):
        return base / value
    if isinstance(value, tuple):
        return tuple(_rooted(item, base) for item in value)
    return value


def _unknown(name: str, given: Given, known: Mapping[str, Spec]) -> str:
    import difflib  # noqa: PLC0415  (only a mistake needs it, and every command loads this module)

    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"
    return f"{given.place}: there is no such setting{hint}"


def _unusable(given: Given, spec: Spec) -> str:
    shown = "(hidden)" if spec.is_secret else repr(given.value)
    return f"{given.place} = {shown}; allowed: {spec.parser.allowed}"
