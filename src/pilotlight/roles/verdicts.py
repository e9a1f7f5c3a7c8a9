"""What the answers of the probes in a sandbox mean. Pure: no host, no clock.

Three words: *closed*, a probe tried and was refused; *open*, a probe got through; *missing*, the
host lacks what would close it, so that it was not tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What is known about one wall or limit."""

    CLOSED = "closed"
    OPEN = "open"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Proof:
    """One line of the table.

    Attributes:
        name: stable word.
        detail: what was tried and what came of it.
        remedy: what to do; "" where it is closed.
    """

    name: str
    verdict: Verdict
    detail: str
    remedy: str = ""


PIDS_MAX = 1024
"""Processes of one sandbox (`pilotlight.ports.sandbox.SandboxSpec.pids_max`)."""
TMP_MIB = 512
"""Size of /tmp that the probed function asked for."""
TMP_SLACK = 0.12
"""A file system keeps some of its room for itself."""
MEMORY_MIB = 128
"""Memory of the function that uses too much."""

_REPORT = "this is a hole in the sandbox: please report it with the output of `doctor --json`"
_ALLOWED = "allowed"
_REFUSALS = frozenset(
    {"EPERM", "EACCES", "ENOSYS", "ENOENT", "EROFS", "EAFNOSUPPORT", "EPROTONOSUPPORT"}
)


def judge(answers: Mapping[str, Any], ended: Mapping[str, str]) -> tuple[Proof, ...]:
    """The verdict on each wall that was probed, in the order of the table.

    Args:
        answers: by the probe's name, as `pilotlight_guest.probes` gave them; probes that were not
            carried out are left out. The answers come out of a sandbox: whatever has not the
            expected form counts as open.
        ended: error type, by probe, of invocations that failed instead of answering.
    """
    return tuple(
        _one(row, answers[row.probe])
        if row.probe in answers
        else _open(row.name, f"not shown: the invocation ended with {ended[row.probe]}")
        for row in _TABLE
        if row.probe in answers or row.probe in ended
    )


def limits(answers: Mapping[str, Any], ended: Mapping[str, str]) -> tuple[Proof, ...]:
    """The verdict on the limits that were probed.

    Args:
        answers: as for `judge`.
        ended: as for `judge`.
    """
    proofs = []
    for probe, name, check in (
        ("disk", "temporary-files", _disk),
        ("tasks", "process-count", _tasks),
    ):
        if probe in answers:
            proofs.append(_checked(name, check, answers[probe]))
        elif probe in ended:
            proofs.append(_open(name, f"the invocation ended with {ended[probe]}"))
    if "memory" in answers or "memory" in ended:
        proofs.append(_memory(answers.get("memory"), ended.get("memory", "")))
    return tuple(proofs)


@dataclass(frozen=True, slots=True)
class _Row:
    """A wall: which probe asks, and what of its answer got through; () where all was refused."""

    name: str
    probe: str
    closed: str
    through: Callable[[Any], tuple[str, ...]]


def _allowed(answer: Any) -> tuple[str, ...]:  # noqa: ANN401  (JSON)
    return tuple(str(name) for name, said in answer.items() if said == _ALLOWED)


def _unrefused(answer: Any) -> tuple[str, ...]:  # noqa: ANN401
    return tuple(f"{name} ({said})" for name, said in answer.items() if said not in _REFUSALS)


def _calls(*names: str) -> Callable[[Any], tuple[str, ...]]:
    """Of all system calls tried only these. Any other error than a refusal means that it ran."""

    def through(answer: Any) -> tuple[str, ...]:  # noqa: ANN401
        return _unrefused({name: answer[name] for name in names})

    return through


def _foreign(answer: Any) -> tuple[str, ...]:  # noqa: ANN401
    own = {1, answer["own"]}
    return tuple(f"process {pid}" for pid in answer["seen"] if pid not in own)


def _capabilities(answer: Any) -> tuple[str, ...]:  # noqa: ANN401
    return tuple(
        f"{name} of {'this process' if who == 'self' else 'process 1'}"
        for who, fields in answer.items()
        for name, value in fields.items()
        if name.startswith("Cap") and int(value, 16)
    )


