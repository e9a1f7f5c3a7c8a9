"""Runtimes a host has: name to interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pilotlight.model.ids import RuntimeName


@dataclass(frozen=True, slots=True)
class HostRuntime:
    """One interpreter on this host.

    Attributes:
        name: API name, for example ``python3.11``.
        version: full version, for example ``3.11.7``.
        executable: absolute, symbolic links resolved.
        prefix: installation prefix that must be visible for it to run (``sys.base_prefix``).
    """

    name: RuntimeName
    version: str
    executable: Path
    prefix: Path


@dataclass(frozen=True, slots=True)
class RuntimeChoice:
    """Which runtime really runs a function; ``substituted`` when it is not the one asked for."""

    runtime: HostRuntime
    substituted: bool


class Runtimes(Protocol):
    """The runtimes of this host and the rule for those it lacks (design, section 5)."""

    def installed(self) -> Mapping[RuntimeName, HostRuntime]:
        """All runtimes found, by name."""
        ...

    def choose(self, wanted: RuntimeName) -> RuntimeChoice | None:
        """The runtime for a function, a substitute where allowed, else None."""
        ...
