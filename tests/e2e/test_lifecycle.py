"""Start, stop, kill: what a host looks like afterwards, and who holds which privilege."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilotlight.roles.privileges import capabilities
from pilotlight.testing.client import (
    ECHO,
    create,
    invoke,
    isolation_arguments,
    lambda_client,
    zipped,
)
from pilotlight.testing.platform import (
    Platform,
    PlatformFailed,
    eventually,
    process_tree,
    running_platform,
    start_platform,
)

pytestmark = [pytest.mark.timeout(180)]
ORDINARY_USER = 61234


def host_resources(data: Path) -> set[str]:
    """Mounts, loop devices and cgroups on this host that belong to one data directory."""
    marks = (hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:10], str(data))
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found = {line.split()[4] for line in mounts if any(mark in line for mark in marks)}
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found |= {f"{folder}/{name}" for name in names if any(mark in name for mark in marks)}
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        text = backing.read_text().strip()
        found |= {text} if any(mark in text for mark in marks) else set()
    return found


def gone(pids: list[int]) -> bool:
    def alive(pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state not in "ZX"

    return not any(alive(pid) for pid in pids)


def test_sigterm_lets_a_running_invocation_finish_and_leaves_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    platform = start_platform(data, *isolation_arguments())
    api = lambda_client(platform)
    slow = "import time\ndef handler(e, c):\n    time.sleep(2)\n    return 'done'\n"
    create(api, "slow", zipped({"app.py": slow}))
    pids = platform.tree()
    assert os.geteuid() != 0 or host_resources(data), "what is looked for is not there"
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(invoke(api, "slow", {})[0]))
    caller.start()
    time.sleep(1.0)
    assert platform.stop() == 0
    platform.close()
    caller.join(20)
    assert answers == ["done"]
    assert gone(pids)
    assert not host_resources(data)


def test_after_sigkill_a_restart_cleans_up_and_serves_the_same_functions(tmp_path: Path) -> None:
    data = tmp_path / "data"
    platform = start_platform(data, *isolation_arguments())
    api = lambda_client(platform)
    create(api, "echo", zipped({"app.py": ECHO}))
    assert invoke(api, "echo", 1)[0] == 1
    time.sleep(0.5)  # its environment is frozen now
    pids = platform.tree()
    platform.kill()
    with running_platform(data, *isolation_arguments()) as again:
        api = lambda_client(again)
        assert invoke(api, "echo", 2)[0] == 2
        for _ in eventually(10):
            if gone(pids):
                break
    assert not host_resources(data)


def test_sigkill_of_every_process_is_cleaned_up_too(tmp_path: Path) -> None:
    data = tmp_path / "data"
    platform = start_platform(data, *isolation_arguments())
    api = lambda_client(platform)
    create(api, "echo", zipped({"app.py": ECHO}))
    assert invoke(api, "echo", 1)[0] == 1
    time.sleep(0.5)
    pids = platform.tree()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    platform.process.wait(10)
    platform.close()
    with running_platform(data, *isolation_arguments()) as again:
        assert invoke(lambda_client(again), "echo", 2)[0] == 2
        for _ in eventually(10):
            if gone(pids):
                break
    assert not host_resources(data)


def test_a_second_start_on_the_same_data_directory_says_so(platform: Platform) -> None:
    with pytest.raises(PlatformFailed, match="in use by the running Pilotlight process"):
        start_platform(platform.data_dir)


@pytest.mark.needs("root")
def test_only_the_launcher_is_privileged(platform: Platform, api: Any) -> None:
    create(api, "idle", zipped({"app.py": ECHO}))
    assert invoke(api, "idle", 1)[0] == 1
    own_namespace = Path("/proc/self/ns/user").stat().st_ino
    privileged = []
    for pid in process_tree(platform.pid):
        namespace = Path(f"/proc/{pid}/ns/user").stat().st_ino
        if namespace == own_namespace and any(capabilities(pid).values()):
            privileged.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    assert len(privileged) == 1, privileged
    assert b"launcher" in privileged[0]
    assert Path(f"/proc/{platform.pid}/status").read_text().find("NoNewPrivs:\t1") > 0
    api.delete_function(FunctionName="idle")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A directory of an ordinary user, which pytest's own temporary ones are not."""
    with tempfile.TemporaryDirectory(prefix="pilotlight-user-") as name:
        Path(name).chmod(0o711)
        os.chown(name, ORDINARY_USER, ORDINARY_USER)
        yield Path(name)


