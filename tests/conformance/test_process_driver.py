"""The process driver under the suite, and what only it promises."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import pilotlight_guest
from pilotlight.dataplane.sandboxes.process import ProcessDriver
from pilotlight.model.errors import SandboxError
from pilotlight.model.ids import AccountId, Digest, EnvironmentId, RuntimeName
from pilotlight.ports.runtimes import HostRuntime
from pilotlight.ports.sandbox import SandboxSpec
from pilotlight.testing.sandbox_kit import Guest, eventually, install_code
from pilotlight.testing.sandbox_suite import DriverFactory, SandboxDriverSuite

pytestmark = pytest.mark.anyio

GUEST_ROOT = Path(pilotlight_guest.__file__).parent.parent
ROOT = Path(__file__).parents[2]


def this_python() -> Mapping[RuntimeName, HostRuntime]:
    name = RuntimeName(f"python{sys.version_info[0]}.{sys.version_info[1]}")
    executable = Path(sys.executable).resolve()
    return {name: HostRuntime(name, platform.python_version(), executable, Path(sys.base_prefix))}


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


class TestProcessDriverOnUvloop(TestProcessDriver):
    """The loop that the platform runs on handles descriptors in its own way."""

    rounds = 10

    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, object]]:
        return "asyncio", {"use_uvloop": True}


@pytest.fixture
def code_root(tmp_path: Path) -> Path:
    return tmp_path / "code"


@pytest.fixture
async def driver(code_root: Path) -> AsyncIterator[ProcessDriver]:
    driver = ProcessDriver(
        code_root=code_root,
        runtimes=this_python(),
        guest_root=GUEST_ROOT,
        instance=str(code_root),
    )
    yield driver
    await driver.aclose()


def spec(code: Digest, name: str = "e1") -> SandboxSpec:
    return SandboxSpec(
        id=EnvironmentId(name),
        tenant=AccountId("000000000000"),
        runtime=next(iter(this_python())),
        memory_mib=128,
        cpu_millis=72,
        ephemeral_mib=64,
        code=code,
    )


CODE = """
import os, resource, subprocess, sys

def limits(event, context):
    names = ("RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_FSIZE")
    return [list(resource.getrlimit(getattr(resource, name))) for name in names]

def children(event, context):
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    return [subprocess.Popen(sleep).pid, subprocess.Popen(sleep, start_new_session=True).pid]

def spin(event, context):
    print("spinning", flush=True)
    while True:
        pass
"""


async def started(driver: ProcessDriver, code_root: Path, handler: str) -> Guest:
    code = install_code(code_root, CODE)
    sandbox = await driver.create(spec(code))
    guest = Guest(sandbox, driver.task_root(spec(code)), handler)
    await guest.initialize()
    return guest


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_limits_that_need_no_privilege_hold(driver: ProcessDriver, code_root: Path) -> None:
    guest = await started(driver, code_root, "limits")
    assert await guest.invoke({}) == [[0, 0], [1024, 1024], [64 << 20, 64 << 20]]


async def test_children_end_with_the_sandbox_also_in_their_own_session(
    driver: ProcessDriver, code_root: Path
) -> None:
    guest = await started(driver, code_root, "children")
    pids = await guest.invoke({})
    assert isinstance(pids, list)
    assert all(is_alive(pid) for pid in pids)
    await driver.destroy(EnvironmentId("e1"))
    await eventually(lambda: not any(is_alive(pid) for pid in pids))


async def test_a_runtime_that_cannot_start_says_why(code_root: Path, tmp_path: Path) -> None:
    code = install_code(code_root, CODE)
    driver = ProcessDriver(
        code_root=code_root, runtimes=this_python(), guest_root=tmp_path, instance="x"
    )
    with pytest.raises(
        SandboxError, match=r"(?s)ended with 1 .*No module named 'pilotlight_guest'"
    ):
        await driver.create(spec(code))
    assert await driver.poll(EnvironmentId("e1")) is None


async def test_a_missing_interpreter_says_which(code_root: Path) -> None:
    code = install_code(code_root, CODE)
    name, runtime = next(iter(this_python().items()))
    gone = replace(runtime, executable=Path("/nonexistent/python"))
    driver = ProcessDriver(
        code_root=code_root, runtimes={name: gone}, guest_root=GUEST_ROOT, instance="x"
    )
    with pytest.raises(SandboxError, match="/nonexistent/python"):
        await driver.create(spec(code))


WORKER = """
import asyncio, sys
from pathlib import Path
from tests.conformance.test_process_driver import CODE, GUEST_ROOT, started, this_python
from pilotlight.dataplane.sandboxes.process import ProcessDriver

async def main(code_root):
    driver = ProcessDriver(code_root=code_root, runtimes=this_python(), guest_root=GUEST_ROOT,
                           instance=str(code_root))
    guest = await started(driver, code_root, "spin")
    await guest.start_invoke({})
    print(guest.sandbox.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main(Path(sys.argv[1])))
"""


def worker_process(code_root: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, str(code_root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)


async def test_nothing_outlives_a_killed_worker(driver: ProcessDriver, code_root: Path) -> None:
    with worker_process(code_root) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        assert is_alive(pid)
        worker.kill()
    await eventually(lambda: not is_alive(pid))
    assert await driver.adopt() == ()


def marked_process(instance: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        env={"PILOTLIGHT_SANDBOX": f"{instance}/e9"},
        start_new_session=True,
    )


async def test_adopt_ends_what_bears_the_mark_and_nothing_else(
    driver: ProcessDriver, code_root: Path
) -> None:
    mine, other = marked_process(str(code_root)), marked_process(f"{code_root}-other")
    try:
        assert await driver.adopt() == ()
        assert mine.wait(timeout=10) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (mine, other):
            process.kill()
            process.wait()
