"""What this host can isolate, and what to do where it cannot. Read-only probes, no changes."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pilotlight.dataplane.sandboxes.container import cgroups
from pilotlight.model.errors import IsolationMissing
from pilotlight_guest import linux

_ROOT_REMEDY = "run `pilotlight up` as root (it gives root up again, except for its launcher)"
_KERNEL_MIN = (5, 12)
_CAP_SYS_ADMIN = 21


@dataclass(frozen=True, slots=True)
class Finding:
    """One ability of the host.

    Attributes:
        name: stable word, also for ``--allow-missing``.
        remedy: what to do where ``ok`` is false; "" otherwise.
        is_required: without it container sandboxes are refused, unless the user allows it.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    is_required: bool = False


def inspect_host(proc: Path = Path("/proc"), dev: Path = Path("/dev")) -> tuple[Finding, ...]:
    """Look at everything that container sandboxes need; never raises, changes nothing."""
    if sys.platform != "linux":
        return (
            Finding(
                "linux",
                ok=False,
                detail=f"{platform.system()} has no namespaces or cgroups",
                remedy="run Pilotlight in a Linux virtual machine (Lima: `limactl start template://debian`)"
                ", or use `--isolation process` for development without isolation",
                is_required=True,
            ),
        )
    is_root = has_sys_admin(proc)
    return (
        _architecture(),
        _kernel(),
        _user_namespaces(proc, is_root=is_root),
        _masked_proc(proc),
        _seccomp(proc),
        *_cgroups(is_root=is_root),
        _disk(dev, is_root=is_root),
        _surroundings(proc),
    )


def require(findings: Iterable[Finding], allow_missing: frozenset[str]) -> None:
    """Refuse where something required is missing that the user did not agree to miss.

    Raises:
        IsolationMissing: naming each with its remedy.
    """
    missing = [f for f in findings if f.is_required and not f.ok and f.name not in allow_missing]
    if missing:
        raise IsolationMissing("\n".join(f"{f.name}: {f.detail}. {f.remedy}" for f in missing))


def no_memory_limit() -> str:
    """Message for a host where a function's memory cannot be bounded."""
    finding = memory_finding(has_memory=False)
    return f"{finding.name}: {finding.detail}. {finding.remedy}"


def has_sys_admin(proc: Path = Path("/proc")) -> bool:
    """Whether this process is root enough to make namespaces without a user namespace."""
    for line in _text(proc / "self/status").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _architecture() -> Finding:
    return Finding(
        "architecture",
        linux.supported(),
        f"{linux.MACHINE}",
        "" if linux.supported() else "use a machine with x86_64 or aarch64",
        is_required=True,
    )


def _kernel() -> Finding:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    ok = numbers >= _KERNEL_MIN
    remedy = "" if ok else "the mount interface needs Linux 5.12 or newer: upgrade the kernel"
    return Finding("kernel", ok, f"Linux {release}", remedy, is_required=True)


def _user_namespaces(proc: Path, *, is_root: bool) -> Finding:
    """Distributions restrict them in three places; root is stopped by one of them only."""
    detail, remedy = "available", ""
    if not (proc / "self/ns/user").exists():
        detail, remedy = "the kernel has none", "use a kernel with CONFIG_USER_NS"
    elif _text(proc / "sys/user/max_user_namespaces").strip() == "0":
        detail = "user.max_user_namespaces is 0"
        remedy = "`sysctl -w user.max_user_namespaces=15000`"
    elif not is_root and _text(proc / "sys/kernel/unprivileged_userns_clone").strip() == "0":
        detail = "kernel.unprivileged_userns_clone is 0 (Debian)"
        remedy = f"`sysctl -w kernel.unprivileged_userns_clone=1`, or {_ROOT_REMEDY}"
    elif not is_root and _is_restricted_by_apparmor(proc):
        detail = "AppArmor restricts user namespaces of ordinary users (Ubuntu 23.10 and later)"
        remedy = (
            f"{_ROOT_REMEDY}, or `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, "
            "or give this Python an AppArmor profile with `userns,`"
        )
    return Finding("user-namespaces", not remedy, detail, remedy, is_required=True)


