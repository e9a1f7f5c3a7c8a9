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
    ("RUNTIME", "runs_on"),
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
        substitution = Substitution(client, data_dir)
        runtime = substitution.label(config.get("Runtime"))
        isolation = _isolation(client, found.get("Tags") or {})
        cold_start = _last_cold_start(client, str(config["FunctionName"]))
    for one in environments:
        one["runs_on"] = substitution.label(one.get("runtime"))
    if as_json:
        more = {
            "FunctionUrl": url,
            "Environments": environments,
            "RunsOn": runtime,
            "Isolation": isolation,
            "LastColdStart": cold_start,
        }
        say_json(found | more)
        return
    facts = _facts(config, runtime=runtime, isolation=isolation, url=url)
    if cold_start:
        facts["Cold start"] = ", ".join(f"{name} {value}" for name, value in cold_start.items())
    for label, value in facts.items():
        say_foreign(f"{label + ':':<14}{value}")
    if environments:
        say("")
        say_table(
            [title for title, _ in _COLUMNS],
            [[_cell(env.get(key)) for _, key in _COLUMNS] for env in environments],
        )


def _facts(
    config: dict[str, Any], *, runtime: str, isolation: str | None, url: str | None
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
        "Isolation": isolation,
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


def _isolation(client: Client, tags: dict[str, str]) -> str | None:
    """What the function's tag asks for, else the server's default; None where it does not tell."""
    from pilotlight.cli.errors import ServerAnswer
    from pilotlight.cli.publishing import ISOLATION_TAG

    if ISOLATION_TAG in tags:
        return tags[ISOLATION_TAG]
    try:
        status = client.get("/api/v1/status")
    except ServerAnswer as exc:
        if exc.status not in _NOT_THERE:
            raise
        return None
    default = (status.get("isolation") or {}).get("default")
    return f"{default} (the server's default)" if default else None


def _last_cold_start(client: Client, name: str) -> dict[str, str]:
    """Phases of the newest cold start in the log, each with its time; empty where there is none."""
    from pilotlight.cli.errors import ServerAnswer

    query = {"function": name, "text": "COLD_START", "limit": "1000"}
    try:
        lines = client.get("/api/v1/logs", query).get("lines", [])
    except ServerAnswer as exc:
        if exc.status not in _NOT_THERE:
            raise
        return {}
    texts = [str(line.get("text", "")) for line in lines if isinstance(line, dict)]
    return cold_start_phases(texts)


def cold_start_phases(texts: list[str]) -> dict[str, str]:
    """Parts of the last COLD_START line: ``start`` is how, the others are phases with their time."""
    for text in reversed(texts):
        if text.startswith("COLD_START "):
            parts = text.removeprefix("COLD_START ").replace(" Start: ", "\tStart: ").split("\t")
            fields = (part.partition(": ") for part in parts)
            known = {name.lower(): value for name, _, value in fields if value}
            known.pop("requestid", None)
            return known
    return {}
