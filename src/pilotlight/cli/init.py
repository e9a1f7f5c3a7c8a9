"""``pilotlight init``: a working function to start from."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from pilotlight.cli.options import json_option
from pilotlight.cli.output import note, say, say_json

RUNTIME = re.compile(r"python3\.[0-9]{1,2}")
_APP = '''"""The function. Pilotlight calls `handler` once for each invocation."""

from __future__ import annotations

import platform


def handler(event, context):
    """Greet whoever the event names, in the query of a URL or in the event itself."""
    query = event.get("queryStringParameters") or event
    name = query.get("name", "world")
    print(f"greeting {name}")
    return {
        "message": f"Hello, {name}!",
        "python": platform.python_version(),
        "request_id": context.aws_request_id,
    }
'''

_PROJECT = """# What `pilotlight deploy` makes of this folder.
name = "{name}"
runtime = "{runtime}"
handler = "app.handler"   # file app.py, function handler
memory_mib = 128          # the share of CPU grows with it
timeout_s = 3
url = true                # a public address, without authentication

[environment]
# STAGE = "dev"
"""

_REQUIREMENTS = """# One package a line; `pilotlight deploy` installs them beside the function.
"""

_README = """# {name}

A function for Pilotlight, in Python ({runtime}).

    pilotlight deploy {folder}
    pilotlight invoke {name} --payload @{folder}/event.json --log
    pilotlight logs {name} -f

`function.toml` says how it runs, `requirements.txt` what it needs, `event.json` is an event to try.
"""

_EVENT = """{ "name": "Ada" }
"""

_FILES = {
    "app.py": _APP,
    "function.toml": _PROJECT,
    "requirements.txt": _REQUIREMENTS,
    "README.md": _README,
    "event.json": _EVENT,
}


@click.command()
@click.argument(
    "directory", default=Path(), type=click.Path(path_type=Path, readable=False), metavar="[DIR]"
)
@click.option(
    "--runtime", default=f"python3.{sys.version_info[1]}", help="Runtime of the function."
)
@json_option
def command(directory: Path, *, runtime: str, as_json: bool) -> None:
    """Write a working Python function with its project file; nothing is ever overwritten."""
    if not RUNTIME.fullmatch(runtime):
        raise click.UsageError(
            f"--runtime {runtime!r}: this writes a Python function; give a version such as python3.12"
        )
    name = function_name(directory.absolute().name)
    written = write_project(directory, name=name, runtime=runtime)
    if as_json:
        say_json({"name": name, "files": [str(path) for path in written]})
        return
    for path in written:
        say(str(path))
    note(f"Next: pilotlight deploy {directory}")


def function_name(folder: str) -> str:
    """A legal function name from the name of a folder."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "-", folder).strip("-")[:64] or "hello"


def write_project(directory: Path, *, name: str, runtime: str) -> list[Path]:
    """Write all files, or none where one of them exists.

    Raises:
        CommandFailed: a file is there already, or the folder cannot be written.
    """
    from pilotlight.cli.errors import CommandFailed

    there = [file for file in _FILES if (directory / file).exists()]
    if there:
        raise CommandFailed(
            f"{directory.absolute()} already has: {', '.join(there)}; nothing was written.",
            "Choose another folder: pilotlight init DIR",
        )
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, template in _FILES.items():
            text = template
            if file in {"function.toml", "README.md"}:
                text = template.format(name=name, runtime=runtime, folder=directory)
            with (directory / file).open("x", encoding="utf-8") as target:
                target.write(text)
            written.append(directory / file)
    except OSError as exc:
        raise CommandFailed(f"{exc.filename} cannot be written: {exc.strerror}") from exc
    return written
