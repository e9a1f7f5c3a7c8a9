"""Where this host is special, and what follows from it: a sentence for each kind of place."""

from __future__ import annotations

import platform
from pathlib import Path


def notes(
    root: Path = Path("/"), *, system: str | None = None, machine: str | None = None
) -> tuple[str, ...]:
    """What a user of this kind of host should know. Looks only; never raises.

    Args:
        root: of the file system; tests give a folder.
        system: name of the kernel, this machine's by default; so is
        machine: the architecture.
    """
    found = (
        _not_linux(system or platform.system()),
        _container(root),
        _wsl(root),
        _hosted(root),
        _apparmor(root),
        _architecture(machine or platform.machine()),
        _cgroup_version(root),
    )
    return tuple(note for note in found if note)


def _not_linux(system: str) -> str:
    if system == "Linux":
        return ""
    return (
        f"{system} has no namespaces and no cgroups: run Pilotlight in a Linux virtual "
        "machine, for example `limactl start template://debian` and then `limactl shell debian`."
    )


def _container(root: Path) -> str:
    """The marks that Docker and Podman leave in a container."""
    engines = {".dockerenv": "Docker", "run/.containerenv": "Podman"}
    inside = [name for mark, name in engines.items() if (root / mark).exists()]
    if not inside:
        return ""
    return (
        f"Inside a {inside[0]} container: sandboxes need `--privileged`, or `--cap-add SYS_ADMIN "
        "--security-opt seccomp=unconfined --security-opt apparmor=unconfined "
        "--security-opt systempaths=unconfined`; keep the data directory on a volume."
    )


def _wsl(root: Path) -> str:
    if "microsoft" not in _text(root / "proc/sys/kernel/osrelease").lower():
        return ""
    return (
        "WSL2: keep the data directory on the Linux file system (not below /mnt/c); with "
        "`systemd=true` below `[boot]` in /etc/wsl.conf an ordinary user can have a delegated "
        "cgroup and with it memory limits."
    )


def _hosted(root: Path) -> str:
    if not (root / "home/runner/work").is_dir():
        return ""
    return (
        "Hosted CI runner: jobs on the virtual machine itself can use sudo and have all; jobs "
        "in a container see a masked /proc and need `options: --privileged`."
    )


def _apparmor(root: Path) -> str:
    setting = _text(root / "proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip()
    if setting != "1":
        return ""
    return (
        "AppArmor keeps ordinary users from user namespaces here (Ubuntu 23.10 and later): run as "
        "root, or `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or give this Python "
        "a profile with `userns,`."
    )


def _architecture(machine: str) -> str:
    if machine != "aarch64":
        return ""
    return (
        "aarch64: filters and probes use this architecture's own system call numbers; the "
        "project's tests run on x86_64, so what is proved here is what is known."
    )


def _cgroup_version(root: Path) -> str:
    if not (root / "sys/fs/cgroup/memory").is_dir():
        return ""
    return (
        "cgroup v1: only root can limit memory and process counts; with cgroup v2 an ordinary "
        "user can in a delegated scope."
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
