"""Real sandboxes for the escape probes."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from pilotlight.dataplane.sandboxes.container.driver import ContainerDriver
from pilotlight.dataplane.sandboxes.container.start import LauncherOptions, start_launcher
from pilotlight.model.ids import AccountId, EnvironmentId, RuntimeName
from pilotlight.ports.runtimes import HostRuntime
from pilotlight.ports.sandbox import Sandbox, SandboxSpec
from pilotlight.testing.sandbox_kit import Behaviour, Guest, install_code

SOURCE = Path(__file__).resolve().parents[2] / "src"
PROBES = Path(__file__).with_name("probes.py")
TENANT = AccountId("000000000000")
RUNTIME = RuntimeName("python3.11")


def launcher_options(data: Path, code: Path, instance: str) -> LauncherOptions:
    data.mkdir(exist_ok=True)
    version = ".".join(map(str, sys.version_info[:3]))
    executable = Path(sys.executable).resolve()
    runtime = HostRuntime(RUNTIME, version, executable, Path(sys.base_prefix))
    return LauncherOptions(
        data_dir=data,
        code_root=code,
        guest_root=SOURCE,
        runtimes=(runtime,),
        instance=instance,
        service_uid=os.getuid(),
        service_gid=os.getgid(),
    )


class Prober:
    """Makes sandboxes whose function carries out probes."""

    def __init__(self, driver: ContainerDriver, spec: SandboxSpec) -> None:
        self.driver = driver
        self.spec = spec
        self._count = 0

    async def guest(self, **changes: Any) -> Guest:
        self._count += 1
        spec = replace(self.spec, id=EnvironmentId(f"p{self._count}"), **changes)
        sandbox: Sandbox = await self.driver.create(spec)
        guest = Guest(sandbox, "/var/task", cast(Behaviour, "probe"))
        await guest.initialize()
        return guest

    async def run(self, what: str, argument: object = None, **changes: Any) -> Any:
        """The answer of one probe in a fresh sandbox."""
        guest = await self.guest(**changes)
        answer = await guest.invoke({"do": what, "with": argument})
        await self.driver.destroy(guest.sandbox.id)
        return answer


MakeDriver = Callable[[], Awaitable[ContainerDriver]]


@pytest.fixture
def code_root(tmp_path: Path) -> Path:
    root = tmp_path / "code"
    root.mkdir()
    return root


@pytest.fixture
def instance(tmp_path: Path) -> str:
    return f"s{os.getpid()}x{abs(hash(str(tmp_path))) % 10**8}"


@pytest.fixture
async def driver(tmp_path: Path, code_root: Path, instance: str) -> AsyncIterator[ContainerDriver]:
    launcher = start_launcher(launcher_options(tmp_path / "data", code_root, instance))
    made = ContainerDriver(launcher)
    yield made
    await made.aclose()


@pytest.fixture
def prober(driver: ContainerDriver, code_root: Path) -> Prober:
    code = install_code(code_root, PROBES.read_text())
    spec = SandboxSpec(
        id=EnvironmentId("p"),
        tenant=TENANT,
        runtime=RUNTIME,
        memory_mib=128,
        cpu_millis=72,
        ephemeral_mib=512,
        code=code,
        pids_max=128,
    )
    return Prober(driver, spec)
