"""``pilotlight ls``: all functions."""

from __future__ import annotations

from pathlib import Path

import click

from pilotlight.cli.options import connected, server_options
from pilotlight.cli.output import note, say_json, say_table


@click.command()
@server_options
def command(*, endpoint: str | None, data_dir: Path | None, as_json: bool) -> None:
    """List the functions."""
    from pilotlight.cli.client import list_functions
    from pilotlight.cli.substitution import Substitution

    with connected(endpoint, data_dir) as client:
        functions = list(list_functions(client))
        substitution = Substitution(client, data_dir)
        runs_on = {
            name: substitution.label(name)
            for name in {str(function.get("Runtime") or "") for function in functions}
        }
    if as_json:
        say_json([f | {"RunsOn": runs_on[str(f.get("Runtime") or "")]} for f in functions])
        return
    if not functions:
        note("There are no functions yet. Make one: pilotlight init hello; pilotlight deploy hello")
        return
    say_table(
        ("NAME", "RUNTIME", "MEMORY", "TIMEOUT", "STATE", "MODIFIED"),
        [
            (
                str(function["FunctionName"]),
                runs_on[str(function.get("Runtime") or "")],
                f"{function.get('MemorySize', 128)} MB",
                f"{function.get('Timeout', 3)} s",
                str(function.get("State") or "Active"),
                str(function.get("LastModified", ""))[:19],
            )
            for function in functions
        ],
    )
