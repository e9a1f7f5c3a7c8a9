"""``pilotlight delete``: remove a function for good."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pilotlight.cli.options import about, connected, name_argument, server_options
from pilotlight.cli.output import say, say_json


@click.command()
@name_argument
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@server_options
def command(
    name: str, *, yes: bool, endpoint: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """Delete a function with its versions, its URL and its policy."""
    from pilotlight.cli.client import function_path

    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("nobody is there to be asked: give --yes")
        click.confirm(f"Delete the function {name}?", abort=True, err=True)
    with connected(endpoint, data_dir) as client, about(client, name):
        client.call("DELETE", function_path(name))
    if as_json:
        say_json({"deleted": name})
    else:
        say(f"deleted {name}")
