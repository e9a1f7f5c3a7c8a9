"""What a running platform says of itself: status, environments, and a listener with no pages."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pilotlight
from pilotlight.dataplane.frontend.invoker import FrontendInvoker
from pilotlight.model.function import Isolation
from pilotlight.model.ids import RuntimeName
from pilotlight.ports.sandbox import KeepsBlanks, SandboxDriver
from pilotlight.roles.prepared import Prepared


def own_runtime() -> RuntimeName:
    """The runtime of the interpreter that runs Pilotlight."""
    return RuntimeName(f"python{sys.version_info.major}.{sys.version_info.minor}")


def status(prepared: Prepared, drivers: Mapping[Isolation, SandboxDriver]) -> Mapping[str, object]:
    """Version, isolation, runtimes, and what is missing, as JSON values."""
    launcher = prepared.launcher
    blanks = {
        f"{kind.tenant}/{kind.runtime}": count
        for driver in drivers.values()
        if isinstance(driver, KeepsBlanks)
        for kind, count in driver.blanks().items()
    }
    return {
        "version": pilotlight.__version__,
        "role": prepared.settings.role,
        "isolation": {
            "default": prepared.settings.isolation,
            "drivers": sorted(drivers),
            "privileged": launcher is not None and launcher.is_privileged,
            "missing": list(launcher.warnings) if launcher is not None else ["all isolation"],
        },
        "runtimes": {
            name: {"version": runtime.version, "executable": str(runtime.executable)}
            for name, runtime in prepared.runtimes.installed().items()
        },
        "substitute_runtimes": prepared.settings.substitutes,
        "blanks": blanks,
    }


def environments(
    invoker: FrontendInvoker,
) -> Callable[[str, str], Awaitable[Sequence[Mapping[str, object]]]]:
    """A report of the execution environments of one function."""

    async def of(account: str, function: str) -> Sequence[Mapping[str, object]]:
        return [
            asdict(one)
            for one in invoker.environments()
            if (one.account, one.function) == (account, function)
        ]

    return of


async def nothing_here(
    scope: Mapping[str, Any],  # noqa: ARG001  (the shape of an ASGI application)
    receive: Any,  # noqa: ANN401, ARG001
    send: Any,  # noqa: ANN401
) -> None:
    """The ASGI application of the function-URL listener, whose route takes every request."""
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})
