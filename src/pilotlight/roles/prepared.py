"""What a role is started with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pilotlight.config import Settings
from pilotlight.config.credentials import Credentials
from pilotlight.config.runtimes import HostRuntimes
from pilotlight.dataplane.sandboxes.container.start import Launcher
from pilotlight.roles.datadir import DataDir


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was done while we still had privileges."""

    settings: Settings
    data: DataDir
    credentials: Credentials
    runtimes: HostRuntimes
    launcher: Launcher | None
    guest_root: Path