def _is_restricted_by_apparmor(proc: Path) -> bool:
    setting = _text(proc / "sys/kernel/apparmor_restrict_unprivileged_userns").strip()
    profile = _text(proc / "self/attr/current").strip()
    return setting == "1" and profile in {"", "unconfined"}


def masked_paths(mountinfo: str) -> list[str]:
    """What is mounted over parts of ``/proc``, as container engines do. Pure."""
    points = [line.split()[4] for line in mountinfo.splitlines() if line.strip()]
    return [
        p for p in points if p.startswith("/proc/") and not p.startswith("/proc/sys/fs/binfmt_misc")
    ]


def _masked_proc(proc: Path) -> Finding:
    masked = masked_paths(_text(proc / "self/mountinfo"))
    remedy = (
        "start the container with `--security-opt systempaths=unconfined "
        "--security-opt seccomp=unconfined --cap-add SYS_ADMIN` (or `--privileged`)"
    )
    detail = f"covered: {', '.join(masked[:4])}" if masked else "whole"
    return Finding("proc", not masked, detail, remedy if masked else "", is_required=True)


def _seccomp(proc: Path) -> Finding:
    actions = _text(proc / "sys/kernel/seccomp/actions_avail").split()
    ok = "errno" in actions and "kill_process" in actions
    remedy = "" if ok else "use a kernel with CONFIG_SECCOMP_FILTER"
    return Finding("seccomp", ok, "system call filters", remedy, is_required=True)


def memory_finding(*, has_memory: bool, version: str = "none") -> Finding:
    """Whether a function's memory can be limited."""
    if has_memory:
        return Finding("memory", ok=True, detail=f"limited by cgroup {version}", is_required=True)
    return Finding(
        "memory",
        ok=False,
        detail="no cgroup with a memory limit may be made here",
        remedy=f"{_ROOT_REMEDY}, or start it in a delegated scope "
        "(`systemd-run --user --scope -p Delegate=yes pilotlight up`), or accept functions "
        "without a memory limit: `--allow-missing=memory`",
        is_required=True,
    )


def _cgroups(*, is_root: bool) -> tuple[Finding, ...]:
    found = cgroups.find()
    have = found.controllers()
    version = "v1" if found.uses_v1 else "v2"
    remedies = {
        "pids": "process counts are held by RLIMIT_NPROC for each tenant instead",
        "cpu": "functions share the processors without regard to their memory",
        "freezer": "idle environments are not frozen",
    }
    others = [
        Finding(name, name in have, f"cgroup {version}" if name in have else "no such controller",
                "" if name in have else f"{text}; {_ROOT_REMEDY}" if not is_root else text)
        for name, text in remedies.items()
    ]  # fmt: skip
    return (memory_finding(has_memory="memory" in have, version=version), *others)


def _disk(dev: Path, *, is_root: bool) -> Finding:
    tools = any((Path(p) / "mke2fs").exists() for p in ("/usr/sbin", "/sbin", "/usr/bin"))
    ok = is_root and (dev / "loop-control").exists() and tools
    detail = f"temporary files of a function are {'on disk' if ok else 'in memory'}"
    remedy = "" if ok else "needs root, loop devices and mke2fs (package e2fsprogs)"
    return Finding("disk", ok, detail, remedy)


def surroundings(marks: Iterable[tuple[str, bool]]) -> str:
    """Names of the environments whose mark is there. Pure."""
    return ", ".join(name for name, is_there in marks if is_there) or "plain host"


def _surroundings(proc: Path) -> Finding:
    release = _text(proc / "sys/kernel/osrelease").lower()
    marks = (
        ("container (Docker)", Path("/.dockerenv").exists()),
        ("container (Podman)", Path("/run/.containerenv").exists()),
        ("WSL2", "microsoft" in release),
        ("hosted CI runner", Path("/home/runner/work").is_dir()),
    )
    return Finding("surroundings", ok=True, detail=f"{surroundings(marks)}, uid {os.geteuid()}")
