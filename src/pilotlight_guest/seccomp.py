"""The system call filter of a sandbox: what is not allowed is refused.

Calls of another architecture end the process. Calls that are newer than our table answer ENOSYS,
so that the C library falls back; all others that are not allowed answer EPERM. Six calls are
looked at by argument:

* ``clone`` may not make namespaces; ``clone3`` (whose flags a filter cannot see) answers ENOSYS.
* ``socket`` gives unix sockets, TCP and UDP, and the routing netlink socket that ``getifaddrs``
  needs (the sandbox has no capability to change routes). Other families and protocols would let a
  function load kernel modules that nobody else uses (SCTP, DCCP, TIPC). ``socketpair``: unix only.
* ``ioctl`` may not push input into a terminal (TIOCSTI, TIOCLINUX).
* ``personality`` may ask, and set the default.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from pilotlight_guest import linux
from pilotlight_guest.syscalls import ALLOWED

_LOAD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_KILL_PROCESS, _ALLOW, _ERRNO = 0x80000000, 0x7FFF0000, 0x50000
_NR, _ARCH, _ARG0, _ARG1, _ARG2 = 0, 4, 16, 24, 32
"""Offsets in ``struct seccomp_data``; arguments are read by their low 32 bits."""

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000
_BY_ARGUMENT = ("clone", "clone3", "socket", "socketpair", "ioctl", "personality")
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_SOCK_STREAM, _SOCK_DGRAM, _SOCK_SEQPACKET, _SOCK_KIND = 1, 2, 5, 0xF
_TCP, _UDP = 6, 17
_MODE_FILTER = 1

_REFUSE = (_RET, 0, 0, _ERRNO | errno.EPERM)
_ABSENT = (_RET, 0, 0, _ERRNO | errno.ENOSYS)
_NO_FAMILY = (_RET, 0, 0, _ERRNO | errno.EAFNOSUPPORT)
_NO_PROTOCOL = (_RET, 0, 0, _ERRNO | errno.EPROTONOSUPPORT)
_PASS = (_RET, 0, 0, _ALLOW)


def numbers(machine: str) -> dict[str, int]:
    """Numbers of the allowed calls on ``machine``, by name."""
    column = 0 if machine == "x86_64" else 1
    found = {name: pair[column] for name, pair in ALLOWED.items()}
    return {name: number for name, number in found.items() if number is not None}


def ranges(allowed: list[int]) -> list[tuple[int, int]]:
    """Merge numbers into ranges ``(first, last)``, in order. ``[0, 1, 2, 5] -> [(0, 2), (5, 5)]``."""
    merged: list[tuple[int, int]] = []
    for number in sorted(set(allowed)):
        if merged and merged[-1][1] == number - 1:
            merged[-1] = (merged[-1][0], number)
        else:
            merged.append((number, number))
    return merged


def _clone() -> list[tuple[int, int, int, int]]:
    return [(_LOAD, 0, 0, _ARG0), (_JSET, 0, 1, linux.NAMESPACES), _REFUSE, _PASS]


def _socket() -> list[tuple[int, int, int, int]]:
    return [
        (_LOAD, 0, 0, _ARG0),
        (_JEQ, 4, 0, _AF_UNIX),
        (_JEQ, 10, 0, _AF_INET),
        (_JEQ, 9, 0, _AF_INET6),
        (_JEQ, 19, 0, _AF_NETLINK),
        _NO_FAMILY,
        (_LOAD, 0, 0, _ARG1),  # unix
        (_AND, 0, 0, _SOCK_KIND),
        (_JEQ, 3, 0, _SOCK_STREAM),
        (_JEQ, 2, 0, _SOCK_DGRAM),
        (_JEQ, 1, 0, _SOCK_SEQPACKET),
        _REFUSE,
        _PASS,
        (_LOAD, 0, 0, _ARG1),  # IPv4 and IPv6
        (_AND, 0, 0, _SOCK_KIND),
        (_JEQ, 2, 0, _SOCK_STREAM),
        (_JEQ, 1, 0, _SOCK_DGRAM),
        _REFUSE,
        (_LOAD, 0, 0, _ARG2),
        (_JEQ, 3, 0, 0),
        (_JEQ, 2, 0, _TCP),
        (_JEQ, 1, 0, _UDP),
        _NO_PROTOCOL,
        _PASS,
        (_LOAD, 0, 0, _ARG2),  # netlink
        (_JEQ, 0, 1, 0),
        _PASS,
        _REFUSE,
    ]


def _socketpair() -> list[tuple[int, int, int, int]]:
    return [(_LOAD, 0, 0, _ARG0), (_JEQ, 0, 1, _AF_UNIX), _PASS, _NO_FAMILY]


def _ioctl() -> list[tuple[int, int, int, int]]:
    return [(_LOAD, 0, 0, _ARG1), (_JEQ, 1, 0, _TIOCSTI), (_JEQ, 0, 1, _TIOCLINUX), _REFUSE, _PASS]


def _personality() -> list[tuple[int, int, int, int]]:
    return [(_LOAD, 0, 0, _ARG0), (_JEQ, 1, 0, 0), (_JEQ, 0, 1, 0xFFFFFFFF), _PASS, _REFUSE]


def build(machine: str) -> bytes:
    """The filter for ``machine``: classic BPF, eight bytes an instruction.

    Raises:
        KeyError: the machine has no table.
    """
    by_name = numbers(machine)
    rows = [
        (_LOAD, 0, 0, _ARCH),
        (_JEQ, 1, 0, _AUDIT_ARCH[machine]),
        (_RET, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NR),
        (_JGE, 0, 1, _X32_BIT),
        _ABSENT,
    ]
    special = {"clone": _clone(), "clone3": [_ABSENT], "socket": _socket()}
    special.update(socketpair=_socketpair(), ioctl=_ioctl(), personality=_personality())
    for name, body in special.items():
        rows += [(_JEQ, 0, len(body), by_name[name]), *body]
    plain = [number for name, number in by_name.items() if name not in _BY_ARGUMENT]
    for first, last in ranges(plain):
        # Not below the first and not above the last: allowed. Below a range means in a gap.
        rows += [(_JGE, 1, 0, first), _REFUSE, (_JGE, 1, 0, last + 1), _PASS]
    rows += [_ABSENT]
    return b"".join(struct.pack("HBBI", *row) for row in rows)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))  # type: ignore[mutable-override]  # as ctypes has it


class Filter:
    """A built filter; installing it in a forked child is one system call."""

    def __init__(self, machine: str = linux.MACHINE) -> None:
        code = build(machine)
        self._buffer = ctypes.create_string_buffer(code, len(code))
        pointer = ctypes.cast(self._buffer, ctypes.c_void_p)
        self._program = _Program(len(code) // 8, pointer)

    def install(self) -> None:
        """Bind this process and its future children. Needs no_new_privs."""
        linux.syscall("seccomp", _MODE_FILTER, 0, ctypes.byref(self._program))
