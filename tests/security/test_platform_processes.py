"""A running platform, read from ``/proc`` and from the disk: who holds what, and who can read it."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilotlight.roles.privileges import capabilities
from pilotlight.testing.client import ECHO, create, invoke, lambda_client, zipped
from pilotlight.testing.platform import (
    SECRET_KEY,
    Platform,
    process_tree,
    running_platform,
    start_platform,
)

pytestmark = [pytest.mark.timeout(120), pytest.mark.needs("root")]
VARIABLE = "the-functions-own-secret"
STRANGER, SERVICE = 61234, 59700
IDS_OF_THE_HOST = 65_536


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("processes")
    with running_platform(folder / "data") as one:
        api = lambda_client(one)
        environment = {"Variables": {"MINE": VARIABLE}}
        create(api, "echo", zipped({"app.py": ECHO}), Environment=environment)
        assert invoke(api, "echo", 1)[0] == 1
        yield one


def facts(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def descriptors(pid: int) -> dict[int, str]:
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found[int(entry.name)] = str(entry.readlink())
    return found


def namespace(pid: int | str, kind: str) -> int:
    return Path(f"/proc/{pid}/ns/{kind}").stat().st_ino


class Tree:
    """The processes of a platform by what they are."""

    def __init__(self, platform: Platform) -> None:
        self.main = platform.pid
        self.children = [pid for pid in process_tree(platform.pid) if pid != platform.pid]
        of_root = [p for p in self.children if facts(p)["Uid"].split() == ["0"] * 4]
        if len(of_root) != 1:  # it formats a disk, or builds a root
            raise ProcessLookupError(f"{of_root} belong to root")
        self.launcher = of_root[0]
        rest = [p for p in self.children if p != self.launcher]
        depth = {p: len(facts(p)["NSpid"].split()) for p in rest}
        self.zygotes = [p for p in rest if depth[p] == min(depth.values())]
        self.inits = [p for p in rest if facts(p)["NSpid"].split()[-1] == "1"]
        self.inits = [p for p in self.inits if p not in self.zygotes]
        self.runtimes = [p for p in rest if p not in (*self.zygotes, *self.inits)]


def strange_privileges(tree: Tree) -> list[object]:
    """Processes that can do more than they must."""
    inside = (*tree.inits, *tree.runtimes)
    found: list[object] = [
        (pid, facts(pid))
        for pid in (tree.main, *inside)
        if any(capabilities(pid).values()) or facts(pid)["NoNewPrivs"] != "1"
    ]
    found += [(pid, "no filter") for pid in inside if facts(pid)["Seccomp"] != "2"]
    for pid in (*tree.zygotes, *tree.inits, *tree.runtimes):
        if int(facts(pid)["Uid"].split()[0]) < IDS_OF_THE_HOST:
            found.append((pid, "a user of the host"))
        # A zygote's capabilities are good for its tenant's namespace only.
        found += [
            (pid, kind)
            for kind in ("mnt", "pid", "user")
            if namespace(pid, kind) == namespace("self", kind)
        ]
    return found


def test_capabilities_are_where_they_must_be_and_nowhere_else(platform: Platform) -> None:
    wait_for_nothing(platform, strange_privileges)


def wait_for_nothing(platform: Platform, look: Callable[[Tree], list[object]]) -> None:
    """What is still being made holds what it is made with; soon afterwards nobody may."""
    found: list[object] = []
    for _ in range(1000):
        with contextlib.suppress(OSError):  # one ended while it was looked at
            found = look(Tree(platform))
            if not found:
                return
        time.sleep(0.02)
    raise AssertionError(found)


RUNTIME_HOLDS = {0: "/dev/null", 1: "pipe", 2: "pipe", 3: "socket"}


def kinds(pid: int) -> dict[int, str]:
    """What each descriptor of a process is, without the numbers of pipes and sockets."""
    return {number: what.partition(":")[0] for number, what in descriptors(pid).items()}


def strange_descriptors(tree: Tree) -> list[object]:
    """What anybody but the main process holds beyond what it needs."""
    found: list[object] = [kinds(p) for p in tree.runtimes if kinds(p) != RUNTIME_HOLDS]
    found += [kinds(p) for p in tree.inits if list(kinds(p).values()) != ["pipe"]]
    found += [kinds(p) for p in tree.zygotes if set(kinds(p)) != {0, 1, 2, 3}]
    of_launcher = descriptors(tree.launcher).values()
    found += [what for what in of_launcher if what.endswith((".db", "lock", "credentials"))]
    channels = [descriptors(pid).get(3) for pid in tree.runtimes]
    return found + (["a shared channel"] if len(set(channels)) < len(channels) else [])


def test_only_what_is_needed_is_inherited(platform: Platform) -> None:
    wait_for_nothing(platform, strange_descriptors)


def told_secrets(tree: Tree) -> list[object]:
    found: list[object] = []
    for pid in tree.children:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        secrets = (SECRET_KEY.encode(), VARIABLE.encode())
        if b"PILOTLIGHT_" in environment or any(s in environment + arguments for s in secrets):
            found.append((pid, environment, arguments))
    return found


def test_no_child_is_told_a_secret(platform: Platform) -> None:
    wait_for_nothing(platform, told_secrets)


def as_user(uid: int, program: str, *arguments: str) -> str:
    """What a program prints that runs as an ordinary user of this host."""
    system = Path("/usr/bin/python3")  # ours may be in a directory closed to others
    python = str(system) if system.exists() else sys.executable
    done = subprocess.run(
        [python, "-I", "-S", "-c", program, *arguments],
        user=uid,
        group=uid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


READ = """
import os, sys
for path in sys.argv[1:]:
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1)
        print(path)
    except OSError:
        pass
