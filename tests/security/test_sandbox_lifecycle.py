"""What is left after deaths of every kind, and who needs which privilege."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from tests.security.conftest import RUNTIME, TENANT, Prober, launcher_options

from pilotlight.dataplane.sandboxes.container.driver import ContainerDriver
from pilotlight.dataplane.sandboxes.container.start import start_launcher
from pilotlight.model.errors import SandboxError
from pilotlight.model.ids import EnvironmentId
from pilotlight.ports.sandbox import BlankClass
from pilotlight.testing.sandbox_kit import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(90), pytest.mark.needs("root")]
HERE = Path(__file__).resolve().parent
KIND = BlankClass(TENANT, RUNTIME)


def host_traces(instance: str) -> list[str]:
    """Cgroups and loop devices of an instance."""
    name = f"pilotlight-{instance}"
    found = [f"{d}/{n}" for d, names, _ in os.walk("/sys/fs/cgroup") for n in names if n == name]
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        text = backing.read_text() if backing.exists() else ""
        found += [text] if name in text else []
    return found


def processes_of(root: int) -> set[int]:
    """A process and all below it that live."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] not in "ZX":
                parents[int(entry.name)] = int(fields[1])
    found = {root} & parents.keys()
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def pid_behind(pidfd: int) -> int:
    text = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pid:")))


async def test_a_blank_is_claimed_with_its_limits_and_another_tmp(prober: Prober) -> None:
    await prober.driver.keep_blanks(KIND, 2)
    assert prober.driver.blanks() == {KIND: 2}
    guest = await prober.guest(memory_mib=256, ephemeral_mib=64)
    assert guest.sandbox.start.how == "blank"
    assert (await guest.invoke({"do": "tmp_facts"}))["mib"] < 100  # type: ignore[index]
    assert await guest.invoke({"do": "memory_bomb", "with": 200}) == 200
    assert await guest.invoke({"do": "fork_bomb"}) == ["EAGAIN", 127]
    await eventually(lambda: prober.driver.blanks() == {KIND: 2})
    second = await prober.guest()
    assert await second.invoke({"do": "processes"}) == [1, 2]


async def test_blanks_that_die_are_replaced(prober: Prober) -> None:
    await prober.driver.keep_blanks(KIND, 1)
    (pool,) = prober.driver._pools.values()
    cell = pool._cells[0]
    os.kill(pid_behind(cell._pidfd), signal.SIGKILL)
    await eventually(lambda: cell.exit is not None)
    await eventually(lambda: prober.driver.blanks() == {KIND: 1})
    await prober.driver.keep_blanks(KIND, 0)
    assert prober.driver.blanks() == {}


async def test_blanks_of_a_missing_runtime_fail_at_once(prober: Prober) -> None:
    with pytest.raises(SandboxError, match="no runtime"):
        await prober.driver.keep_blanks(replace(KIND, runtime="cobol85"), 1)  # type: ignore[arg-type]


async def test_close_leaves_nothing_on_the_host(prober: Prober, instance: str) -> None:
    await prober.driver.keep_blanks(KIND, 2)
    guest = await prober.guest()
    guest.sandbox.freeze()
    spinning = await prober.guest()
    await spinning.invoke({"do": "runaway"})
    tree = processes_of(prober.driver._launcher.process.pid)
    assert len(tree) > 5
    await prober.driver.aclose()
    assert not [pid for pid in tree if pid in processes_of(pid)]
    assert host_traces(instance) == []


async def test_death_of_the_launcher_ends_every_sandbox_and_is_told(
    prober: Prober, tmp_path: Path, instance: str
) -> None:
    frozen, running = await prober.guest(), await prober.guest()
    frozen.sandbox.freeze()
    tree = processes_of(prober.driver._launcher.process.pid)
    prober.driver._launcher.process.kill()
    async with asyncio.timeout(20):
        for guest in (frozen, running):
            assert (await guest.sandbox.wait()).exit_code == -9
    await eventually(lambda: not [pid for pid in tree if pid in processes_of(pid)])
    with pytest.raises(SandboxError, match="launcher has ended"):
        await prober.guest()
    options = launcher_options(tmp_path / "data", tmp_path / "code", instance)
    second = ContainerDriver(start_launcher(options))
    await second.adopt()
    await second.aclose()
    assert host_traces(instance) == []


