"""Which runtime will really run a function: what the server says, else what this machine has."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pilotlight.cli.client import Client
from pilotlight.cli.errors import ServerAnswer
from pilotlight.model.ids import RuntimeName
from pilotlight.ports.runtimes import HostRuntime

if TYPE_CHECKING:
    from pilotlight.config.runtimes import HostRuntimes

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_NOT_THERE = frozenset({403, 404, 501})
_ADD = "Add an interpreter with `pilotlight runtime add PATH`, then start the server again."


class Substitution:
    """Answers for one server; nothing is known of a distant one that does not tell."""

    def __init__(self, client: Client, data_dir: Path | None) -> None:
        self._client = client
        self._data_dir = data_dir

    def runs_on(self, wanted: str) -> str | None:
        """The runtime that runs functions of this one: itself, a substitute, or None: none does."""
        from pilotlight.config.runtimes import nearest

        installed, substitutes = self._server
        if wanted in installed:
            return wanted
        return nearest(RuntimeName(wanted), installed) if substitutes else None

    def interpreter(self, wanted: str) -> HostRuntime | None:
        """The interpreter of this machine that is, or equals, the one that will run the function."""
        runs_on = (self.runs_on(wanted) if self.is_known else None) or wanted
        return self._local.installed().get(RuntimeName(runs_on))

    def label(self, wanted: str | None) -> str:
        """The runtime, with what stands in for it or that it is missing."""
        if not wanted or not self.is_known:
            return wanted or ""
        runs_on = self.runs_on(wanted)
        if runs_on is None:
            return f"{wanted} (missing)"
        return wanted if runs_on == wanted else f"{wanted} (on {runs_on})"

    def warning(self, wanted: str) -> str | None:
        """What a user should know before deploying; None where all is well or not known."""
        if not self.is_known:
            return None
        runs_on = self.runs_on(wanted)
        if runs_on == wanted:
            return None
        if not wanted.startswith("python3."):
            return (
                f"{wanted}: Pilotlight runs Python so far; invocations of this function will fail."
            )
        if runs_on is None:
            return f"the server has no {wanted}: invocations will fail until it has. {_ADD}"
        return f"the server has no {wanted}: {runs_on} runs the function instead. {_ADD}"

    @property
    def is_known(self) -> bool:
        """The server told, or it is this machine's own."""
        return bool(self._server[0])

    @cached_property
    def _server(self) -> tuple[frozenset[RuntimeName], bool]:
        """Runtimes that the server has, and whether it substitutes; empty where nobody knows."""
        try:
            status = self._client.get("/api/v1/status")
        except ServerAnswer as refused:
            if refused.status not in _NOT_THERE:
                raise
            status = {}
        runtimes = status.get("runtimes")
        if isinstance(runtimes, dict):
            names = frozenset(RuntimeName(name) for name in runtimes)
            return names, bool(status.get("substitute_runtimes"))
        if urlsplit(self._client.target.endpoint).hostname in _LOOPBACK:
            return frozenset(self._local.installed()), self._local.substitutes
        return frozenset(), False

    @cached_property
    def _local(self) -> HostRuntimes:
        from pilotlight.config import load_settings
        from pilotlight.config.runtimes import HostRuntimes

        return HostRuntimes(load_settings({"data_dir": self._data_dir}))
