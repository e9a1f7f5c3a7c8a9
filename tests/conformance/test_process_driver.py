"""The process driver under the suite, and what only it promises."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import pilotlight_guest
from pilotlight.dataplane.sandboxes.process import ProcessDriver
from pilotlight.model.ids import RuntimeName
from pilotlight.ports.runtimes import HostRuntime
from pilotlight.testing.sandbox_suite import (
    DriverFactory,
    SandboxDriverSuite,
)

pytestmark = pytest.mark.anyio

GUEST_ROOT = Path(pilotlight_guest.__file__).parent.parent


def this_python() -> Mapping[RuntimeName, HostRuntime]:
    name = RuntimeName(f"python{sys.version_info[0]}.{sys.version_info[1]}")
    executable = Path(sys.executable).resolve()
    return {name: HostRuntime(name, platform.python_version(), executable, Path(sys.base_prefix))}


@pytest.fixture
def runtime() -> RuntimeName:
    return next(iter(this_python()))


class TestProcessDriver(SandboxDriverSuite):
    @pytest.fixture
    def runtime(self) -> RuntimeName:
        return next(iter(this_python()))

    @pytest.fixture
    def driver_factory(self, code_root: Path) -> DriverFactory:
        async def make() -> ProcessDriver:
            return ProcessDriver(
                code_root=code_root,
                runtimes=this_python(),
                guest_root=GUEST_ROOT,
                instance=str(code_root),
            )

        return make
