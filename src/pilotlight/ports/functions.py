"""The data plane's view of the registry: in memory, fed by changes, never a query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pilotlight.model.function import FunctionUrl, FunctionVersion


@dataclass(frozen=True, slots=True)
class Resolved:
    """A version to run, as a reference resolved to it at this moment."""

    function: FunctionVersion
    qualifier: str | None


class FunctionView(Protocol):
    """Lookups are synchronous and cost about a microsecond."""

    @property
    def revision(self) -> int:
        """Newest revision of the registry that this view contains."""
        ...

    def resolve(self, account: str, name: str, qualifier: str | None) -> Resolved | None:
        """The version that a reference means now; None when function or qualifier is unknown."""
        ...

    def url(self, url_id: str) -> FunctionUrl | None:
        """The function URL with this label, or None."""
        ...


class ServingView(FunctionView, Protocol):
    """What a frontend's own decisions need besides."""

    @property
    def reservations(self) -> Mapping[tuple[str, str], int]:
        """Reserved concurrency by account and function, of those that have any."""
        ...

    @property
    def provisioned(self) -> Mapping[tuple[str, str, str], int]:
        """Environments to keep ready by account, function and version."""
        ...


@dataclass(frozen=True, slots=True)
class Kept:
    """What is ready of the environments to keep for a version.

    Attributes:
        allocated: environments that are ready or run something, at most those to keep.
        available: those of them that run nothing.
        failure: why the last start failed, as ``StatusReason`` of the API; None after a success.
    """

    allocated: int = 0
    available: int = 0
    failure: str | None = None


class ViewBarrier(Protocol):
    """Lets the control plane wait until every frontend serves a revision (decision D20)."""

    async def acknowledged(self, revision: int) -> None:
        """Return once every live-leased frontend's view contains ``revision``."""
        ...
