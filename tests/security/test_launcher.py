"""The launcher against a platform that was taken over: what the service user can make it do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.security.conftest import RUNTIME, TENANT, launcher_options

from pilotlight.dataplane.sandboxes.container import protocol
from pilotlight.dataplane.sandboxes.container.cgroups import Group
from pilotlight.dataplane.sandboxes.container.protocol import BLANK_LIMITS, Make, Reply
from pilotlight.dataplane.sandboxes.container.start import Launcher, start_launcher
from pilotlight.dataplane.sandboxes.container.zygotes import ZygoteFailed, user_namespace
from pilotlight.model.errors import IsolationMissing

pytestmark = [pytest.mark.timeout(90), pytest.mark.needs("root")]
DIGEST = "ab" * 32


@pytest.fixture
def launcher(tmp_path: Path, code_root: Path, instance: str) -> Iterator[Launcher]:
    made = start_launcher(launcher_options(tmp_path / "data", code_root, instance))
    yield made
    made.close()


def ask(launcher: Launcher, request: protocol.Request) -> Reply:
    """Send a request as the driver would, and close whatever descriptors come back."""
    launcher.channel.send(protocol.encode(request))
    launcher.channel.settimeout(30)
    message, *rest = launcher.channel.recvmsg(65536, 4096)
    del rest
    return protocol.decode_reply(message)


def make(launcher: Launcher, key: int = 1) -> str:
    """The error of a request for a sandbox with the code ``DIGEST``."""
    return str(ask(launcher, Make(1, key, TENANT, RUNTIME, BLANK_LIMITS, DIGEST)).error)


def test_a_link_instead_of_code_is_not_followed(launcher: Launcher, code_root: Path) -> None:
    """It would show the host's files to a function."""
    (code_root / DIGEST).symlink_to("/etc")
    assert "symbolic links" in make(launcher)


def test_a_link_above_the_code_is_not_followed(
    launcher: Launcher, code_root: Path, tmp_path: Path
) -> None:
    """The code root is opened once: what has its name later does not count."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / DIGEST).mkdir(parents=True)
    shutil.rmtree(code_root)
    code_root.symlink_to(elsewhere)
    assert "No such file" in make(launcher)


def test_another_mount_is_not_code(launcher: Launcher, code_root: Path) -> None:
    """``NO_XDEV``: nothing that is mounted at the place of a package comes along."""
    (code_root / DIGEST).mkdir()
    outer = f"/proc/{launcher.process.pid}/ns/mnt"
    command = ["nsenter", f"--mount={outer}", "mount", "--bind", "/etc", str(code_root / DIGEST)]
    subprocess.run(command, check=True)
    assert "cross-device" in make(launcher)


def test_a_code_root_behind_a_link_is_refused_at_the_start(tmp_path: Path, instance: str) -> None:
    (tmp_path / "real" / "code").mkdir(parents=True)
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    options = launcher_options(tmp_path / "data", tmp_path / "cache" / "code", instance)
    with pytest.raises(IsolationMissing, match="symbolic links"):
        start_launcher(options)


def test_only_a_process_descriptor_names_a_process() -> None:
    with Path(os.devnull).open() as other, pytest.raises(ZygoteFailed, match="no process"):
        user_namespace(other.fileno())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    pidfd = os.pidfd_open(child.pid)
    assert user_namespace(pidfd) == Path("/proc/self/ns/user").stat().st_ino
    child.communicate(b"\n")
    with pytest.raises(OSError, match="ended"):
        user_namespace(pidfd)
    os.close(pidfd)


@pytest.mark.parametrize(("still_listed", "dies"), [(True, True), (False, False)])
def test_only_what_a_group_still_lists_is_killed(
    tmp_path: Path, *, still_listed: bool, dies: bool
) -> None:
    """The number of a process that ended may be a stranger's by the time of the signal."""
    stranger = subprocess.Popen(["sleep", "60"])

    class Changing(Group):
        reads = 0

        def pids(self) -> set[int]:
            self.reads += 1
            return {stranger.pid} if self.reads == 1 or still_listed else set()

    Changing({"pids": tmp_path}, is_v1=True).kill()
    try:
        assert stranger.wait(5 if dies else 0.3) == -signal.SIGKILL
        assert dies
    except subprocess.TimeoutExpired:
        assert not dies
    finally:
        stranger.kill()
        stranger.wait()


def test_garbage_ends_the_launcher_and_leaves_nothing(launcher: Launcher) -> None:
    launcher.channel.send(b'{"do": "make", "path": "/etc"}')
    assert launcher.process.wait(20) == 0
