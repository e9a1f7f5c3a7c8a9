"""What the connections of one listener share."""

from __future__ import annotations

import ssl
from email.utils import formatdate
from typing import Any

import uvicorn

from pilotlight.dataplane.frontend.http.budget import ByteBudget
from pilotlight.dataplane.frontend.http.hosts import HostList
from pilotlight.dataplane.frontend.http.route import Route
from pilotlight.dataplane.frontend.http.settings import HttpSettings
from pilotlight.ports.clock import Clock
from pilotlight.ports.ids import IdSource


class Listener:
    """Settings, limits and the coarse time of one listener.

    Attributes:
        now: the clock's monotonic seconds as of the last sweep. Reading it costs nothing; it is
            late by at most one sweep period, which is precise enough for timeouts of seconds.
        date_line: the Date header of all answers of this second.
    """

    __slots__ = ("_clock", "budget", "date_line", "hosts", "ids", "now", "route", "settings")

    def __init__(
        self, *, settings: HttpSettings, route: Route, clock: Clock, ids: IdSource
    ) -> None:
        self.settings = settings
        self.route = route
        self.ids = ids
        self.hosts = HostList(settings.allowed_hosts)
        self.budget = ByteBudget(settings.body_budget_bytes, settings.key_budget_bytes)
        self._clock = clock
        self.now = 0.0
        self.date_line = b""
        self.tick()

    def tick(self) -> None:
        """Read the clock."""
        self.now = self._clock.monotonic()
        self.date_line = f"Date: {formatdate(self._clock.wall(), usegmt=True)}\r\n".encode("ascii")


class ListenerConfig(uvicorn.Config):
    """uvicorn's configuration with the listener that its connections belong to.

    ``tls`` is the listener's own context, for uvicorn makes one that never changes.
    """

    def __init__(
        self,
        app: Any,  # noqa: ANN401
        listener: Listener,
        *,
        tls: ssl.SSLContext | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(app, **options)
        self.listener = listener
        self._tls = tls

    def load(self) -> None:
        """Resolve what is named by a word; then put the context in place."""
        super().load()
        self.ssl = self._tls
