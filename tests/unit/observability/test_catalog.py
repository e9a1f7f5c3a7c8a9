"""What the platform reports about itself is declared in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from pilotlight.observability import catalog

SOURCE = Path(catalog.__file__).parents[1]
PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def logged() -> Iterator[tuple[str, str]]:
    """Every event that the source logs by a constant name, with its place."""
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log" | "logger" | "_log"), attr=attr),
                    args=[ast.Constant(value=str(name)), *_],
                ) if attr in LEVELS:
                    yield name.split(" ")[0], f"{file}:{node.lineno}"


def test_every_event_that_is_logged_is_declared() -> None:
    declared = {event.name for event in catalog.LOG_EVENTS}
    missing = {name: place for name, place in logged() if name not in declared}
    assert missing == {}, "declare them in pilotlight.observability.catalog"


def test_names_are_unique_and_in_snake_case() -> None:
    for names in (
        [metric.name for metric in catalog.METRICS],
        [event.name for event in catalog.LOG_EVENTS],
    ):
        assert len(names) == len(set(names))
        assert all(name.replace("_", "").isalnum() and name.islower() for name in names)


def test_the_page_of_metrics_is_fresh() -> None:
    assert PAGE.read_text() == catalog.document(), (
        "renew it: python -c 'from pilotlight.observability import catalog; "
        'print(catalog.document(), end="")\' > docs/metrics.md'
    )
