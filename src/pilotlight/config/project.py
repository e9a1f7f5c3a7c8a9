"""``function.toml``: one function as its author describes it, read by ``pilotlight deploy``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pilotlight.config.parsers import (
    boolean,
    integer,
    list_of,
    matching,
    one_of,
    optional,
    text_table,
)
from pilotlight.config.schema import Layer, build, flatten, key, read_toml
from pilotlight.config.settings import NOT_FOR_USERS
from pilotlight.model import limits
from pilotlight.model.errors import ConfigurationError
from pilotlight.model.isolation import Isolation

PROJECT_FILE = "function.toml"
_NAME = matching(r"[a-zA-Z0-9-_]{1,64}", "1 to 64 letters, digits, - and _")
_PLACEHOLDER = "-"


@dataclass(frozen=True, slots=True)
class Project:
    """A function and how it is packed. The API checks the values again; these are for its author."""

    name: str = key(_PLACEHOLDER, _NAME, "Name of the function.")
    runtime: str = key(
        _PLACEHOLDER, matching(r"[a-z0-9.]{1,40}", "a runtime such as python3.11"), ""
    )
    handler: str = key(
        "app.handler", matching(r"[^\s]{1,128}", "FILE.FUNCTION without blanks"), "What runs."
    )
    description: str = key("", matching(r"[^\0]{0,256}", "up to 256 characters"), "For people.")
    memory_mib: int = key(128, integer(128, 10_240), "CPU share grows with it.", unit="MiB")
    timeout_s: int = key(3, integer(1, limits.TIMEOUT_MAX_S), "As on Lambda.", unit="s")
    ephemeral_mib: int = key(512, integer(512, 10_240), "Size of /tmp.", unit="MiB")
    isolation: Isolation | None = key(
        None, optional(one_of(Isolation, without=NOT_FOR_USERS)), "None: the account's default."
    )
    url: bool = key(False, boolean(), "Give it a public address.")  # noqa: FBT003
    role: str = key(
        "arn:aws:iam::000000000000:role/pilotlight-function",
        matching(r"arn:(aws[a-zA-Z-]*)?:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+", "a role ARN"),
        "The API asks for one.",
    )
    environment: tuple[tuple[str, str], ...] = key((), text_table(), "Variables of the function.")
    requirements: str = key(
        "requirements.txt", matching(r"[^\0]{1,255}", "a file name"), "Installed where it exists."
    )
    ignore: tuple[str, ...] = key(
        (), list_of(matching(r"[^\0]{1,255}", "pattern"), "patterns"), "Files left out, as fnmatch."
    )


def read_project(directory: Path) -> Project:
    """Read and check the project file of a directory.

    Raises:
        ConfigurationError: there is none, or it has faults: all of them.
    """
    where = directory / PROJECT_FILE
    if not where.is_file():
        raise ConfigurationError(
            f"There is no {PROJECT_FILE} in {directory.absolute()}. "
            f"Make a new function with: pilotlight init {directory}"
        )
    table = read_toml(where)
    missing = [name for name in ("name", "runtime") if name not in table]
    project = build(Project, [Layer(flatten(table, Project, str(where)))], what=str(where))
    if missing:
        raise ConfigurationError(f"{where} lacks: {', '.join(missing)}")
    return project
