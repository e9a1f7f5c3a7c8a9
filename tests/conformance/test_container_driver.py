"""The container driver passes the suite of sandbox drivers."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pilotlight.dataplane.sandboxes.container.driver import ContainerDriver
from pilotlight.dataplane.sandboxes.container.start import LauncherOptions, start_launcher
from pilotlight.model.ids import RuntimeName
from pilotlight.ports.runtimes import HostRuntime
from pilotlight.ports.sandbox import SandboxDriver
from pilotlight.testing.sandbox_suite import (
    DriverFactory,
    SandboxDriverSuite,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]
SOURCE = Path(__file__).resolve().parents[2] / "src"


def this_runtime() -> HostRuntime:
    version = ".".join(map(str, sys.version_info[:3]))
    executable = Path(sys.executable).resolve()
    return HostRuntime(RuntimeName("python3.11"), version, executable, Path(sys.base_prefix))


def options(data: Path, code: Path) -> LauncherOptions:
    data.mkdir(exist_ok=True)
    return LauncherOptions(
        data_dir=data,
        code_root=code,
        guest_root=SOURCE,
        runtimes=(this_runtime(),),
        instance=f"t{os.getpid()}{abs(hash(str(data))) % 10**8}",
        service_uid=os.getuid(),
        service_gid=os.getgid(),
    )


@pytest.mark.needs("root")
class TestContainerDriver(SandboxDriverSuite):
    rounds = 20

    @pytest.fixture
    async def driver_factory(self, tmp_path: Path, code_root: Path) -> AsyncIterator[DriverFactory]:
        made: list[ContainerDriver] = []

        async def make() -> SandboxDriver:
            driver = ContainerDriver(start_launcher(options(tmp_path / "data", code_root)))
            made.append(driver)
            return driver

        yield make
        for driver in made:
            await driver.aclose()
