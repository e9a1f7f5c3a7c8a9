"""The application: all commands under one name, and how their errors end the process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from pilotlight.cli import (
    delete,
    deploy,
    describe,
    doctor,
    env,
    init,
    invoke,
    logs,
    ls,
    runtime,
    up,
)
from pilotlight.cli.output import note
from pilotlight.model.errors import PlatformError

INTERRUPTED = 130


def _version(wanted: bool) -> None:  # noqa: FBT001  (Typer's call)
    if wanted:
        from importlib.metadata import version

        from pilotlight.cli.output import say

        say(f"pilotlight {version('pilotlight')}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Serverless functions you run yourself: the AWS Lambda API over real sandboxes."""


def application() -> typer.Typer:
    """Put the commands together."""
    app = typer.Typer(
        name="pilotlight",
        add_completion=True,
        no_args_is_help=True,
        rich_markup_mode=None,  # importing rich for a help text would double the start-up time
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name, module in (
        ("up", up), ("init", init), ("deploy", deploy), ("invoke", invoke), ("logs", logs),
        ("ls", ls), ("describe", describe), ("delete", delete), ("env", env), ("doctor", doctor),
    ):  # fmt: skip
        app.command(name)(module.command)
    app.add_typer(runtime.app, name="runtime")
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return the exit code. Deliberate errors become a message."""
    try:
        application()(args=list(arguments), prog_name="pilotlight")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except PlatformError as exc:
        note(f"error: {exc}")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone. What the interpreter flushes at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
