"""``pilotlight account``: the tenants of an installation."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from pilotlight.cli.options import connected, server_options
from pilotlight.cli.output import note, say, say_json, say_table

_PATH = "/api/v1/accounts"


@click.group()
def command() -> None:
    """Make, list and delete accounts: each has functions, logs and limits of its own."""


@command.command("create")
@click.argument("name")
@click.option("--id", "identity", help="Twelve digits; drawn by chance otherwise.")
@server_options
def create(
    name: str, *, identity: str | None, endpoint: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """Make an account."""
    content = {"name": name} | ({"id": identity} if identity else {})
    with connected(endpoint, data_dir) as client:
        made = client.send("POST", _PATH, content)
    if as_json:
        say_json(made)
        return
    say(str(made["id"]))
    note(f"Next: pilotlight key create {made['id']}")


@command.command("ls")
@server_options
def list_accounts(*, endpoint: str | None, data_dir: Path | None, as_json: bool) -> None:
    """List the accounts beside the installation's own."""
    with connected(endpoint, data_dir) as client:
        accounts = client.get(_PATH)["accounts"]
    if as_json:
        say_json(accounts)
        return
    say_table(("ACCOUNT", "NAME"), [(str(a["id"]), str(a["name"])) for a in accounts])


@command.command("delete")
@click.argument("identity", metavar="ACCOUNT")
@server_options
def delete(identity: str, *, endpoint: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Delete an account that has no functions any more, with its keys."""
    with connected(endpoint, data_dir) as client:
        client.call("DELETE", f"{_PATH}/{quote(identity, safe='')}")
    if as_json:
        say_json({"deleted": identity})
