"""``pilotlight runtime``: the interpreters of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pilotlight.cli.options import AsJson, DataDir
from pilotlight.cli.output import note, say, say_json, say_table

app = typer.Typer(
    help="Show, add and remove interpreters.", rich_markup_mode=None, no_args_is_help=True
)

_RESTART = "A running server uses this after its next start."


@app.command("ls")
def list_runtimes(data_dir: DataDir = None, as_json: AsJson = False) -> None:
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


@app.command("add")
def add(
    path: Annotated[Path, typer.Argument(help="An interpreter, for example /opt/py/bin/python3.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Use an interpreter from now on, before others of its version."""
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


@app.command("remove")
def remove(
    runtime: Annotated[str, typer.Argument(help="Its path, or a runtime such as python3.12.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Forget an interpreter that you added."""
    from pilotlight.config import load_settings
    from pilotlight.config.runtimes import HostRuntimes

    gone = HostRuntimes(load_settings({"data_dir": data_dir})).remove(runtime)
    if as_json:
        say_json([str(path) for path in gone])
    else:
        say("\n".join(map(str, gone)))
    note(_RESTART)
