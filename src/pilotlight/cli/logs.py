"""``pilotlight logs``: what a function wrote."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotlight.cli.options import about, connected, name_argument, server_options
from pilotlight.cli.output import note, say, say_foreign

if TYPE_CHECKING:
    from pilotlight.cli.client import Client

PAGE = 1000
POLL_S = 0.5
_SPAN = re.compile(r"([0-9]+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.command()
@name_argument
@click.option("--follow", "-f", is_flag=True, help="Go on as lines come.")
@click.option(
    "--since",
    default="1h",
    metavar="WHEN",
    help="How far back: 30s, 10m, 2h, 7d, or a time such as 2026-11-24T12:00; 1h by default.",
)
@click.option("--request-id", metavar="ID", help="Only this invocation.")
@click.option("--grep", metavar="WORDS", help="Only lines with all these words.")
@server_options
def command(
    name: str,
    *,
    follow: bool,
    since: str,
    request_id: str | None,
    grep: str | None,
    endpoint: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Show a function's log; with --json one object a line."""
    from pilotlight.kernel.system import SystemClock

    start_s = parse_since(since, SystemClock().wall())
    query = {"function": name, "start": f"{start_s:.6f}", "limit": str(PAGE)}
    query |= {"request_id": request_id} if request_id else {}
    query |= {"text": grep} if grep else {}
    count = 0
    with connected(endpoint, data_dir) as client:
        if follow:
            _must_exist(client, name)
        for line in _lines(client, query, follow=follow):
            count += 1
            _show(line, as_json=as_json)
        if not count:  # a deleted function still has its log
            _must_exist(client, name)
    if not count:
        note(f"No line since {since} matches. Look further back with --since 7d.")


def _must_exist(client: Client, name: str) -> None:
    from pilotlight.cli.client import function_path

    with about(client, name):
        client.get(function_path(name, "configuration"))


def parse_since(text: str, now_s: float) -> float:
    """Seconds since the epoch of a span before now, or of a time (UTC where it names no zone).

    Raises:
        click.UsageError: it is neither.
    """
    span = _SPAN.fullmatch(text)
    if span:
        return max(0.0, now_s - int(span[1]) * _SECONDS[span[2]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise click.UsageError(
            f"--since {text!r}; allowed: 30s, 10m, 2h, 7d, or a time such as 2026-11-24T12:00"
        ) from exc
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _lines(client: Client, query: dict[str, str], *, follow: bool) -> Iterator[dict[str, Any]]:
    """Page by page; when following, wait for more and outlive restarts of the server."""
    from pilotlight.cli.errors import NoServer

    after = 0
    is_away = False
    while True:
        page: list[dict[str, Any]] = []
        try:
            page = client.get("/api/v1/logs", query | {"after_id": str(after)}).get("lines", [])
            is_away = False
        except NoServer as exc:
            if not follow:
                raise
            if not is_away:
                note(f"{exc.message} Still trying.")
            is_away = True
        for line in page:
            after = max(after, int(line["id"]))
            yield line
        if len(page) < PAGE:
            if not follow:
                return
            time.sleep(POLL_S)


def _show(line: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        import json

        say(json.dumps(line, ensure_ascii=False))
    else:
        say_foreign(f"{clock_time(line.get('time'))}  {line.get('text', '')}")


def clock_time(value: object) -> str:
    """A time as people read it, UTC; text passes as it is."""
    if isinstance(value, int | float):
        moment = datetime.fromtimestamp(value, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value or "")
