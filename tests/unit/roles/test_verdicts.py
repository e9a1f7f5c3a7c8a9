"""What the answers of the probes mean; and that the probes see an open door where there is one."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pilotlight.roles.verdicts import Proof, Verdict, judge, limits
from pilotlight_guest import probes

ZERO = "0" * 16
STATUS = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), ZERO) | {
    "NoNewPrivs": "1",
    "Seccomp": "2",
}
CLOSED: dict[str, Any] = {
    "processes": {"seen": [1, 2], "own": 2},
    "status": {"self": STATUS, "1": STATUS},
    "files": {"/etc/shadow": "ENOENT", "/proc/1/environ": "EACCES"},
    "writes": {"/var/task/x": "EROFS"},
    "calls": dict.fromkeys(probes._CALLS, "EPERM"),
    "sockets": {"raw": "EPERM", "packet": "EAFNOSUPPORT"},
    "network": {"reached": {"127.0.0.1:1": "ECONNREFUSED"}, "interfaces": ["lo"]},
    "descriptors": [],
    "disk": {"taken_mib": 512, "answer": "ENOSPC"},
    "tasks": {"count": 1020, "answer": "EAGAIN"},
}
OUT_OF_MEMORY = {"memory": "Runtime.OutOfMemory"}


def verdicts(answers: dict[str, Any], ended: dict[str, str]) -> dict[str, Proof]:
    return {proof.name: proof for proof in (*judge(answers, ended), *limits(answers, ended))}


def test_a_closed_sandbox_is_closed_everywhere() -> None:
    found = verdicts(CLOSED, OUT_OF_MEMORY)
    assert len(found) == 15
    assert {proof.verdict for proof in found.values()} == {Verdict.CLOSED}
    assert {proof.remedy for proof in found.values()} == {""}


@pytest.mark.parametrize(
    ("probe", "answer", "name", "told"),
    [
        ("processes", {"seen": [1, 2, 77], "own": 2}, "processes", "process 77"),
        ("files", {"/etc/shadow": "allowed"}, "host-files", "/etc/shadow"),
        ("writes", {"/var/task/x": "ENOSPC"}, "code", "/var/task/x (ENOSPC)"),
        ("calls", CLOSED["calls"] | {"mount": "EFAULT"}, "mount", "mount (EFAULT)"),
        ("calls", CLOSED["calls"] | {"unshare user": "allowed"}, "namespaces", "unshare user"),
        ("calls", CLOSED["calls"] | {"ptrace": "ESRCH"}, "tracing", "ptrace"),
        ("calls", CLOSED["calls"] | {"bpf": "EINVAL"}, "kernel-interfaces", "bpf"),
        ("sockets", {"raw": "allowed", "packet": "EPERM"}, "raw-sockets", "raw"),
        (
            "network",
            {"reached": {"127.0.0.1:9700": "allowed"}, "interfaces": ["lo"]},
            "network",
            "127.0.0.1:9700",
        ),
        ("network", {"reached": {}, "interfaces": ["lo", "eth0"]}, "network", "eth0"),
        ("status", {"self": STATUS | {"CapEff": "a8"}, "1": STATUS}, "capabilities", "CapEff"),
        ("status", {"self": STATUS, "1": STATUS | {"Seccomp": "0"}}, "seccomp", "Seccomp is 0"),
        ("descriptors", [7], "descriptors", "descriptor 7"),
        ("disk", {"taken_mib": 640, "answer": "allowed"}, "temporary-files", "640"),
        ("disk", {"taken_mib": 64, "answer": "ENOSPC"}, "temporary-files", "64 of 512"),
        ("tasks", {"count": 1200, "answer": "allowed"}, "process-count", "1200"),
        ("tasks", {"count": 1100, "answer": "EAGAIN"}, "process-count", "1100"),
        ("memory", {"taken_mib": 512}, "memory", "more than its 128 MiB"),
    ],
)
def test_what_gets_through_is_open_and_named(probe: str, answer: Any, name: str, told: str) -> None:
    proof = verdicts({**CLOSED, probe: answer}, {})[name]
    assert proof.verdict is Verdict.OPEN
    assert told in proof.detail
    assert proof.remedy


@pytest.mark.parametrize("nonsense", [None, [], "closed", {"own": 1}, {"seen": 3}, 7])
@pytest.mark.parametrize(
    "probe", ["processes", "calls", "status", "network", "files", "disk", "tasks"]
)
def test_an_answer_that_makes_no_sense_is_open(probe: str, nonsense: Any) -> None:
    found = verdicts({probe: nonsense}, {})
    assert found
    assert {proof.verdict for proof in found.values()} == {Verdict.OPEN}


def test_an_invocation_that_ended_shows_nothing_closed() -> None:
    ended = {"processes": "Sandbox.Timedout", "tasks": "Runtime.ExitError"}
    found = verdicts({}, ended | {"memory": "Runtime.ExitError"})
    assert {name: proof.verdict for name, proof in found.items()} == dict.fromkeys(
        ("processes", "process-count", "memory"), Verdict.OPEN
    )
    assert "Sandbox.Timedout" in found["processes"].detail


def test_what_was_not_tried_has_no_verdict() -> None:
    assert verdicts({}, {}) == {}


def test_probes_see_the_open_doors_of_an_ordinary_process(tmp_path: Path) -> None:
    """A probe that could not fail would prove nothing."""
    open_file = tmp_path / "readable"
    open_file.touch()
    read, write = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        event = {
            "processes": None,
            "files": [str(open_file)],
            "writes": [str(open_file)],
            "network": [[host, port]],
            "descriptors": None,
        }
        answers = probes.handler(event, None)
    os.close(read)
    os.close(write)
    found = verdicts(answers, {})
    assert {name: proof.verdict for name, proof in found.items()} == dict.fromkeys(
        ("processes", "host-files", "code", "network", "descriptors"), Verdict.OPEN
    )


def test_probes_read_the_state_of_this_process() -> None:
    status = probes.handler({"status": None}, None)["status"]["self"]
    lines = Path("/proc/self/status").read_text()
    assert f"CapEff:\t{status['CapEff']}" in lines
    assert f"Seccomp:\t{status['Seccomp']}" in lines
