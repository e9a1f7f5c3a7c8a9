"""``pilotlight up``: serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    *,
    role: Annotated[str | None, typer.Option(help="Which parts to run.")] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="API, console, metrics.")
    ] = None,
    url_listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Function URLs; one port higher.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where all state is kept.")
    ] = None,
    isolation: Annotated[
        str | None, typer.Option(help="For functions that choose none: container or process.")
    ] = None,
    allow_missing: Annotated[
        str | None,
        typer.Option(metavar="LIMITS", help="Limits to do without, for example memory."),
    ] = None,
    region: Annotated[str | None, typer.Option(help="Region of unsigned requests.")] = None,
    account_id: Annotated[str | None, typer.Option(help="Account of the root keys.")] = None,
    allowed_hosts: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Further Host names to answer to.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Instead of ./pilotlight.toml.")
    ] = None,
    demo: Annotated[
        bool | None, typer.Option("--demo", help="Deploy and invoke a sample function.")
    ] = None,
) -> None:
    """Start the platform and serve until SIGTERM or Ctrl-C."""
    from pilotlight.config import load_settings

    settings = load_settings(
        {
            "role": role,
            "listen": listen,
            "url_listen": url_listen,
            "data_dir": data_dir,
            "isolation": isolation,
            "allow_missing": allow_missing,
            "region": region,
            "account_id": account_id,
            "allowed_hosts": allowed_hosts,
            "demo": demo or None,
        },
        config_file=config,
    )
    from pilotlight import roles

    raise typer.Exit(roles.up(settings))
