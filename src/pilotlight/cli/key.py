"""``pilotlight key``: access keys of accounts."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from pilotlight.cli.options import connected, server_options
from pilotlight.cli.output import note, say, say_json, say_table

_PATH = "/api/v1/keys"


@click.group()
def command() -> None:
    """Make, list and delete the access keys of accounts."""


@command.command("create")
@click.argument("account")
@server_options
def create(account: str, *, endpoint: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Make a key for an account; its secret is shown this once."""
    with connected(endpoint, data_dir) as client:
        made = client.send("POST", _PATH, {"account": account})
    if as_json:
        say_json(made)
        return
    say(f"export AWS_ACCESS_KEY_ID={made['access_key_id']}")
    say(f"export AWS_SECRET_ACCESS_KEY={made['secret_access_key']}")
    note("The secret is not shown again. To change a key: create another one, then delete this.")


@command.command("ls")
@click.option("--account", help="Only the keys of this account.")
@server_options
def list_keys(
    *, account: str | None, endpoint: str | None, data_dir: Path | None, as_json: bool
) -> None:
    """List keys, without their secrets."""
    with connected(endpoint, data_dir) as client:
        keys = client.get(_PATH, {"account": account} if account else None)["keys"]
    if as_json:
        say_json(keys)
        return
    rows = [(str(key["access_key_id"]), str(key["account"])) for key in keys]
    say_table(("KEY", "ACCOUNT"), rows)


@command.command("delete")
@click.argument("identity", metavar="KEY")
@server_options
def delete(identity: str, *, endpoint: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Delete a key: from now on nothing that it signs is accepted."""
    with connected(endpoint, data_dir) as client:
        client.call("DELETE", f"{_PATH}/{quote(identity, safe='')}")
    if as_json:
        say_json({"deleted": identity})
