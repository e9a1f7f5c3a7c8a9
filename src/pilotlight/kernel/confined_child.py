"""First code of a confined process: gives up what the process does not need, then runs a program.

Run as a script by any interpreter from Python 3.9 on (``-I -S -B``), so it imports nothing but
the standard library. Arguments: limits as JSON, the path of a program file, the program's own
arguments. The program is loaded first, because afterwards its imports could not be read; then
its ``main(arguments)`` runs confined, and its result is the exit status.

Always: no new privileges, no capabilities, no descriptors but 0, 1 and 2, resource limits, death
with the parent. Where the kernel and the machine type allow: Landlock (no file but those below the
working directory and the interpreter's own library, no TCP) and a system call filter (no new
processes, programs, sockets or signals). What is always must succeed, or nothing is run.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import resource
import struct
import sys
import sysconfig

# Status that says "not run: could not be confined"; programs do not use it.
NOT_CONFINED = 70

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP = 1, 4, 22
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_SIGKILL = 9
_CAPABILITY_VERSION_3 = 0x20080522
# The same numbers on every machine type.
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ = 1 << 2 | 1 << 3  # files, folders
# Write and remove files and folders, make folders, files and links, truncate.
_WRITE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 12 | 1 << 14
_FILE_ACCESS_BY_ABI = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}
_FILE_ACCESS_NEWEST = 0xFFFF
_NETWORK_ABI, _SCOPE_ABI = 4, 6

# System calls refused, by machine type: audit architecture, numbers. In order: socket, connect,
# clone, (fork, vfork,) execve, execveat, clone3, kill, tkill, tgkill, pidfd_send_signal, ptrace,
# process_vm_readv, process_vm_writev, mount, unshare, setns, bpf, io_uring_setup,
# perf_event_open, userfaultfd, add_key, keyctl.
_REFUSED_CALLS = {
    "x86_64": (
        0xC000003E,
        (
            *(41, 42, 56, 57, 58, 59, 322, 435, 62, 200, 234, 424, 101),
            *(310, 311, 165, 272, 308, 321, 425, 298, 323, 248, 250),
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            *(198, 203, 220, 221, 281, 435, 129, 130, 131, 424, 117),
            *(270, 271, 40, 97, 268, 280, 425, 241, 282, 217, 219),
        ),
    ),
}
_X32_BIT = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)][:4]
    if _libc.prctl(option, *padded) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def _drop_capabilities() -> None:
    for capability in range(64):
        try:
            _prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            # Beyond the last one; or an ordinary user, who with no_new_privs gains none from it.
            break
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION_3, 0))
    nothing = ctypes.create_string_buffer(24)
    if _libc.capset(header, nothing) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def _limit_resources(limits: dict[str, int]) -> None:
    for name, value in (
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(name)
        wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (wanted, wanted))


def _landlock(*, writes: bool) -> None:
    """Leave only the working directory and the interpreter's library, where the kernel can."""
    abi = _libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if abi < 1:
        return
    handled = _FILE_ACCESS_BY_ABI.get(abi, _FILE_ACCESS_NEWEST)
    network = 3 if abi >= _NETWORK_ABI else 0
    scoped = 3 if abi >= _SCOPE_ABI else 0
    attributes = struct.pack("QQQ", handled, network, scoped)
    size = 24 if abi >= _SCOPE_ABI else 16 if abi >= _NETWORK_ABI else 8
    rules = _libc.syscall(
        _LANDLOCK_CREATE, ctypes.c_char_p(attributes), ctypes.c_size_t(size), ctypes.c_uint(0)
    )
    if rules < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    if writes:
        _allow(rules, ".", (_READ | _WRITE) & handled)
    for library in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        if os.path.isdir(library):  # noqa: PTH112
            _allow(rules, library, _READ)
    if _libc.syscall(_LANDLOCK_RESTRICT, ctypes.c_int(rules), ctypes.c_uint(0)) != 0:
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(rules)


def _allow(rules: int, path: str, access: int) -> None:
    folder = os.open(path, os.O_PATH | os.O_DIRECTORY)
    rule = struct.pack("=Qi", access, folder)
    if _libc.syscall(
        _LANDLOCK_ADD, ctypes.c_int(rules), ctypes.c_int(1), ctypes.c_char_p(rule), ctypes.c_uint(0)
    ):
        raise OSError(ctypes.get_errno(), "landlock_add_rule")
    os.close(folder)


def _filter_program(architecture: int, refused: tuple[int, ...]) -> bytes:
    """Classic BPF over `seccomp_data` (number at 0, architecture at 4)."""

    def op(code: int, true: int, false: int, value: int) -> bytes:
        return struct.pack("HBBI", code, true, false, value)

    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    allow, permission_denied, kill = 0x7FFF0000, 0x00050001, 0x80000000
    lines = [
        op(load, 0, 0, 4),
        op(equal, 1, 0, architecture),
        op(answer, 0, 0, kill),
        op(load, 0, 0, 0),
        op(at_least, len(refused) + 1, 0, _X32_BIT),  # another calling convention: refuse
    ]
    for index, number in enumerate(refused):
        lines.append(op(equal, len(refused) - index, 0, number))
    lines += [op(answer, 0, 0, allow), op(answer, 0, 0, permission_denied)]
    return b"".join(lines)


def _filter_calls() -> None:
    known = _REFUSED_CALLS.get(os.uname().machine)
    if known is None:
        return
    program = ctypes.create_string_buffer(_filter_program(*known))
    count = (len(program) - 1) // 8
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", count, ctypes.addressof(program)))
    try:
        _prctl(_PR_SET_SECCOMP, 2, ctypes.addressof(header))
    except OSError as error:
        if error.errno != 22:  # EINVAL: a kernel without filters  # noqa: PLR2004
            raise


def confine(limits: dict[str, int]) -> None:
    """Give up everything that ``limits`` does not name. Cannot be undone."""
    os.umask(0o022)
    os.closerange(3, 65536)
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _drop_capabilities()
    _landlock(writes=bool(limits["writes"]))
    _limit_resources(limits)
    _filter_calls()


def run(arguments: list[str]) -> int:
    """Load the program, confine the process, run the program."""
    limits = json.loads(arguments[0])
    spec = importlib.util.spec_from_file_location("confined_program", arguments[1])
    if spec is None or spec.loader is None:
        return NOT_CONFINED
    program = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = program
    spec.loader.exec_module(program)
    try:
        confine(limits)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"cannot confine the process: {error}\n")
        return NOT_CONFINED
    status = program.main(arguments[2:])
    sys.stdout.flush()
    return int(status)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
