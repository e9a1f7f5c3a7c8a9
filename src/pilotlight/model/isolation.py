"""How functions are kept apart: a module of its own, so that the command line starts quickly."""

from __future__ import annotations

from enum import StrEnum


class Isolation(StrEnum):
    """How strongly a function is kept apart from its host and its neighbours."""

    CONTAINER = "container"
    PROCESS = "process"
    MEMORY = "memory"
