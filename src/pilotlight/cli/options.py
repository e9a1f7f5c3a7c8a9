"""Options that several commands have, declared once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from pilotlight.cli.client import Client

F = TypeVar("F", bound=Callable[..., object])

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, readable=False),
    metavar="DIR",
    help="Data directory of the server; its keys are used.",
)
endpoint_option = click.option("--endpoint", metavar="URL", help="Address of the server.")
json_option = click.option("--json", "as_json", is_flag=True, help="Result as JSON.")
name_argument = click.argument("name", metavar="NAME")


def server_options(function: F) -> F:
    """Where the server is, and the form of the result."""
    return endpoint_option(data_dir_option(json_option(function)))


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
        from pilotlight.cli.client import list_functions

        names = [str(known["FunctionName"]) for known in list_functions(client)]
        raise CommandFailed(exc.message, _way_on(name, names)) from exc


def _way_on(name: str, names: list[str]) -> str:
    import difflib

    if name in names:
        return "The function is there, but not this version or alias of it: leave it out."
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return "Similar names: " + ", ".join(near)
    if names:
        return "See all functions with: pilotlight ls"
    return "There are no functions yet. Make one: pilotlight init hello; pilotlight deploy hello"
