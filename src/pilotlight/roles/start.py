"""From settings to a running role: what must happen before the loop, in the order it must happen.

1. The data directory is locked.
2. What needs root is done: credentials, interpreters, and the launcher, which stays root.
3. Root is given up (`privileges`).
4. The parts run until a signal asks for the end; they drain, end, and the launcher with them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

import pilotlight
from pilotlight.config import Settings
from pilotlight.config.credentials import Credentials, root_credentials
from pilotlight.config.runtimes import HostRuntimes
from pilotlight.config.target import remove_endpoint, write_endpoint
from pilotlight.dataplane.sandboxes.container.start import (
    Launcher,
    LauncherOptions,
    start_launcher,
)
from pilotlight.kernel.service import Stop, run_parts
from pilotlight.model.errors import PlatformError
from pilotlight.model.function import Isolation
from pilotlight.observability import logging as own_log
from pilotlight.roles.all_in_one import AllInOne
from pilotlight.roles.datadir import KEPT_BY_ROOT, DataDir, open_data_dir
from pilotlight.roles.prepared import Prepared
from pilotlight.roles.privileges import ServiceUser, drop, give, open_way

log = structlog.get_logger(__name__)

_PACKAGE = Path(pilotlight.__file__).resolve().parent.parent
"""Directory that contains ``pilotlight`` and ``pilotlight_guest``."""
_START_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running platform answers."""

    api: str
    urls: str


OnReady = Callable[[Addresses, Credentials], None]
"""Called once in a thread of its own when the platform is ready; it may block."""


def up(settings: Settings, *, on_ready: OnReady | None = None) -> int:
    """Run the role until SIGTERM or SIGINT; return the exit code, 0 after a clean end.

    Raises:
        ConfigurationError: settings or data directory cannot be used.
        IsolationMissing: the host cannot give the isolation that the settings ask for.
    """
    own_log.configure(output=settings.logs.output, level=settings.logs.level)
    data = open_data_dir(settings.data_dir)
    try:
        prepared, launcher = _prepare(settings, data)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(prepared, on_ready))
        finally:
            if launcher is not None:
                launcher.close()
    finally:
        data.close()
    return 0


def _prepare(settings: Settings, data: DataDir) -> tuple[Prepared, Launcher | None]:
    """Everything that needs the privileges we started with; without them afterwards."""
    credentials = root_credentials(settings)
    runtimes = HostRuntimes(settings)
    launcher = _launch(settings, data, runtimes) if _wants_containers(settings) else None
    if os.geteuid() == 0:
        user = ServiceUser(settings.service_uid, settings.service_gid)
        prefixes = [r.prefix for r in runtimes.installed().values()]
        ours = [Path(sys.prefix), Path(sys.base_prefix), _PACKAGE]
        open_way([data.root, *ours, *prefixes])
        give(data.root, user, KEPT_BY_ROOT)
        drop(user)
    os.chdir(data.root)
    return Prepared(settings, data, credentials, runtimes, launcher, _PACKAGE), launcher


def _wants_containers(settings: Settings) -> bool:
    return settings.isolation is Isolation.CONTAINER


def _launch(settings: Settings, data: DataDir, runtimes: HostRuntimes) -> Launcher:
    launcher = start_launcher(
        LauncherOptions(
            data_dir=data.root,
            code_root=data.code,
            guest_root=_PACKAGE,
            runtimes=tuple(runtimes.installed().values()),
            instance=data.instance,
            service_uid=settings.service_uid,
            service_gid=settings.service_gid,
            allow_missing=settings.allow_missing,
        )
    )
    for warning in launcher.warnings:
        log.warning("protection_missing", what=warning)
    return launcher


async def _serve(prepared: Prepared, on_ready: OnReady | None) -> None:
    async with AllInOne.open(prepared) as role:
        stop = Stop(role.drain)
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.ask)
        if role.tls is not None:
            loop.add_signal_handler(signal.SIGHUP, role.tls.ask)
        addresses = Addresses(role.api_url, role.urls_url)

        def started() -> None:
            _spare_the_collector()
            role.is_ready = True
            write_endpoint(prepared.data.root, api_url=addresses.api, url_base=addresses.urls)
            print(f"ready: {addresses.api}", flush=True)  # noqa: T201  (the contract of `up`)
            if on_ready is not None:
                _in_thread(on_ready, addresses, prepared.credentials)

        try:
            await run_parts(
                role.parts, start_timeout_s=_START_TIMEOUT_S, stop=stop, started=started
            )
        finally:
            remove_endpoint(prepared.data.root)


def _spare_the_collector() -> None:
    """Leave what the start made out of every later collection, and collect less often.

    A warm invocation leaves no reference cycles, but its allocations would start a collection of
    the youngest objects every few requests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _in_thread(on_ready: OnReady, addresses: Addresses, credentials: Credentials) -> None:
    """A daemon thread: a demonstration that hangs must not hold up the end of the platform."""

    def run() -> None:
        try:
            on_ready(addresses, credentials)
        except PlatformError as error:
            log.error("on_ready_failed", fault=str(error))  # noqa: TRY400  (a message for people)

    threading.Thread(target=run, name="on-ready", daemon=True).start()
