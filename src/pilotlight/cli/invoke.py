"""``pilotlight invoke``: run a function once and print what it answers."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilotlight.cli.options import about, connected, name_argument, server_options
from pilotlight.cli.output import note, note_foreign, say_foreign, say_json

if TYPE_CHECKING:
    from pilotlight.cli.client import Answer

PATIENCE_S = 960.0
"""The longest function (900 s) with its init and some queueing."""


@click.command()
@name_argument
@click.option(
    "--payload",
    "-p",
    default="{}",
    metavar="EVENT",
    help="JSON text, @FILE, or - for standard input; {} by default.",
)
@click.option("--log", is_flag=True, help="Also show the end of its log.")
@click.option("--qualifier", "-q", help="Version or alias.")
@server_options
def command(
    name: str,
    *,
    payload: str,
    log: bool,
    qualifier: str | None,
    endpoint: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Invoke a function and wait; its result goes to standard output, exit 1 if it failed."""
    from pilotlight.cli.client import function_path

    event = read_payload(payload)
    with connected(endpoint, data_dir) as client, about(client, name):
        answer = client.call(
            "POST",
            function_path(name, "invocations"),
            query={"Qualifier": qualifier} if qualifier else None,
            body=event,
            headers={"X-Amz-Log-Type": "Tail"} if log or as_json else None,
            timeout_s=PATIENCE_S,
        )
    error = answer.headers.get("x-amz-function-error")
    tail = base64.b64decode(answer.headers.get("x-amz-log-result", "")).decode(errors="replace")
    if as_json:
        say_json(_summary(answer, error, tail))
    else:
        _show(answer.body.decode(errors="replace"), error, tail)
    if error:
        raise SystemExit(1)


def read_payload(given: str) -> bytes:
    """The event: the text itself, the content of a file, or standard input.

    Raises:
        CommandFailed: the file cannot be read.
    """
    if given == "-":
        return sys.stdin.buffer.read()
    if not given.startswith("@"):
        return given.encode()
    try:
        return Path(given[1:]).read_bytes()
    except OSError as exc:
        from pilotlight.cli.errors import CommandFailed

        raise CommandFailed(f"The payload {given[1:]} cannot be read: {exc.strerror}") from exc


def timing(tail: str) -> dict[str, str]:
    """Facts of the REPORT line in a log, by its own names; empty where there is none."""
    for line in reversed(tail.splitlines()):
        if line.startswith("REPORT "):
            parts = line.removeprefix("REPORT ").split("\t")
            fields = (part.partition(": ") for part in parts if ": " in part)
            return {name.strip(): value.strip() for name, _, value in fields}
    return {}


def _show(result: str, error: str | None, tail: str) -> None:
    if error:
        note_foreign(_explain(result))
    else:
        say_foreign(result)
    if not tail:
        return
    note_foreign(tail.rstrip("\n"))
    report = timing(tail)
    if report:
        init = report.get("Init Duration")
        start = f"cold start, init {init}" if init else "warm"
        note(f"{start}; handler {report.get('Duration')}; memory {report.get('Max Memory Used')}")


def _explain(result: str) -> str:
    """A function's error as people read it: type, message, then the trace."""
    try:
        content = json.loads(result)
        head = f"{content.get('errorType') or 'Error'}: {content.get('errorMessage')}"
        trace = [str(line).rstrip("\n") for line in content.get("stackTrace") or ()]
    except (ValueError, AttributeError, TypeError):
        return f"error: {result}"
    return "\n".join([f"error: {head}", *trace])


def _summary(answer: Answer, error: str | None, tail: str) -> dict[str, object]:
    try:
        result: object = json.loads(answer.body or b"null")
    except ValueError:
        result = answer.body.decode(errors="replace")
    return {
        "status": answer.status,
        "result": result,
        "function_error": error,
        "executed_version": answer.headers.get("x-amz-executed-version"),
        "request_id": answer.headers.get("x-amzn-requestid"),
        "report": timing(tail),
        "log": tail,
    }
