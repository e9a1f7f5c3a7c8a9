"""``pilotlight describe``: everything about one function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pilotlight.cli.options import about, connected, name_argument, server_options
from pilotlight.cli.output import say, say_foreign, say_json, say_table

if TYPE_CHECKING:
    from pilotlight.cli.client import Client

_COLUMNS = (
    ("ENVIRONMENT", "id"),
    ("STATE", "state"),
    ("VERSION", "version"),
    ("RUNTIME", "runtime"),
    ("ISOLATION", "isolation"),
    ("INVOCATIONS", "invocations"),
    ("AGE (S)", "age_s"),
    ("PEAK (MIB)", "peak_memory_mib"),
)
_NOT_THERE = frozenset({404, 501})


@click.command()
@name_argument
@server_options
def command(name: str, *, endpoint: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Show configuration, URL and execution environments of a function."""
    from pilotlight.cli.client import function_path
    from pilotlight.cli.substitution import Substitution

    with connected(endpoint, data_dir) as client:
        with about(client, name):
            found = client.get(function_path(name))
        config: dict[str, Any] = found["Configuration"]
        url = _function_url(client, name)
        environments = _environments(client, str(config["FunctionName"]))
        runtime = Substitution(client.target, data_dir).label(config.get("Runtime"))
    if as_json:
        say_json(found | {"FunctionUrl": url, "Environments": environments, "RunsOn": runtime})
        return
    for label, value in _facts(config, found.get("Tags") or {}, runtime=runtime, url=url).items():
        say_foreign(f"{label + ':':<14}{value}")
    if environments:
        say("")
        say_table(
            [title for title, _ in _COLUMNS],
            [[_cell(env.get(key)) for _, key in _COLUMNS] for env in environments],
        )


def _facts(
    config: dict[str, Any], tags: dict[str, str], *, runtime: str, url: str | None
) -> dict[str, str]:
    """What is shown, in its order; nothing empty."""
    variables = (config.get("Environment") or {}).get("Variables") or {}
    facts = {
        "Function": config.get("FunctionArn"),
        "Description": config.get("Description"),
        "Runtime": runtime,
        "Handler": config.get("Handler"),
        "Memory": f"{config.get('MemorySize')} MB",
        "Timeout": f"{config.get('Timeout')} s",
        "/tmp": f"{(config.get('EphemeralStorage') or {}).get('Size', 512)} MB",  # noqa: S108
        "Isolation": tags.get("pilotlight:isolation"),
        "Variables": ", ".join(sorted(variables)),
        "Code": f"{config.get('CodeSize')} bytes, {config.get('CodeSha256')}",
        "State": _status(config.get("State") or "Active", config.get("StateReason")),
        "Last update": _status(
            config.get("LastUpdateStatus") or "", config.get("LastUpdateStatusReason")
        ),
        "Modified": config.get("LastModified"),
        "URL": url,
    }
    return {label: str(value) for label, value in facts.items() if value}


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return "" if value is None else str(value)


def _status(status: str, reason: str | None) -> str:
    return f"{status}: {reason}" if reason else status


def _function_url(client: Client, name: str) -> str | None:
    """Address that works without DNS, or None."""
    from pilotlight.cli.errors import ServerAnswer
    from pilotlight.cli.urls import reachable, url_path

    try:
        return reachable(str(client.get(url_path(name))["FunctionUrl"]))
    except ServerAnswer as exc:
        if exc.status not in _NOT_THERE:
            raise
        return None


def _environments(client: Client, name: str) -> list[dict[str, Any]]:
    """Living environments; none where the server does not run functions itself."""
    from urllib.parse import quote

    from pilotlight.cli.errors import ServerAnswer

    try:
        answer = client.get(f"/api/v1/functions/{quote(name, safe='')}/environments")
    except ServerAnswer as exc:
        if exc.status not in _NOT_THERE:
            raise
        return []
    found = answer.get("environments", [])
    return [item for item in found if isinstance(item, dict)]