def _filters(answer: Any) -> tuple[str, ...]:  # noqa: ANN401
    wanted = {"Seccomp": "2", "NoNewPrivs": "1"}
    return tuple(
        f"{name} is {fields[name]}"
        for fields in answer.values()
        for name, value in wanted.items()
        if fields[name] != value
    )


def _reached(answer: Any) -> tuple[str, ...]:  # noqa: ANN401
    strange = tuple(f"interface {name}" for name in answer["interfaces"] if name != "lo")
    return (*_allowed(answer["reached"]), *strange)


def _open_descriptors(answer: Any) -> tuple[str, ...]:  # noqa: ANN401
    return tuple(f"descriptor {number}" for number in answer)


_TABLE = (
    _Row("processes", "processes", "only its own processes are visible", _foreign),
    _Row("host-files", "files", "files of the host cannot be opened", _unrefused),
    _Row("code", "writes", "its code and the system are read-only", _unrefused),
    _Row(
        "mount",
        "calls",
        "mount, umount, pivot_root, open_tree, fsopen are refused",
        _calls("mount", "umount2", "pivot_root", "open_tree", "fsopen"),
    ),
    _Row(
        "namespaces",
        "calls",
        "unshare is refused",
        _calls("unshare user", "unshare network"),
    ),
    _Row(
        "tracing",
        "calls",
        "ptrace and reading other processes' memory are refused",
        _calls("ptrace", "process_vm_readv"),
    ),
    _Row(
        "kernel-interfaces",
        "calls",
        "bpf, perf, keys, io_uring, modules and others are refused",
        _calls(
            "bpf", "perf_event_open", "keyctl", "io_uring_setup", "userfaultfd", "init_module",
            "open_by_handle_at", "syslog",
        ),
    ),
    _Row("raw-sockets", "sockets", "raw and packet sockets are refused", _unrefused),
    _Row(
        "network", "network", "neither host loopback, metadata nor internet answers", _reached
    ),
    _Row("capabilities", "status", "all sets are empty", _capabilities),
    _Row("seccomp", "status", "the filter is on, new privileges are off", _filters),
    _Row("descriptors", "descriptors", "nothing of the platform is left open", _open_descriptors),
)  # fmt: skip


def _one(row: _Row, answer: Any) -> Proof:  # noqa: ANN401
    def check(content: Any) -> Proof:  # noqa: ANN401
        through = row.through(content)
        if through:
            return _open(row.name, f"got through: {', '.join(through)}")
        return Proof(row.name, Verdict.CLOSED, row.closed)

    return _checked(row.name, check, answer)


def _checked(name: str, check: Callable[[Any], Proof], answer: Any) -> Proof:  # noqa: ANN401
    try:
        return check(answer)
    except (KeyError, TypeError, ValueError, AttributeError):
        return _open(name, f"the probe's answer makes no sense: {str(answer)[:100]}")


def _open(name: str, detail: str) -> Proof:
    return Proof(name, Verdict.OPEN, detail, _REPORT)


def _disk(answer: Any) -> Proof:  # noqa: ANN401
    taken = int(answer["taken_mib"])
    if answer["answer"] == _ALLOWED:
        return _open("temporary-files", f"{taken} MiB were given where {TMP_MIB} MiB are the limit")
    if answer["answer"] not in {"ENOSPC", "EDQUOT"} or taken < TMP_MIB * (1 - TMP_SLACK):
        return _open("temporary-files", f"{answer['answer']} after {taken} of {TMP_MIB} MiB")
    return Proof(
        "temporary-files", Verdict.CLOSED, f"full after {taken} MiB of the {TMP_MIB} MiB asked for"
    )


def _tasks(answer: Any) -> Proof:  # noqa: ANN401
    count = int(answer["count"])
    if answer["answer"] != "EAGAIN" or count > PIDS_MAX:
        return _open("process-count", f"{count} threads, then a process: {answer['answer']}")
    return Proof("process-count", Verdict.CLOSED, f"refused after {count} threads and processes")


def _memory(answer: Any, error: str) -> Proof:  # noqa: ANN401
    if error == "Runtime.OutOfMemory":
        detail = f"killed at its limit of {MEMORY_MIB} MiB, and told apart from a crash"
        return Proof("memory", Verdict.CLOSED, detail)
    if error:
        return _open("memory", f"the invocation ended with {error}")
    return _open("memory", f"took more than its {MEMORY_MIB} MiB: {str(answer)[:60]}")
