"""``pilotlight runtime``: the interpreters of this machine."""

from __future__ import annotations

from pathlib import Path

import click

from pilotlight.cli.options import data_dir_option, json_option
from pilotlight.cli.output import note, say, say_json, say_table

_RESTART = "A running server uses this after its next start."


@click.group()
def command() -> None:
    """Show, add and remove interpreters."""


@command.command("ls")
@data_dir_option
@json_option
def list_runtimes(*, data_dir: Path | None, as_json: bool) -> None:
    """List the runtimes that functions can run on."""
    from pilotlight.config import load_settings
    from pilotlight.config.runtimes import HostRuntimes

    runtimes = list(HostRuntimes(load_settings({"data_dir": data_dir})).installed().values())
    if as_json:
        say_json(
            [
                {
                    "name": r.name,
                    "version": r.version,
                    "executable": r.executable,
                    "prefix": r.prefix,
                }
                for r in runtimes
            ]
        )
        return
    say_table(
        ("RUNTIME", "VERSION", "EXECUTABLE"),
        [(runtime.name, runtime.version, str(runtime.executable)) for runtime in runtimes],
    )


@command.command("add")
@click.argument("path", type=click.Path(path_type=Path), metavar="PATH")
@data_dir_option
@json_option
def add(path: Path, *, data_dir: Path | None, as_json: bool) -> None:
    """Use the interpreter at PATH from now on, before others of its version."""
    from pilotlight.config import load_settings
    from pilotlight.config.runtimes import HostRuntimes

    runtime = HostRuntimes(load_settings({"data_dir": data_dir})).add(path)
    if as_json:
        say_json(
            {"name": runtime.name, "version": runtime.version, "executable": runtime.executable}
        )
    else:
        say(f"{runtime.name} {runtime.version} {runtime.executable}")
    note(_RESTART)


@command.command("remove")
@click.argument("runtime", metavar="PATH-OR-NAME")
@data_dir_option
@json_option
def remove(runtime: str, *, data_dir: Path | None, as_json: bool) -> None:
    """Forget an interpreter that you added, by its path or a name such as python3.12."""
    from pilotlight.config import load_settings
    from pilotlight.config.runtimes import HostRuntimes

    gone = HostRuntimes(load_settings({"data_dir": data_dir})).remove(runtime)
    if as_json:
        say_json([str(path) for path in gone])
    else:
        say("\n".join(map(str, gone)))
    note(_RESTART)
