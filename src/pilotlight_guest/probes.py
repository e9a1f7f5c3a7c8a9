"""A function that tries to get out of its sandbox, for ``pilotlight doctor``.

It is deployed like any other function, as ``main.py``; its answers are judged outside. It only
asks: nothing it does harms a host that lets it through. Standard library, Python 3.9 up.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
from pathlib import Path
from typing import Any, Callable

_NEWUSER, _NEWNET = 0x10000000, 0x40000000
_MIB = 1 << 20
_STEP_MIB = 64
_CHANNEL = 3  # the highest descriptor that the platform gives a runtime
_CALLS = {  # name: numbers on x86_64 and aarch64 (include/uapi/asm-generic/unistd.h), arguments
    "mount": (165, 40, b"none", b"/tmp", b"tmpfs", 0, None),
    "umount2": (166, 39, b"/tmp", 2),
    "pivot_root": (155, 41, b"/tmp", b"/tmp"),
    "open_tree": (428, 428, -100, b"/", 1),
    "fsopen": (430, 430, b"tmpfs", 0),
    "unshare user": (272, 97, _NEWUSER),
    "unshare network": (272, 97, _NEWNET),
    "ptrace": (101, 117, 16, 1, 0, 0),
    "process_vm_readv": (310, 270, 1, None, 0, None, 0, 0),
    "bpf": (321, 280, 0, None, 0),
    "perf_event_open": (298, 241, None, 0, -1, -1, 0),
    "keyctl": (250, 219, 0, -3, 0),
    "io_uring_setup": (425, 425, 1, None),
    "userfaultfd": (323, 282, 0),
    "init_module": (175, 105, None, 0, b""),
    "open_by_handle_at": (304, 265, 0, None, 0),
    "syslog": (103, 116, 3, None, 0),
}


def attempt(action: Callable[..., object], *arguments: object) -> str:
    """``allowed``, or why not: the name of the errno or of the exception."""
    try:
        action(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except Exception as error:
        return type(error).__name__
    return "allowed"


def _open(path: str, mode: str) -> None:
    Path(path).open(mode).close()


def _make_socket(family: int, kind: int, protocol: int) -> None:
    socket.socket(family, kind, protocol).close()


def _connect(host: str, port: int) -> None:
    socket.create_connection((host, port), 1).close()


def processes(_: object) -> dict[str, Any]:
    """All processes that show, and our own."""
    seen = sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {"seen": seen, "own": os.getpid()}


def status(_: object) -> dict[str, dict[str, str]]:
    """Capabilities and filters, of this process and of process 1."""
    wanted = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")
    found = {}
    for who in ("self", "1"):
        lines = Path(f"/proc/{who}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        found[who] = {name: fields.get(name, "").strip() for name in wanted}
    return found


def calls(_: object) -> dict[str, str]:
    """System calls that a function never needs."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    which = 1 if os.uname().machine == "aarch64" else 0
    found = {}
    for name, row in _CALLS.items():
        ctypes.set_errno(0)
        result = libc.syscall(row[which], *row[2:])
        number = ctypes.get_errno()
        found[name] = "allowed" if result >= 0 else errno.errorcode.get(number, str(number))
    return found


def files(paths: list[str]) -> dict[str, str]:
    """Files of the host."""
    return {path: attempt(_open, path, "rb") for path in paths}


def writes(paths: list[str]) -> dict[str, str]:
    """Places that must be read-only."""
    return {path: attempt(_open, path, "ab") for path in paths}


def descriptors(_: object) -> list[int]:
    """What is open besides the usual three and the channel to the worker."""
    numbers = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    living = [n for n in numbers if attempt(os.fstat, n) == "allowed"]
    return [number for number in living if number > _CHANNEL]


def sockets(_: object) -> dict[str, str]:
    """Sockets that see or forge the packets of others."""
    kinds = {
        "raw": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "packet": (socket.AF_PACKET, socket.SOCK_RAW, 0),
    }
    return {name: attempt(_make_socket, *kind) for name, kind in kinds.items()}


def network(addresses: list[list[Any]]) -> dict[str, Any]:
    """The host's own listeners, the metadata address, the internet."""
    found: dict[str, Any] = {
        f"{host}:{port}": attempt(_connect, host, port) for host, port in addresses
    }
    return {"reached": found, "interfaces": [name for _, name in socket.if_nameindex()]}


def disk(limit_mib: int) -> dict[str, Any]:
    """Reserve room in /tmp until it is refused; stops by itself at ``limit_mib``."""
    taken = 0
    answer = "allowed"
    room = Path("/tmp/room")  # noqa: S108  (what is probed)
    with room.open("wb") as file:
        while taken < limit_mib and answer == "allowed":
            start = taken * _MIB
            answer = attempt(os.posix_fallocate, file.fileno(), start, _STEP_MIB * _MIB)
            taken += _STEP_MIB if answer == "allowed" else 0
    room.unlink()
    return {"taken_mib": taken, "answer": answer}


def tasks(limit: int) -> dict[str, Any]:
    """Start threads until it is refused, then a process: the kernel counts both alike.

    Threads cost a tenth of processes. Stops by itself at ``limit``.
    """
    threading.stack_size(1 << 16)
    leave = threading.Event()
    count = 0
    try:
        while count < limit:
            threading.Thread(target=leave.wait, daemon=True).start()
            count += 1
    except RuntimeError:  # can't start new thread
        pass
    finally:
        answer = attempt(_fork)
        leave.set()
    return {"count": count, "answer": answer}


def _fork() -> None:
    """A child that ends at once."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def memory(limit_mib: int) -> dict[str, Any]:
    """Use memory until killed; stops by itself at ``limit_mib``."""
    held = [bytearray(b"\xa5") * _MIB for _ in range(limit_mib)]
    return {"taken_mib": len(held)}


PROBES: dict[str, Callable[[Any], Any]] = {
    "processes": processes,
    "status": status,
    "calls": calls,
    "files": files,
    "writes": writes,
    "descriptors": descriptors,
    "sockets": sockets,
    "network": network,
    "disk": disk,
    "tasks": tasks,
    "memory": memory,
}


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Answer each probe of the event by its name, with the argument that the event gives it."""
    del context
    return {name: PROBES[name](argument) for name, argument in event.items()}
