"""Which runtime will really run a function, where the server is this machine's own."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pilotlight.config import load_settings
from pilotlight.config.runtimes import HostRuntimes
from pilotlight.config.target import Target
from pilotlight.model.ids import RuntimeName
from pilotlight.ports.runtimes import RuntimeChoice

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Substitution:
    """Answers for a server on this machine; knows nothing of a distant one."""

    def __init__(self, target: Target, data_dir: Path | None) -> None:
        self.is_local = urlsplit(target.endpoint).hostname in _LOOPBACK
        self._runtimes = HostRuntimes(load_settings({"data_dir": data_dir}))

    def choice(self, wanted: str) -> RuntimeChoice | None:
        """What this machine would run; None where it has nothing for this runtime."""
        return self._runtimes.choose(RuntimeName(wanted))

    def label(self, wanted: str | None) -> str:
        """The runtime, with what stands in for it or that it is missing."""
        if not wanted or not self.is_local:
            return wanted or ""
        choice = self.choice(wanted)
        if choice is None:
            return f"{wanted} (missing)"
        return f"{wanted} (on {choice.runtime.name})" if choice.substituted else wanted

    def warning(self, wanted: str) -> str | None:
        """What a user should know before deploying; None where all is well or not known."""
        if not self.is_local:
            return None
        choice = self.choice(wanted)
        if choice is None:
            return (
                f"{wanted} is not on this machine: invocations will fail until it is. "
                "Add an interpreter with: pilotlight runtime add PATH"
            )
        if choice.substituted:
            return (
                f"{wanted} is not on this machine: {choice.runtime.name} runs the function instead. "
                "Add an interpreter with: pilotlight runtime add PATH"
            )
        return None