"""
TOUCH = """
import os, sys
for pid in map(int, sys.argv[1:]):
    for what, action in (
        ("signal", lambda: os.kill(pid, 0)),
        ("memory", lambda: open(f"/proc/{pid}/mem", "rb")),
        ("environment", lambda: open(f"/proc/{pid}/environ", "rb").read()),
        ("descriptors", lambda: os.listdir(f"/proc/{pid}/fd")),
    ):
        try:
            action()
            print(pid, what)
        except OSError:
            pass
"""


def test_other_users_of_the_host_read_nothing_of_functions(platform: Platform) -> None:
    data = platform.data_dir
    for folder in (data, *data.parents):  # a test's own folders are closed; a real one may not be
        if folder.stat().st_uid == 0 and "pytest" in str(folder):
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    everything = [str(path) for path in data.rglob("*")]
    assert any(path.endswith("registry.db") for path in everything)
    readable = as_user(STRANGER, READ, *everything).split()
    names = {os.path.relpath(path, data) for path in readable}
    assert names <= {"lock", "endpoint.json", "runtimes.json"}


def test_the_service_user_and_strangers_can_touch_neither_launcher_nor_sandboxes(
    platform: Platform,
) -> None:
    tree = Tree(platform)
    for user in (SERVICE, STRANGER):
        assert as_user(user, TOUCH, *map(str, tree.children)) == ""
    assert as_user(STRANGER, TOUCH, str(tree.main)) == ""


def test_killed_by_a_signal_its_log_names_no_secret(tmp_path: Path) -> None:
    """At the most talkative level, with requests that fail, and up to a crash."""
    environment = {"PILOTLIGHT_LOGS__LEVEL": "debug", "PYTHONFAULTHANDLER": "1"}
    one = start_platform(tmp_path / "data", environment=environment)
    try:
        api = lambda_client(one)
        variables = {"Variables": {"MINE": VARIABLE}}
        create(api, "echo", zipped({"app.py": ECHO}), Environment=variables)
        invoke(api, "echo", "my-payload-is-mine")
        one.get("/2015-03-31/functions/%1b%5b31mred%0d%0aforged?x=%1b")
        one.process.send_signal(signal.SIGABRT)
        one.process.wait(20)
    finally:
        one.kill()
    said = one.stderr.read_text(errors="replace")
    assert "Fatal Python error" in said
    for secret in (SECRET_KEY, VARIABLE, "my-payload-is-mine"):
        assert secret not in said
    assert "\x1b" not in said
