"""Filter patterns of CloudWatch Logs: terms and JSON properties. Pure.

Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable
from typing import Final

from pilotlight.model.errors import ApiError

Predicate = Callable[[str], bool]
Test = Callable[[object], bool]

_TERM = re.compile(r'\s*(?P<sign>[-?]?)(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s"]+))')
_WORD = re.compile(r"\w+")
_TOKEN = re.compile(
    r'\s*(?:(?P<symbol>&&|\|\||[()]|!=|<=|>=|=|<|>)|(?P<path>\$(?:\.[\w-]+|\[\d+\]|\["[^"]*"\])*)'
    r'|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s()=<>!&|"]+))'
)
_STEP = re.compile(r'\.([\w-]+)|\[(\d+)\]|\["([^"]*)"\]')
_MISSING: Final = object()
_LENGTH_MAX = 1024
_DEPTH_MAX = 20


def predicate(pattern: str | None) -> Predicate | None:
    """What decides for the text of an event; None admits all.

    Raises:
        ApiError: InvalidParameterException, the pattern is malformed or of a kind that is not
            supported.
    """
    text = (pattern or "").strip()
    if not text:
        return None
    if len(text) > _LENGTH_MAX:
        raise _invalid(f"A filter pattern has at most {_LENGTH_MAX} characters.")
    if text.startswith("{"):
        return _properties(text)
    if text.startswith(("[", "%")):
        raise _invalid(
            "Filter patterns of columns ([...]) and of regular expressions (%...%) are not "
            "supported here: use terms or a JSON pattern."
        )
    return _terms(text)


def _terms(text: str) -> Predicate:
    needed: list[Predicate] = []
    optional: list[Predicate] = []
    excluded: list[Predicate] = []
    at = 0
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None:
            raise _invalid(f"Invalid filter pattern: {text}")
        at = match.end()
        quoted = match["quoted"]
        term = match["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        {"": needed, "?": optional, "-": excluded}[match["sign"]].append(_holds(term))
        at += len(text[at:]) - len(text[at:].lstrip())

    def decide(event: str) -> bool:
        return (
            all(has(event) for has in needed)
            and (not optional or any(has(event) for has in optional))
            and not any(has(event) for has in excluded)
        )

    return decide


def _holds(term: str) -> Predicate:
    """A word occurs as a word; anything else as it is written. Case matters."""
    if _WORD.fullmatch(term):
        found = re.compile(rf"(?<!\w){re.escape(term)}(?!\w)")
        return lambda event: found.search(event) is not None
    return lambda event: term in event


def _properties(text: str) -> Predicate:
    if not text.endswith("}"):
        raise _invalid(f"Invalid filter pattern: {text}")
    test = _Parser(text[1:-1]).parse()

    def decide(event: str) -> bool:
        try:
            document = json.loads(event)
        except (ValueError, RecursionError):
            return False
        return isinstance(document, dict | list) and test(document)

    return decide


class _Parser:
    """Conditions over properties: ``$.a.b[0] = "x*"``, joined with ``&&``, ``||`` and brackets."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[re.Match[str]] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._fault()
            self._tokens.append(match)
            at = match.end()
        self._at = 0

    def parse(self) -> Test:
        """The whole condition."""
        test = self._any(0)
        if self._at != len(self._tokens):
            raise self._fault()
        return test

    def _fault(self) -> ApiError:
        return _invalid(f"Invalid filter pattern: {{{self._text}}}")

    def _peek(self) -> str:
        if self._at == len(self._tokens):
            return ""
        return self._tokens[self._at]["symbol"] or ""

    def _next(self) -> re.Match[str]:
        if self._at == len(self._tokens):
            raise self._fault()
        self._at += 1
        return self._tokens[self._at - 1]

    def _any(self, depth: int) -> Test:
        tests = [self._all(depth)]
        while self._peek() == "||":
            self._next()
            tests.append(self._all(depth))
        return lambda document: any(test(document) for test in tests)

    def _all(self, depth: int) -> Test:
        tests = [self._one(depth)]
        while self._peek() == "&&":
            self._next()
            tests.append(self._one(depth))
        return lambda document: all(test(document) for test in tests)

    def _one(self, depth: int) -> Test:
        if depth > _DEPTH_MAX:
            raise self._fault()
        if self._peek() == "(":
            self._next()
            test = self._any(depth + 1)
            if self._next()["symbol"] != ")":
                raise self._fault()
            return test
        path = self._next()["path"]
        if path is None:
            raise self._fault()
        steps = [_step(match) for match in _STEP.finditer(path)]
        holds = self._comparison()
        return lambda document: holds(_at(document, steps))

    def _comparison(self) -> Test:
        token = self._next()
        if token["symbol"]:
            return self._against(token["symbol"], self._next())
        words = [(token["plain"] or "").upper(), (self._next()["plain"] or "").upper()]
        known: dict[tuple[str, ...], Test] = {
            ("NOT", "EXISTS"): lambda value: value is _MISSING,
            ("IS", "NULL"): lambda value: value is None,
            ("IS", "TRUE"): lambda value: value is True,
            ("IS", "FALSE"): lambda value: value is False,
        }
        test = known.get(tuple(words))
        if test is None:
            raise self._fault()
        return test

    def _against(self, sign: str, token: re.Match[str]) -> Test:
        if token["quoted"] is None and token["plain"] is None:
            raise self._fault()
        text = token["plain"] if token["quoted"] is None else token["quoted"]
        number = _number(text) if token["quoted"] is None else None
        if sign in ("=", "!="):
            equal = _equal(text, number)
            if sign == "=":
                return equal
            return lambda value: value is not _MISSING and not equal(value)
        if number is None:
            raise self._fault()
        return _compared(sign, number)


def _step(match: re.Match[str]) -> str | int:
    return int(match[2]) if match[2] is not None else (match[1] or match[3] or "")


def _at(document: object, steps: list[str | int]) -> object:
    for step in steps:
        if isinstance(step, int):
            if not isinstance(document, list) or step >= len(document):
                return _MISSING
            document = document[step]
        elif isinstance(document, dict) and step in document:
            document = document[step]
        else:
            return _MISSING
    return document


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equal(text: str, number: float | None) -> Test:
    glob = re.compile(fnmatch.translate(text.replace("[", "[[]"))) if "*" in text else None

    def test(value: object) -> bool:
        if _is_number(value):
            return number is not None and value == number
        if not isinstance(value, str):
            return False
        return value == text if glob is None else glob.fullmatch(value) is not None

    return test


def _compared(sign: str, number: float) -> Test:
    compare: dict[str, Callable[[float], bool]] = {
        "<": lambda value: value < number,
        "<=": lambda value: value <= number,
        ">": lambda value: value > number,
        ">=": lambda value: value >= number,
    }
    holds = compare[sign]
    return lambda value: isinstance(value, int | float) and _is_number(value) and holds(value)


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)
