"""What this host can isolate and what it cannot, for ``pilotlight doctor``."""

from __future__ import annotations

from pilotlight.config import Settings
from pilotlight.dataplane.sandboxes.container.host import Finding, inspect_host

__all__ = ["Finding", "report"]


def report(settings: Settings) -> tuple[Finding, ...]:  # noqa: ARG001  (findings are of the host)
    """Look at the host; changes nothing."""
    return inspect_host()
