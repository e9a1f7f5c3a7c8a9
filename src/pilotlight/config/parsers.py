"""From what a person wrote to a checked value: one small parser for each kind of setting.

A raw value is what TOML gives (text, numbers, booleans, lists, tables) or the text of a variable or
a flag. A parser raises ValueError or TypeError for anything else; its ``allowed`` says what it takes, in words
that follow "allowed:".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_ADDRESS = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})"
)
_LOOPBACK = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1")
_HIGHEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Parser(Generic[T]):
    """Converts a raw value; ``allowed`` describes what it accepts."""

    allowed: str
    convert: Callable[[object], T]


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it."""
        return _LOOPBACK.fullmatch(self.host) is not None


def integer(low: int, high: int) -> Parser[int]:
    """A whole number between two bounds, both included."""

    def convert(raw: object) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int | str):
            raise TypeError(raw)
        value = int(raw)
        if not low <= value <= high:
            raise ValueError(raw)
        return value

    return Parser(f"a whole number from {low} to {high}", convert)


def number(low: float, high: float) -> Parser[float]:
    """A number between two bounds, both included; never NaN."""

    def convert(raw: object) -> float:
        if isinstance(raw, bool) or not isinstance(raw, int | float | str):
            raise TypeError(raw)
        value = float(raw)
        if not low <= value <= high:
            raise ValueError(raw)
        return value

    return Parser(f"a number from {low:g} to {high:g}", convert)


def boolean() -> Parser[bool]:
    """True or false, or one of the usual words for them."""

    def convert(raw: object) -> bool:
        if isinstance(raw, bool):
            return raw
        word = raw.lower() if isinstance(raw, str) else ""
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        raise ValueError(raw)

    return Parser("true or false", convert)


def matching(pattern: str, allowed: str) -> Parser[str]:
    """Text that a regular expression matches as a whole."""
    compiled = re.compile(pattern)

    def convert(raw: object) -> str:
        if not isinstance(raw, str) or compiled.fullmatch(raw) is None:
            raise ValueError(raw)
        return raw

    return Parser(allowed, convert)


def one_of(kind: type[E], *, without: frozenset[E] = frozenset()) -> Parser[E]:
    """A member of a closed set; ``without`` are members that nobody may choose here."""
    allowed = [member for member in kind if member not in without]

    def convert(raw: object) -> E:
        chosen = kind(str(raw))
        if chosen in without:
            raise ValueError(raw)
        return chosen

    return Parser("one of " + ", ".join(allowed), convert)


def path() -> Parser[Path]:
    """A path; ``~`` is the home directory."""

    def convert(raw: object) -> Path:
        if not isinstance(raw, str | Path) or not str(raw) or "\0" in str(raw):
            raise ValueError(raw)
        return Path(raw).expanduser()

    return Parser("a path", convert)


def address() -> Parser[Address]:
    """``HOST:PORT``, an IPv6 host in brackets."""

    def convert(raw: object) -> Address:
        if isinstance(raw, Address):
            return raw
        found = _ADDRESS.fullmatch(raw) if isinstance(raw, str) else None
        if found is None or int(found["port"]) > _HIGHEST_PORT:
            raise ValueError(raw)
        return Address(found["v6"] or found["host"], int(found["port"]))

    return Parser("HOST:PORT, for example 127.0.0.1:9700 (port 0: any free one)", convert)


def _items(raw: object) -> list[object]:
    """A list, or text with commas between."""
    if isinstance(raw, str):
        return [part.strip() for part in raw.split(",") if part.strip()]
    if isinstance(raw, list | tuple | set | frozenset):
        return list(raw)
    raise ValueError(raw)


def list_of(item: Parser[T], what: str) -> Parser[tuple[T, ...]]:
    """A list in TOML; with commas in a variable or a flag."""

    def convert(raw: object) -> tuple[T, ...]:
        return tuple(item.convert(part) for part in _items(raw))

    return Parser(f"a list of {what}", convert)


def some_of(names: Collection[str]) -> Parser[frozenset[str]]:
    """A set of known names; with commas in a variable or a flag."""

    def convert(raw: object) -> frozenset[str]:
        chosen = frozenset(str(part) for part in _items(raw))
        if not chosen <= frozenset(names):
            raise ValueError(raw)
        return chosen

    return Parser("any of " + ", ".join(sorted(names)), convert)


def optional(item: Parser[T]) -> Parser[T | None]:
    """The same, for a setting whose default is that there is none."""
    return Parser(item.allowed, item.convert)


def text_table() -> Parser[tuple[tuple[str, str], ...]]:
    """A TOML table of text by name, kept in its order."""

    def convert(raw: object) -> tuple[tuple[str, str], ...]:
        if not isinstance(raw, dict):
            raise TypeError(raw)
        if not all(isinstance(value, str) for value in raw.values()):
            raise ValueError(raw)
        return tuple((str(name), str(value)) for name, value in raw.items())

    return Parser('a table of text values, for example [environment] then STAGE = "dev"', convert)
