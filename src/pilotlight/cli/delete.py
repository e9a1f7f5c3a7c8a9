"""``pilotlight delete``: remove a function for good."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pilotlight.cli.options import AsJson, DataDir, Endpoint, Name, about, connected
from pilotlight.cli.output import say, say_json


def command(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    endpoint: Endpoint = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete a function with its versions, its URL and its policy."""
    from pilotlight.cli.client import function_path

    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody is there to be asked: give --yes")
        typer.confirm(f"Delete the function {name}?", abort=True, err=True)
    with connected(endpoint, data_dir) as client, about(client, name):
        client.call("DELETE", function_path(name))
    if as_json:
        say_json({"deleted": name})
    else:
        say(f"deleted {name}")
