"""What a person or a script sees: results on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")


def say(text: str) -> None:
    """Write a line of the result."""
    print(text, flush=True)  # noqa: T201  (this is the one place that prints results)


def note(text: str) -> None:
    """Write a line that is not part of the result."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def say_json(content: object) -> None:
    """Write the result as JSON."""
    say(json.dumps(content, indent=2, ensure_ascii=False, default=str))


def say_foreign(text: str) -> None:
    """Write text that a function made; on a terminal without control characters.

    A function's output could otherwise move the cursor, hide lines or answer to the shell.
    """
    say(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text) if sys.stdout.isatty() else text)


def note_foreign(text: str) -> None:
    """The same on standard error."""
    note(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text) if sys.stderr.isatty() else text)


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write aligned columns, the last one unpadded."""
    table = [tuple(columns), *[tuple(row) for row in rows]]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        say_foreign("  ".join(padded).rstrip())


@contextlib.contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Show that something goes on: one changing line on a terminal, else a line for each new step."""
    is_terminal = sys.stderr.isatty()
    shown = ""

    def step(news: str) -> None:
        nonlocal shown
        if news == shown:
            return
        shown = news
        if is_terminal:
            sys.stderr.write(f"\r\x1b[K{_CONTROL.sub('', news)} …")
            sys.stderr.flush()
        else:
            note(news)

    step(text)
    try:
        yield step
    finally:
        if is_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
