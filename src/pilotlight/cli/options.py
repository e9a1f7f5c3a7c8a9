"""Options that several commands have, declared once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pilotlight.cli.client import Client

Endpoint = Annotated[
    str | None, typer.Option("--endpoint", metavar="URL", help="Address of the server.")
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Data directory of the server; its keys are used."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Result as JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name or ARN of a function.")]


@contextlib.contextmanager
def connected(endpoint: str | None, data_dir: Path | None) -> Iterator[Client]:
    """A client for the server that the options and the environment mean."""
    from pilotlight.cli.client import Client
    from pilotlight.config.target import find_target

    client = Client(find_target(endpoint=endpoint, data_dir=data_dir))
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def about(client: Client, name: str) -> Iterator[None]:
    """Say which names are similar when the server does not know the function."""
    from pilotlight.cli.errors import CommandFailed, ServerAnswer

    try:
        yield
    except ServerAnswer as exc:
        if exc.error != "ResourceNotFoundException":
            raise
        import difflib

        from pilotlight.cli.client import list_functions

        names = [str(known["FunctionName"]) for known in list_functions(client)]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        if near:
            remedy = "Similar names: " + ", ".join(near)
        elif names:
            remedy = "See all functions with: pilotlight ls"
        else:
            remedy = "There are no functions yet; make one: pilotlight init hello; pilotlight deploy hello"
        raise CommandFailed(exc.message, remedy) from exc
