"""The system call filter, run by a small interpreter of its instructions."""

from __future__ import annotations

import struct

import pytest

from pilotlight_guest import linux, seccomp
from pilotlight_guest.syscalls import ALLOWED

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS, NO_FAMILY, NO_PROTOCOL = 0x50001, 0x50026, 0x50061, 0x5005D
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


def run(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What classic BPF answers for one call."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<iIQ6Q", number, arch, 0, *padded)
    rows = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at, register = 0, 0
    while True:
        code, yes, no, k = rows[at]
        at += 1
        if code == 0x20:
            (register,) = struct.unpack_from("<I", data, k)
        elif code == 0x54:
            register &= k
        elif code == 0x06:
            return int(k)
        else:
            is_true = {0x15: register == k, 0x35: register >= k, 0x45: bool(register & k)}[code]
            at += yes if is_true else no


def number(machine: str, name: str) -> int:
    return seccomp.numbers(machine)[name]


@MACHINES
def test_exactly_the_table_is_allowed(machine: str) -> None:
    program = seccomp.build(machine)
    allowed = set(seccomp.numbers(machine).values())
    special = {number(machine, n) for n in seccomp._BY_ARGUMENT}
    for call in range(700):
        answer = run(program, ARCH[machine], call, 1, 1)
        if call in allowed - special:
            assert answer == ALLOW, call
        elif call not in special:
            assert answer == (ENOSYS if call > max(allowed) else EPERM), call


@MACHINES
def test_another_architecture_ends_the_process(machine: str) -> None:
    assert run(seccomp.build(machine), 0x40000003, 1) == KILL


def test_the_x32_calls_do_not_exist() -> None:
    assert run(seccomp.build("x86_64"), ARCH["x86_64"], 0x40000000) == ENOSYS


@MACHINES
def test_clone_makes_threads_and_processes_but_no_namespaces(machine: str) -> None:
    program, clone = seccomp.build(machine), number(machine, "clone")
    assert run(program, ARCH[machine], clone, 17) == ALLOW
    assert run(program, ARCH[machine], clone, 0x3D0F00) == ALLOW  # what pthread_create asks for
    for flag in (linux.NEWUSER, linux.NEWNS, linux.NEWNET, linux.NEWPID, linux.NEWCGROUP):
        assert run(program, ARCH[machine], clone, flag | 17) == EPERM
    assert run(program, ARCH[machine], number(machine, "clone3")) == ENOSYS


@MACHINES
@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ((1, 1, 0), ALLOW),
        ((2, 1 | 0o2000000, 6), ALLOW),
        ((2, 2, 17), ALLOW),
        ((10, 1, 0), ALLOW),
        ((1, 5, 0), ALLOW),
        ((2, 3, 1), EPERM),
        ((10, 3, 58), EPERM),
        ((2, 10, 0), EPERM),
        ((2, 5, 0), EPERM),  # SCTP
        ((10, 5, 132), EPERM),
        ((2, 1, 132), NO_PROTOCOL),
        ((2, 1, 262), NO_PROTOCOL),  # MPTCP
        ((2, 2, 136), NO_PROTOCOL),  # UDP-Lite
        ((10, 2, 58), NO_PROTOCOL),  # ICMP echo
        ((1, 3, 0), EPERM),
        ((16, 3, 0), ALLOW),
        ((16, 3, 9), EPERM),
        ((16, 3, 12), EPERM),
        ((17, 3, 0), NO_FAMILY),
        ((38, 5, 0), NO_FAMILY),
        ((40, 1, 0), NO_FAMILY),
    ],
)
def test_sockets(machine: str, arguments: tuple[int, ...], answer: int) -> None:
    call = number(machine, "socket")
    assert run(seccomp.build(machine), ARCH[machine], call, *arguments) == answer


@MACHINES
def test_pairs_of_sockets_are_unix_sockets(machine: str) -> None:
    program, call = seccomp.build(machine), number(machine, "socketpair")
    assert run(program, ARCH[machine], call, 1, 1) == ALLOW
    for family in (2, 10, 16, 30):
        assert run(program, ARCH[machine], call, family, 1) == NO_FAMILY


@MACHINES
def test_terminal_input_and_personality(machine: str) -> None:
    program, ioctl = seccomp.build(machine), number(machine, "ioctl")
    for request, answer in ((0x5412, EPERM), (0x541C, EPERM), (0x5413, ALLOW)):
        assert run(program, ARCH[machine], ioctl, 0, request) == answer
        assert run(program, ARCH[machine], ioctl, 0, request | 1 << 32) == answer
    personality = number(machine, "personality")
    for value, answer in ((0, ALLOW), (0xFFFFFFFF, ALLOW), (0x40000, EPERM), (8, EPERM)):
        assert run(program, ARCH[machine], personality, value) == answer


@pytest.mark.parametrize(
    "name", ["mount", "umount2", "unshare", "setns", "ptrace", "bpf", "keyctl", "add_key", "chroot", "pivot_root", "kexec_load", "init_module", "io_uring_setup", "userfaultfd", "perf_event_open", "open_by_handle_at", "pidfd_getfd", "process_vm_readv", "move_mount", "fsopen", "reboot", "swapon", "acct", "settimeofday"],
)  # fmt: skip
def test_dangerous_calls_are_not_in_the_table(name: str) -> None:
    assert name not in ALLOWED


def test_ranges_merge_neighbours() -> None:
    assert seccomp.ranges([]) == []
    assert seccomp.ranges([2, 0, 1, 5, 7, 6, 9, 9]) == [(0, 2), (5, 7), (9, 9)]


@MACHINES
def test_the_filter_fits_the_kernel(machine: str) -> None:
    assert len(seccomp.build(machine)) // 8 < 4096
