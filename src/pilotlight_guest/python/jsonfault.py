"""Says why a text is not JSON, in the words of Lambda's runtime.

Runs only after a decoder has refused the text, so it may be slow. The wording is that of
``simplejson``, which Lambda's runtime uses; the standard library's differs, and changes between
Python versions.
"""

from __future__ import annotations

import re

_SPACE = re.compile(r"[ \t\n\r]*")
_ATOM = re.compile(r"null|true|false|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_HEX = re.compile(r"[0-9a-fA-F]{4}")


class _Found(Exception):
    """The first error of the text.

    Args:
        what: the message.
        at: index of the offending character.
        end: end of the offending range, where there is one.
    """

    def __init__(self, what: str, at: int, end: int | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.at = at
        self.end = end


def explain(text: str, start: int = 0) -> str:
    """The message for the first error after ``start``, with its position."""
    try:
        _document(text, start)
    except _Found as found:
        return _worded(text, found)
    return "Expecting value: line 1 column 1 (char 0)"  # unreachable unless the decoders disagree


def _worded(text: str, found: _Found) -> str:
    line, column = _position(text, found.at)
    if found.end is None:
        return f"{found.what}: line {line} column {column} (char {found.at})"
    last_line, last_column = _position(text, found.end)
    return (
        f"{found.what}: line {line} column {column} - line {last_line} column {last_column}"
        f" (char {found.at} - {found.end})"
    )


def _position(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _document(text: str, start: int) -> None:
    end = _space(text, _walk(text, start))
    if end != len(text):
        raise _Found("Extra data", end, len(text))


def _walk(text: str, at: int) -> int:
    """Index after the value that begins at ``at``; a stack instead of recursion."""
    closers: list[str] = []
    while True:
        opened = text[at : at + 1]
        if opened in ("{", "["):
            closers.append("}" if opened == "{" else "]")
            at, empty = _opening(text, at + 1, closers[-1])
            if not empty:
                continue
            closers.pop()
        else:
            at = _scalar(text, at)
        while closers:
            at, closed = _after_value(text, at, closers[-1])
            if not closed:
                break
            closers.pop()
        else:
            return at


def _opening(text: str, at: int, closer: str) -> tuple[int, bool]:
    """Index of the first value of a container, or of the end of an empty one."""
    at = _space(text, at)
    if text[at : at + 1] == closer:
        return at + 1, True
    if closer == "]":
        if at == len(text):
            raise _Found("Expecting value or ']'", at)
        return at, False
    if text[at : at + 1] != '"':
        raise _Found("Expecting property name enclosed in double quotes or '}'", at)
    return _member(text, at), False


def _member(text: str, at: int) -> int:
    """Index of the value of the member whose name begins at ``at``."""
    at = _space(text, _string(text, at))
    if text[at : at + 1] != ":":
        raise _Found("Expecting ':' delimiter", at)
    return _space(text, at + 1)


def _after_value(text: str, at: int, closer: str) -> tuple[int, bool]:
    """Index of the next value of the container, or of what follows its end."""
    at = _space(text, at)
    if text[at : at + 1] == closer:
        return at + 1, True
    if text[at : at + 1] != ",":
        raise _Found(f"Expecting ',' delimiter or '{closer}'", at)
    comma, at = at, _space(text, at + 1)
    if text[at : at + 1] == closer:
        kind = "object" if closer == "}" else "array"
        raise _Found(f"Illegal trailing comma before end of {kind}", comma)
    if closer == "]":
        return at, False
    if text[at : at + 1] != '"':
        raise _Found("Expecting property name enclosed in double quotes", at)
    return _member(text, at), False


def _scalar(text: str, at: int) -> int:
    if text[at : at + 1] == '"':
        return _string(text, at)
    match = _ATOM.match(text, at)
    if match is None:
        raise _Found("Expecting value", at)
    return match.end()


def _string(text: str, begin: int) -> int:
    at = begin + 1
    while True:
        match = _PLAIN.match(text, at)
        at = match.end() if match else at
        char = text[at : at + 1]
        if char == '"':
            return at + 1
        if char == "\\":
            at = _escape(text, begin, at + 1)
        elif char:
            raise _Found(f"Invalid control character {char!r} at", at)
        else:
            raise _Found("Unterminated string starting at", begin)


def _escape(text: str, begin: int, at: int) -> int:
    """Index after the escape whose letter is at ``at``."""
    char = text[at : at + 1]
    if not char:
        raise _Found("Unterminated string starting at", begin)
    if char == "u":
        if not _HEX.match(text, at + 1):
            raise _Found("Invalid \\uXXXX escape sequence", at - 1)
        return at + 5
    if char not in '"\\/bfnrt':
        raise _Found(f"Invalid \\X escape sequence {char!r}", at)
    return at + 1
