"""``pilotlight up``: serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilotlight.cli.options import json_option

if TYPE_CHECKING:
    from pilotlight.config import Settings
    from pilotlight.config.credentials import Credentials


@click.command()
@click.option("--role", help="Which parts to run; all by default.")
@click.option("--listen", metavar="HOST:PORT", help="API, console, metrics.")
@click.option("--url-listen", metavar="HOST:PORT", help="Function URLs; one port higher.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, readable=False),
    metavar="DIR",
    help="Where all state is kept.",
)
@click.option("--isolation", help="For functions that choose none: container or process.")
@click.option("--allow-missing", metavar="LIMITS", help="Limits to do without, e.g. memory.")
@click.option("--region", help="Region of requests that name none.")
@click.option("--account-id", help="Account of the root keys.")
@click.option("--allowed-hosts", metavar="NAMES", help="Further Host names to answer to.")
@click.option("--demo", is_flag=True, default=None, help="Deploy and invoke a sample function.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="Instead of ./pilotlight.toml.",
)
@json_option
def command(config: Path | None, *, as_json: bool, **flags: object) -> None:
    """Start the platform and serve until SIGTERM or Ctrl-C."""
    from pilotlight.config import load_settings

    if as_json:
        flags["logs.output"] = "json"
    settings = load_settings(flags, config_file=config)
    from pilotlight import roles

    here = Path.cwd()  # the platform leaves it

    def show(addresses: roles.Addresses, credentials: Credentials) -> None:
        from pilotlight.cli.demo import Demonstration

        Demonstration(settings, addresses, credentials, here).run()

    from pilotlight.model.errors import IsolationMissing

    try:
        raise SystemExit(roles.up(settings, on_ready=show if settings.demo else None))
    except IsolationMissing as missing:
        from pilotlight.cli.errors import CommandFailed

        raise CommandFailed(str(missing), _way_on(settings)) from missing


def _way_on(settings: Settings) -> str:
    """How to see more; and where an option goes for someone who typed ``make up``."""
    lines = ["See all that is missing, and prove the rest, with: pilotlight doctor"]
    if settings.demo:
        lines.append("With make, options go into ARGS, as in: make up ARGS=--allow-missing=memory")
    return "\n".join(lines)
