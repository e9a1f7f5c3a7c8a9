"""Pure parts: control group arithmetic and places, findings, the root's plan, the pool's pauses."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotlight.dataplane.sandboxes.container import blanks, cgroups, host, rootfs, scratch
from pilotlight.dataplane.sandboxes.container.protocol import Limits
from pilotlight.model.errors import IsolationMissing

LIMITS = Limits(memory_mib=128, cpu_millis=72, pids_max=100, ephemeral_mib=512)


@pytest.mark.parametrize(
    ("millis", "shares", "weight"),
    [(1, 2, 1), (72, 73, 3), (1000, 1024, 39), (6000, 6144, 235), (10**9, 262_144, 10_000)],
)
def test_cpu_share_is_in_proportion(millis: int, shares: int, weight: int) -> None:
    assert cgroups.shares(millis) == shares
    assert cgroups.weight(millis) == weight


def test_own_groups_are_found_in_both_versions(tmp_path: Path) -> None:
    for name in ("memory/own", "pids", "unified/a"):
        (tmp_path / name).mkdir(parents=True)
    mounts = f"""\
30 1 0:26 / {tmp_path}/memory rw,relatime - cgroup cgroup rw,memory
31 1 0:27 / {tmp_path}/pids rw - cgroup cgroup rw,pids
32 1 0:28 / {tmp_path}/blkio rw - cgroup cgroup rw,blkio
33 1 0:29 / {tmp_path}/unified rw - cgroup2 cgroup2 rw
34 1 0:30 / /proc rw - proc proc rw
"""
    own = "4:memory:/own\n3:pids:/not/mounted/here\n0::/a\n"
    v1, v2 = cgroups.parse_mounts(mounts, own)
    assert v1 == {"memory": tmp_path / "memory/own", "pids": tmp_path / "pids"}
    assert v2 == tmp_path / "unified/a"


def test_version_two_limits_are_written(tmp_path: Path) -> None:
    group = cgroups.Group(dict.fromkeys(("memory", "cpu", "pids"), tmp_path), is_v1=False)
    for name in ("memory.max", "memory.swap.max", "memory.oom.group", "cpu.weight", "pids.max"):
        (tmp_path / name).touch()
    group.set_limits(LIMITS, extra_mib=512)
    read = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert read == {
        "memory.max": str(640 << 20),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "cpu.weight": "3",
        "pids.max": "101",
    }


def test_version_two_kill_and_thaw(tmp_path: Path) -> None:
    group = cgroups.Group({"memory": tmp_path, "freezer": tmp_path}, is_v1=False)
    (tmp_path / "cgroup.kill").touch()
    (tmp_path / "cgroup.freeze").touch()
    group.kill()
    group.thaw()
    assert (tmp_path / "cgroup.kill").read_text() == "1"
    assert (tmp_path / "cgroup.freeze").read_text() == "0"


def test_controllers_are_turned_on_once(tmp_path: Path) -> None:
    control = tmp_path / "cgroup.subtree_control"
    control.write_text("")
    cgroups.enable(tmp_path, frozenset({"memory", "cpu"}))
    assert control.read_text() == "+cpu +memory"
    control.write_text("cpu memory pids")
    cgroups.enable(tmp_path, frozenset({"memory", "cpu"}))
    assert control.read_text() == "cpu memory pids"


def test_version_one_wins_where_it_has_memory() -> None:
    both = cgroups.Hierarchies({"memory": Path("/m")}, Path("/u"), frozenset({"cpu"}))
    assert both.uses_v1
    assert both.controllers() == {"memory"}
    only = cgroups.Hierarchies({}, Path("/u"), frozenset({"memory", "pids"}))
    assert only.controllers() == {"memory", "pids", "freezer", "cpuacct"}
    assert cgroups.Hierarchies().controllers() == frozenset()


def test_masked_proc_is_recognised() -> None:
    mounts = "1 0 0:1 / /proc rw - proc proc rw\n2 1 0:2 / /proc/kcore rw - tmpfs tmpfs rw\n"
    assert host.masked_paths(mounts) == ["/proc/kcore"]
    binfmt = "3 1 0:3 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n"
    assert host.masked_paths(binfmt) == []


def _proc(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("user/max_user_namespaces", "0\n", "max_user_namespaces"),
        ("kernel/unprivileged_userns_clone", "0\n", "Debian"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1\n", "AppArmor"),
    ],
)
def test_each_lock_on_user_namespaces_is_named(
    tmp_path: Path, setting: str, value: str, words: str
) -> None:
    files = {
        "self/ns/user": "",
        "self/status": "CapEff:\t0000000000000000\n",
        f"sys/{setting}": value,
    }
    found = {f.name: f for f in host.inspect_host(proc=_proc(tmp_path, files))}
    finding = found["user-namespaces"]
    assert not finding.ok
    assert words in finding.detail
    assert finding.remedy
    with pytest.raises(IsolationMissing, match=words):
        host.require([finding], frozenset())
    host.require([finding], frozenset({"user-namespaces"}))


def test_a_missing_memory_limit_is_refused_unless_allowed() -> None:
    finding = host.memory_finding(has_memory=False)
    with pytest.raises(IsolationMissing, match="allow-missing=memory"):
        host.require([finding], frozenset())
    host.require([finding], frozenset({"memory"}))
    assert "memory" in host.no_memory_limit()


def test_what_is_not_required_only_warns() -> None:
    host.require([host.Finding("disk", ok=False, detail="in memory", remedy="x")], frozenset())


def test_surroundings_are_named() -> None:
    assert host.surroundings([("a", False), ("b", True), ("c", True)]) == "b, c"
    assert host.surroundings([("a", False)]) == "plain host"


def test_this_machine_can_be_inspected() -> None:
    names = [finding.name for finding in host.inspect_host()]
    assert len(set(names)) == len(names)
    assert {"architecture", "kernel", "user-namespaces", "proc", "seccomp", "memory"} <= set(names)


def test_a_prefix_of_its_own_is_bound_and_one_of_the_system_is_not() -> None:
    own = rootfs.Interpreter("python3.12", "/opt/py/bin/python3.12", "/opt/py")
    assert rootfs.binds(own)[-1] == "/opt/py"
    system = rootfs.Interpreter("python3.11", "/usr/bin/python3.11", "/usr")
    assert set(rootfs.binds(system)) == set(rootfs.binds(own)) - {"/opt/py"}
    local = rootfs.Interpreter("python3.11", "/usr/local/bin/python3", "/usr/local")
    assert "/usr/local/lib" not in rootfs.binds(local)
    assert rootfs.binds(local)[-1] == "/usr/local"
    odd = rootfs.Interpreter("python3.11", "/srv/bin/python3", "/opt/py")
    assert rootfs.binds(odd)[-2:] == ("/opt/py", "/srv/bin/python3")


def test_an_image_is_larger_than_what_it_holds() -> None:
    assert scratch.image_mib(512) == 530
    assert scratch.image_mib(10_240) > 10_240


def test_pauses_grow_to_a_bound() -> None:
    pauses = [blanks.retry_after_s(n) for n in (1, 2, 3, 10, 1000)]
    assert pauses == [0.1, 0.2, 0.4, 30.0, 30.0]
