"""A driver in a process without privileges; run as a script, prints what it saw as JSON."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilotlight.dataplane.sandboxes.container.driver import ContainerDriver
from pilotlight.dataplane.sandboxes.container.start import Launcher, start_launcher
from pilotlight.model.ids import EnvironmentId
from pilotlight.ports.sandbox import BlankClass, SandboxSpec
from pilotlight.testing.sandbox_kit import install_code
from pilotlight_guest import linux

USER = 61234
HERE = Path(__file__).resolve().parent


def kit() -> Any:
    """The neighbouring conftest, as a module."""
    found = importlib.util.spec_from_file_location("kit", HERE / "conftest.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["kit"] = module
    found.loader.exec_module(module)
    return module


def open_way() -> None:
    """Make this interpreter reachable for others, where it lives in a closed folder."""
    prefix = Path(sys.base_prefix)
    closed = [p for p in reversed(prefix.parents) if not p.stat().st_mode & 1]
    if not closed:
        return
    linux.unshare(linux.NEWNS)
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    tree = linux.open_tree(str(prefix))
    linux.mount("tmpfs", str(closed[0]), "tmpfs", 0, "mode=0755,size=1m")
    prefix.mkdir(parents=True)
    linux.move_mount(tree, str(prefix))
    os.close(tree)


async def watch(launcher: Launcher, spec: SandboxSpec, tools: Any) -> dict[str, object]:
    driver = ContainerDriver(launcher)
    prober = tools.Prober(driver, spec)
    try:
        first = await prober.guest()
        seen: dict[str, object] = {
            what: await first.invoke({"do": what, "with": argument})
            for what, argument in (("identity", None), ("calls", None), ("connects", []))
        }
        await driver.keep_blanks(BlankClass(spec.tenant, spec.runtime), 1)
        second = await prober.guest()
        seen["how"] = [first.sandbox.start.how, second.sandbox.start.how]
        second.sandbox.freeze()
        await driver.destroy(second.sandbox.id)
        seen["destroyed"] = await driver.poll(second.sandbox.id) is None
        return seen
    finally:
        await driver.aclose()


def main(mode: str, folder: Path) -> None:
    tools = kit()
    code_root = folder / "code"
    code_root.mkdir()
    code = install_code(code_root, (HERE / "probes.py").read_text())
    spec = SandboxSpec(EnvironmentId("p"), tools.TENANT, tools.RUNTIME, 128, 72, 64, code)
    options = tools.launcher_options(folder / "data", code_root, f"u{os.getpid()}")
    open_way()
    launcher = start_launcher(options) if mode == "dropped" else None
    (folder / "data").chmod(0o777)
    os.setgroups([])
    linux.become(USER, USER, linux.last_capability()) if mode == "dropped" else _be_ordinary()
    linux.prctl(linux.PR_SET_DUMPABLE, 1)
    if launcher is None:
        launcher = start_launcher(replace(options, allow_missing=frozenset({"memory"})))
    status = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    wanted = ("CapInh:", "CapPrm:", "CapEff:", "CapAmb:")
    seen = asyncio.run(watch(launcher, spec, tools))
    seen["capabilities"] = {row[0]: row[1] for row in status if row and row[0] in wanted}
    seen["uid"] = os.getuid()
    seen["privileged"] = launcher.is_privileged
    print(json.dumps(seen))  # noqa: T201  # its result


def _be_ordinary() -> None:
    """Another user, as after a login: no capability held, nothing else forbidden."""
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
