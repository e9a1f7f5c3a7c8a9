"""The application: all commands under one name, and how their errors end the process."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import click

from pilotlight.cli.output import note, say
from pilotlight.model.errors import PlatformError

INTERRUPTED = 130

COMMANDS = (
    "up", "init", "deploy", "invoke", "logs", "ls", "describe", "delete", "env", "account", "key",
    "doctor", "runtime",
)  # fmt: skip
"""Names of commands and of their modules, in the order of the help text."""


class _Commands(click.Group):
    """Imports a command's module when the command is used: starting up stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        found = importlib.import_module(f"pilotlight.cli.{cmd_name}").command
        if not isinstance(found, click.Command):
            raise TypeError(found)
        return found


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:  # noqa: FBT001
    if wanted:
        from importlib.metadata import version

        say(f"pilotlight {version('pilotlight')}")
        ctx.exit()


@click.group(cls=_Commands)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Show the version.",
)  # fmt: skip
def application() -> None:
    """Serverless functions you run yourself: the AWS Lambda API over real sandboxes."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return the exit code. Deliberate errors become a message."""
    try:
        code = application.main(args=list(arguments), prog_name="pilotlight", standalone_mode=False)
    except SystemExit as exc:
        code = exc.code
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except click.Abort as exc:
        return INTERRUPTED if isinstance(exc.__cause__, KeyboardInterrupt) else 1
    except (PlatformError, OSError) as exc:  # OSError: a file of the user's; it names the file
        note(f"error: {exc}")
        return 1
    return code if isinstance(code, int) else int(code is not None)
