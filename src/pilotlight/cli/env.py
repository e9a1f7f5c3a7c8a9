"""``pilotlight env``: the variables that point AWS SDKs and the aws CLI at a server."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from pilotlight.cli.options import server_options
from pilotlight.cli.output import say, say_json


@click.command()
@server_options
def command(*, endpoint: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Print exports for a shell: eval "$(pilotlight env)"."""
    from pilotlight.config.target import find_target

    target = find_target(endpoint=endpoint, data_dir=data_dir)
    variables = {
        "AWS_ENDPOINT_URL": target.endpoint,
        "AWS_REGION": target.region,
        "AWS_DEFAULT_REGION": target.region,
        "AWS_ACCESS_KEY_ID": target.access_key_id,
        "AWS_SECRET_ACCESS_KEY": target.secret_access_key,
    }
    if as_json:
        say_json(variables)
        return
    for name, value in variables.items():
        say(f"export {name}={shlex.quote(value)}")
