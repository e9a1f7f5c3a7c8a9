"""Rules of keys and commits that every registry store shares. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pilotlight.model.errors import FeedCompacted, RevisionConflict
from pilotlight.ports.registry import Delete, Put

Name = tuple[str, str, str]
"""Kind, account and key of a record."""

_LAST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def name_of(change: Put | Delete) -> Name:
    """What a change is about."""
    return (change.kind, change.account, change.key)


def check_distinct(changes: Sequence[Put | Delete]) -> None:
    """Return if each record is named once.

    Raises:
        ValueError: the outcome would depend on the order within a commit.
    """
    if len({name_of(change) for change in changes}) != len(changes):
        raise ValueError("a commit names one record twice")


def check_condition(change: Put | Delete, found: int) -> None:
    """Return if the change's condition holds for a record at revision ``found`` (0: absent).

    Raises:
        RevisionConflict: it does not.
    """
    if change.if_revision in (None, found):
        return
    raise RevisionConflict(
        f"{change.kind} {change.key!r} is at revision {found}, not at {change.if_revision}: "
        "somebody else changed it. Read it again and repeat the change."
    )


def check_after(after: str, account: str | None) -> None:
    """Return if a page may start there.

    Raises:
        ValueError: ``after`` has no meaning across accounts.
    """
    if account is None and after:
        raise ValueError("'after' needs an account")


def end_of_prefix(prefix: str) -> str | None:
    """The first string after all that start with ``prefix``, None when there is none.

    The order of code points is the order of UTF-8 bytes. ``"ab"`` gives ``"ac"``.
    """
    trimmed = prefix.rstrip(chr(_LAST))
    if not trimmed:
        return None
    following = ord(trimmed[-1]) + 1
    if following in _SURROGATES:
        following = _SURROGATES.stop
    return trimmed[:-1] + chr(following)


def check_horizon(after: int, horizon: int) -> None:
    """Return if the feed after a revision is complete.

    Raises:
        FeedCompacted: removals between ``after`` and the horizon are gone.
    """
    if 0 < after < horizon:
        raise FeedCompacted(
            f"The feed begins after revision {horizon}, {after} is older: read it from 0."
        )
