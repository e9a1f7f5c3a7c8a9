"""Code inside a container sandbox tries what must be closed (issue 2, point 2)."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilotlight.model.ids import EnvironmentId
from pilotlight.testing.sandbox_kit import Guest, eventually

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(90), pytest.mark.needs("root")]
REFUSED = {"EPERM", "EACCES", "EROFS", "ENOENT"}


def queued_signals() -> int:
    """Signals queued for the user of this process, root of the host."""
    status = Path("/proc/self/status").read_text()
    used = next(line.split()[1] for line in status.splitlines() if line.startswith("SigQ"))
    return int(used.partition("/")[0])


async def test_only_own_processes_are_visible(prober: Any) -> None:
    assert await prober.run("processes") == [1, 2]


async def test_nothing_is_left_of_privilege(prober: Any) -> None:
    seen = await prober.run("identity")
    assert seen["uid"] == [993] * 3
    assert seen["gid"] == [990] * 3
    assert seen["user"] == "sbx_user1051"
    for who in ("status", "init"):
        facts = seen[who]
        assert {facts[n] for n in facts if n.startswith("Cap")} == {"0" * 16}
        assert (facts["NoNewPrivs"], facts["Seccomp"], facts["Groups"]) == ("1", "2", "")
    assert seen["uid_map"][0] == "0"
    assert int(seen["uid_map"][1]) >= 65_536
    assert seen["cgroup"] == ["/"]
    assert seen["hostname"] == "sandbox"
    assert seen["oom"] > 0


async def test_only_null_log_and_channel_are_open(prober: Any) -> None:
    seen = await prober.run("descriptors")
    assert seen == {"0": "/dev/null", "1": "pipe", "2": "pipe", "3": "socket"}


async def test_process_one_keeps_its_secrets_and_cannot_be_killed(prober: Any) -> None:
    seen = await prober.run("init_secrets")
    assert set(seen.values()) <= REFUSED
    await prober.run("signals_to_init")


async def test_host_files_are_not_there(prober: Any, tmp_path: Path) -> None:
    paths = [
        "/etc/shadow",
        "/etc/hostname.host",
        "/root/.bashrc",
        "/home",
        "/var/log",
        "/run/docker.sock",
        "/sys/fs",
        "/boot",
        "/srv",
        str(tmp_path),
        str(Path(__file__)),
        "/dev/vda",
        "/dev/mem",
        "/dev/ptmx",
        "/dev/shm",  # noqa: S108
        "/dev/tty",
        "/dev/loop0",
    ]
    seen = await prober.run("host_files", paths)
    allowed = {path for path, answer in seen.items() if answer.startswith("allowed")}
    assert allowed <= {"/home"}  # an empty folder of our own


async def test_no_host_mount_shows(prober: Any, tmp_path: Path) -> None:
    seen = await prober.run("mounts")
    assert not [m for m in seen if str(tmp_path) in m or m.startswith(("/sys", "/work", "/run"))]
    assert "/var/task" in seen


async def test_only_tmp_can_be_written(prober: Any) -> None:
    seen = await prober.run("writes")
    assert seen.pop("tmp") == "allowed: 1"
    assert set(seen.values()) <= REFUSED


async def test_kernel_secrets_are_hidden(prober: Any) -> None:
    for name, answer in (await prober.run("kernel_files")).items():
        harmless = answer in {"absent", "allowed: b''", *REFUSED}
        assert harmless or (name == "kallsyms" and "0000000000000000" in answer)


async def test_dangerous_system_calls_are_refused(prober: Any) -> None:
    seen = await prober.run("calls")
    assert seen.pop("clone3") == "ENOSYS"
    assert seen.pop("unknown") == "ENOSYS"
    assert {name: answer for name, answer in seen.items() if answer != "EPERM"} == {}


async def test_only_plain_sockets_can_be_had(prober: Any) -> None:
    seen = await prober.run("sockets")
    for name in ("tcp", "udp6", "unix"):
        assert seen.pop(name) == "allowed: None"
    assert set(seen.values()) <= {"EPERM", "EAFNOSUPPORT", "EACCES"}


async def test_neither_host_loopback_nor_metadata_nor_internet_can_be_reached(
    prober: Any,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as probe:
        probe.connect(server.getsockname())  # it is there for the host
        port = server.getsockname()[1]
        targets = [("127.0.0.1", port), ("169.254.169.254", 80), ("192.0.2.1", 80), ("::1", port)]
        seen = await prober.run("connects", targets)
    assert seen.pop("interfaces") == ["lo"]
    assert set(seen.values()) <= {"ECONNREFUSED", "ENETUNREACH", "EADDRNOTAVAIL"}


async def test_its_own_loopback_works(prober: Any) -> None:
    assert await prober.run("own_loopback") == "x"


async def test_abstract_sockets_of_the_host_are_another_world(prober: Any) -> None:
    name = f"pilotlight-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0" + name)
        server.listen()
        assert await prober.run("abstract", name) == "ECONNREFUSED"


async def test_devices_are_five_and_no_more_can_be_made(prober: Any) -> None:
    seen = await prober.run("devices")
    links = {"fd", "stdin", "stdout", "stderr"}
    assert set(seen["devices"]) - links == {"null", "zero", "full", "random", "urandom"}
    assert seen["mknod block"] == seen["mknod null"] == "EPERM"
    assert seen["tty"] == "EPERM"
    assert seen["null"] == "allowed: 1"
    assert seen["random"] == "allowed: 4"
    assert seen["stdout"] == "allowed: 6"


async def test_the_ways_out_of_other_sandboxes_are_closed(prober: Any) -> None:
    seen = await prober.run("walls")
    assert seen.pop("terminal input") == seen.pop("console input") == "EPERM"
    assert {name: said for name, said in seen.items() if said not in REFUSED} == {}


async def test_little_of_the_host_shows(prober: Any, tmp_path: Path) -> None:
    seen = await prober.run("leaks")
    assert seen["cmdline"] == seen["interrupts"] == ""
    assert seen["user namespaces"] == "0"
    assert seen["core limit"] == [1, 1]
    assert not seen["log in reach"]
    assert str(tmp_path) not in seen["arguments"]
    strange = {
        name for name in seen["environment"] if name.startswith(("PILOTLIGHT", "PIP", "SSH"))
    }
    assert strange == set()


async def test_mounts_are_read_only_and_spread_nowhere(prober: Any) -> None:
    seen = await prober.run("mount_options")
    for place, (options, shared) in seen.items():
        assert shared == [], place
        assert "nosuid" in options, place
        assert "nodev" in options or place.startswith(("/dev/", "/proc/")), place
        writable = place in {"/tmp", "/proc"} or place.startswith("/dev/")  # noqa: S108
        hidden = place.startswith("/proc/")  # by /dev/null, or read-only
        assert "ro" in options or writable or hidden, place


async def test_counts_of_a_user_are_not_those_of_the_host(prober: Any) -> None:
    """What is counted for a user namespace is counted for the user who made it."""
    instances, queued = await (guest := await prober.guest()).invoke({"do": "use_up_counts"})
    assert instances >= 1
    assert queued >= 1
    libc = ctypes.CDLL(None, use_errno=True)
    own = libc.inotify_init1(0)
    assert own >= 0, "the host's root has none left"
    os.close(own)
    assert queued_signals() < queued
    await prober.driver.destroy(guest.sandbox.id)


async def test_files_and_descriptors_are_bounded(prober: Any) -> None:
    first, second = await prober.guest(ephemeral_mib=64), await prober.guest(ephemeral_mib=64)
    code, made = await first.invoke({"do": "fill_inodes", "with": 100_000})
    assert code == "ENOSPC"
    assert made < 100_000
    assert await second.invoke({"do": "fill_inodes", "with": 100}) == ["made", 100]
    code, held = await second.invoke({"do": "many_descriptors"})
    assert code == "EMFILE"
    assert held < 1024


async def test_killing_all_reaches_nobody_else(prober: Any) -> None:
    neighbour = await prober.guest()
    assert await prober.run("kill_all") in {"ESRCH", "allowed: None"}
    assert await neighbour.invoke({"do": "processes"}) == [1, 2]


async def test_climbing_ends_at_the_root(prober: Any) -> None:
    assert await prober.run("climb") is True


async def test_the_cgroup_cannot_be_seen(prober: Any) -> None:
    assert await prober.run("cgroup_escape") == {"sys": "ENOENT", "files": []}


async def test_limits_are_those_of_the_service_and_stay(prober: Any) -> None:
    seen = await prober.run("raise_limits")
    assert seen.pop("limits")["RLIMIT_NOFILE"] == [1024, 1024]
    assert not [a for a in seen.values() if a.startswith("allowed")]


async def test_setuid_programs_give_nothing(prober: Any) -> None:
    assert await prober.run("setuid_programs") == ["993"]


async def test_ordinary_code_works(prober: Any) -> None:
    seen = await prober.run("usual_things")
    assert seen["threads"] == 45
    assert seen["ls"] == ["main.py"]
    assert seen["cwd"] == "/var/task"
    assert seen["lo"] == "127.0.0.1"


async def test_a_fork_bomb_is_bounded_and_neighbours_live(prober: Any) -> None:
    neighbour = await prober.guest()
    bomber = await prober.guest(memory_mib=512)  # 127 copies of an interpreter
    assert await bomber.invoke({"do": "fork_bomb"}) == ["EAGAIN", 127]  # pids_max 128, itself one
    await bomber.invoke({"do": "runaway"})
    assert await neighbour.invoke({"do": "processes"}) == [1, 2]
    await prober.driver.destroy(bomber.sandbox.id)
    assert await prober.driver.poll(bomber.sandbox.id) is None
    assert await neighbour.invoke({"do": "processes"}) == [1, 2]


async def test_a_memory_bomb_is_told_as_out_of_memory(prober: Any) -> None:
    neighbour = await prober.guest()
    bomber = await prober.guest()
    with pytest.raises(EOFError):
        await bomber.invoke({"do": "memory_bomb", "with": 400})
    async with asyncio.timeout(10):
        ended = await bomber.sandbox.wait()
    assert ended.oom_killed
    assert ended.exit_code == -9
    assert await neighbour.invoke({"do": "processes"}) == [1, 2]


async def test_memory_up_to_the_limit_is_given(prober: Any) -> None:
    assert await prober.run("memory_bomb", 90) == 90
    assert await prober.run("memory_bomb", 200, memory_mib=256) == 200


async def test_tmp_is_private_on_disk_and_as_large_as_told(prober: Any) -> None:
    first, second = await prober.guest(), await prober.guest()
    seen = await first.invoke({"do": "tmp_facts"})
    assert seen["listing"] != []
    assert 512 <= seen["mib"] <= 560
    assert seen["kind"] == "ext4"
    assert {"nosuid", "nodev"} <= set(seen["options"].split(","))
    assert (seen["uid"], seen["mode"], seen["made"]) == (0, "0o1777", True)
    assert len((await second.invoke({"do": "tmp_facts"}))["listing"]) == 1


@pytest.mark.parametrize("size_mib", [64, 1024])
async def test_tmp_of_another_size(prober: Any, size_mib: int) -> None:
    seen = await prober.run("tmp_facts", ephemeral_mib=size_mib)
    assert size_mib <= seen["mib"] <= size_mib * 1.2 + 8


async def test_a_small_function_writes_300_mib_to_tmp(prober: Any) -> None:
    assert await prober.run("fill_disk", 300) == ["written", 300]


async def test_a_full_tmp_is_full_for_its_owner_alone(prober: Any) -> None:
    full = await prober.guest(ephemeral_mib=64)
    code, written = await full.invoke({"do": "fill_disk", "with": 200})
    assert code == "ENOSPC"
    assert 62 <= written <= 80
    neighbour = await prober.guest(ephemeral_mib=64)
    assert await neighbour.invoke({"do": "fill_disk", "with": 20}) == ["written", 20]


async def test_a_log_flood_stops_at_the_pipe(prober: Any) -> None:
    flooder = await prober.guest()
    assert await flooder.invoke({"do": "flood"}) <= 1 << 20


async def test_a_tenant_has_ids_of_its_own(prober: Any) -> None:
    own = await prober.run("identity")
    spec = replace(prober.spec, tenant="111111111111", id=EnvironmentId("other"))
    sandbox = await prober.driver.create(spec)
    other = Guest(sandbox, "/var/task", "probe")
    await other.initialize()
    seen = await other.invoke({"do": "identity"})
    assert isinstance(seen, dict)
    assert abs(int(seen["uid_map"][1]) - int(own["uid_map"][1])) >= 65_536


async def test_the_zygote_and_neighbours_cannot_be_named(prober: Any) -> None:
    """Process numbers of the host mean nothing inside: a signal reaches nobody."""
    guest, other = await prober.guest(), await prober.guest()
    await guest.invoke({"do": "runaway"})
    assert await other.invoke({"do": "processes"}) == [1, 2]
    await eventually(lambda: guest.sandbox.usage().cpu_ns > 0)