async def test_the_next_start_removes_what_sigkill_of_everything_left(
    prober: Prober, tmp_path: Path, instance: str
) -> None:
    for _ in range(2):
        (await prober.guest()).sandbox.freeze()
    tree = processes_of(prober.driver._launcher.process.pid)
    for pid in tree:  # frozen ones stay, as after a crash of the whole platform
        os.kill(pid, signal.SIGKILL)
    options = launcher_options(tmp_path / "data", tmp_path / "code", instance)
    second = ContainerDriver(start_launcher(options))
    try:
        assert await second.adopt() == ()
        assert second.leftovers == 2
        await eventually(lambda: not [pid for pid in tree if pid in processes_of(pid)])
    finally:
        await second.aclose()
    await prober.driver.aclose()
    await eventually(lambda: host_traces(instance) == [])


async def test_nonsense_from_the_driver_ends_the_launcher(prober: Prober) -> None:
    await prober.guest()
    prober.driver._launcher.channel.send(b'{"do":"make","n":1,"key":1,"path":"/etc"}')
    await eventually(lambda: prober.driver._launcher.process.poll() is not None)
    assert prober.driver._launcher.process.returncode == 0


async def test_code_must_be_a_folder_not_a_link(prober: Prober, code_root: Path) -> None:
    digest = "ab" * 32
    (code_root / digest).symlink_to("/etc")
    with pytest.raises(SandboxError):
        await prober.guest(code=digest)


async def test_death_of_a_zygote_ends_its_sandboxes_and_a_new_one_follows(
    prober: Prober,
) -> None:
    guest = await prober.guest()
    launcher = prober.driver._launcher.process.pid
    (zygote,) = processes_of_depth_one(launcher)
    os.kill(zygote, signal.SIGKILL)
    async with asyncio.timeout(20):
        assert (await guest.sandbox.wait()).exit_code == -9
    await prober.driver.destroy(guest.sandbox.id)
    fresh = await prober.guest()
    assert await fresh.invoke({"do": "processes"}) == [1, 2]


async def test_an_old_zygote_stays_for_its_sandboxes_and_no_longer(
    tmp_path: Path, code_root: Path, instance: str, prober: Prober
) -> None:
    options = launcher_options(tmp_path / "data", code_root, f"{instance}z")
    driver = ContainerDriver(start_launcher(replace(options, zygote_forks_max=2)))
    try:
        tenants = Prober(driver, prober.spec)
        guests = [await tenants.guest() for _ in range(3)]
        pid = driver._launcher.process.pid
        assert len(processes_of_depth_one(pid)) == 2
        for guest in guests:
            assert await guest.invoke({"do": "processes"}) == [1, 2]
        for guest in guests[:2]:
            await driver.destroy(guest.sandbox.id)
        await eventually(lambda: len(processes_of_depth_one(pid)) == 1)
        assert await guests[2].invoke({"do": "processes"}) == [1, 2]
    finally:
        await driver.aclose()


def processes_of_depth_one(root: int) -> set[int]:
    text = Path(f"/proc/{root}/task/{root}/children").read_text()
    return {int(word) for word in text.split()}


@pytest.mark.parametrize("mode", ["dropped", "ordinary"])
async def test_the_driver_needs_no_privilege(mode: str) -> None:
    """``dropped``: launcher as root, driver without any capability. ``ordinary``: never root."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to other users
        os.chmod(folder, 0o755)  # noqa: PTH101, S103
        command = [sys.executable, "-I", str(HERE / "unprivileged.py"), mode, folder]
        done = await asyncio.to_thread(
            subprocess.run, command, stdout=subprocess.PIPE, timeout=60, check=True
        )
    seen = json.loads(done.stdout)
    assert set(seen["capabilities"].values()) == {"0" * 16}
    assert seen["uid"] == 61234
    assert seen["privileged"] is (mode == "dropped")
    assert seen["identity"]["uid"] == [993] * 3
    assert set(seen["identity"]["status"].values()) >= {"0" * 16, "1", "2"}
    assert seen["calls"]["unshare user"] == seen["calls"]["mount"] == "EPERM"
    assert seen["connects"]["interfaces"] == ["lo"]
    assert seen["how"] == ["fork", "blank"]
    assert seen["destroyed"] is True


async def test_ids_of_one_create_are_one_sandbox(prober: Prober) -> None:
    first = await prober.guest()
    spec = replace(prober.spec, id=EnvironmentId("p1"))
    assert await prober.driver.create(spec) is first.sandbox