def as_ordinary_user() -> list[str]:
    """A command that runs another one as an ordinary user.

    The interpreter may live in a directory that is closed to others: open the way as roles do.
    """
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pilotlight.roles.privileges import open_way\n"
        f"open_way([Path(sys.base_prefix), Path(sys.prefix), Path({str(Path.cwd())!r})])\n"
        f"os.setgroups([]); os.setresgid(*[{ORDINARY_USER}] * 3); os.setresuid(*[{ORDINARY_USER}] * 3)\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    return [sys.executable, "-c", program]


@pytest.mark.needs("root", "cgroup-v1")
def test_an_ordinary_user_is_told_that_memory_cannot_be_limited(open_folder: Path) -> None:
    with pytest.raises(PlatformFailed, match="memory") as refused:
        start_platform(open_folder / "strict", prefix=as_ordinary_user())
    assert "--allow-missing" in str(refused.value)


@pytest.mark.needs("root")
def test_an_ordinary_user_gets_containers_too(open_folder: Path) -> None:
    data = open_folder / "data"
    platform = start_platform(data, "--allow-missing=memory", prefix=as_ordinary_user())
    try:
        api = lambda_client(platform)
        create(api, "echo", zipped({"app.py": ECHO}))
        assert invoke(api, "echo", {"as": "user"})[0] == {"as": "user"}
        assert capabilities(platform.pid)["CapEff"] == 0
    finally:
        assert platform.stop() == 0
        platform.close()


def test_health_metrics_and_readiness_answer(platform: Platform, api: Any) -> None:
    create(api, "metered", zipped({"app.py": ECHO}))
    invoke(api, "metered", 1)
    assert platform.get("/healthz")[0] == 200
    assert platform.get("/readyz")[0] == 200
    status, text = platform.get("/metrics")
    assert status == 200
    assert b"metered" in text
    assert b"pilotlight_invocations_total" in text
    api.delete_function(FunctionName="metered")


def test_settings_that_are_unknown_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PlatformFailed, match="PILOTLIGHT_NO_SUCH_KEY"):
        start_platform(tmp_path / "data", environment={"PILOTLIGHT_NO_SUCH_KEY": "1"})


def test_the_command_line_against_the_platform(platform: Platform, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pilotlight", *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120,
            env={**os.environ, "AWS_ENDPOINT_URL": platform.url, "AWS_REGION": "us-east-1",
                 "AWS_ACCESS_KEY_ID": platform.credentials()["aws_access_key_id"],
                 "AWS_SECRET_ACCESS_KEY": platform.credentials()["aws_secret_access_key"]},
        )  # fmt: skip

    made = run("init", "hello")
    assert made.returncode == 0, made.stderr
    deployed = run("deploy", "hello", "--json")
    assert deployed.returncode == 0, deployed.stderr
    answered = run("invoke", "hello", "--payload", '{"name": "flame"}')
    assert answered.returncode == 0, answered.stderr
    assert "flame" in answered.stdout
    listed = run("ls", "--json")
    assert "hello" in json.dumps(json.loads(listed.stdout))
    for _ in eventually(5):
        if "START RequestId" in run("logs", "hello").stdout:
            break
    assert run("invoke", "missing").returncode == 1
    assert run("delete", "hello", "--yes").returncode == 0
    assert run("describe", "hello").returncode == 1
