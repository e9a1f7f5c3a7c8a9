"""Wildcards of policies: ``*`` is any text, ``?`` is any one character.

Patterns come from tenants, so matching takes at most the product of both lengths: a regular
expression could be made to take for ever.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html
"""

from __future__ import annotations

from typing import Final

_ARN_PARTS: Final = 6


def matches(pattern: str, text: str) -> bool:
    """Whether a text has the form of a pattern; cases differ."""
    if pattern in ("*", text):
        return True
    if "*" not in pattern:
        return len(pattern) == len(text) and _fits(pattern, text, 0)
    first, *rest = pattern.split("*")
    last = rest.pop()
    if len(first) + len(last) > len(text) or not _fits(first, text, 0):
        return False
    end = len(text) - len(last)
    if not _fits(last, text, end):
        return False
    at = len(first)
    for piece in rest:
        at = _find(piece, text, at, end)
        if at < 0:
            return False
        at += len(piece)
    return at <= end


def arn_matches(pattern: str, arn: str) -> bool:
    """Whether an ARN has the form of a pattern: each of its six parts is compared apart."""
    patterns, parts = pattern.split(":", _ARN_PARTS - 1), arn.split(":", _ARN_PARTS - 1)
    if len(patterns) != _ARN_PARTS or len(parts) != _ARN_PARTS:
        return pattern == "*"
    return all(map(matches, patterns, parts))


def _fits(piece: str, text: str, at: int) -> bool:
    """Whether a piece without ``*`` is at a place of the text."""
    if "?" not in piece:
        return text.startswith(piece, at)
    return len(piece) <= len(text) - at and all(
        wanted in ("?", text[at + offset]) for offset, wanted in enumerate(piece)
    )


def _find(piece: str, text: str, start: int, end: int) -> int:
    """The first place of a piece without ``*`` between two places of the text, or -1."""
    if "?" not in piece:
        return text.find(piece, start, end)
    places = range(start, end - len(piece) + 1)
    return next((at for at in places if _fits(piece, text, at)), -1)
