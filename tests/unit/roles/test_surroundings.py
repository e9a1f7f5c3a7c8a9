"""Each kind of host that is special has its sentence; a plain one has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilotlight.roles.surroundings import notes


def put(root: Path, name: str, text: str = "") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_a_plain_host_needs_no_words(tmp_path: Path) -> None:
    put(tmp_path, "proc/sys/kernel/osrelease", "6.12.0-amd64\n")
    put(tmp_path, "proc/sys/kernel/apparmor_restrict_unprivileged_userns", "0\n")
    assert notes(tmp_path, system="Linux", machine="x86_64") == ()


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        (".dockerenv", "", ("Docker", "--privileged")),
        ("run/.containerenv", "", ("Podman", "--privileged")),
        (
            "proc/sys/kernel/osrelease",
            "5.15.153.1-microsoft-standard-WSL2\n",
            ("WSL2", "systemd=true", "/mnt/c"),
        ),
        ("home/runner/work/x", "", ("Hosted CI", "--privileged")),
        (
            "proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1\n",
            ("AppArmor", "kernel.apparmor_restrict_unprivileged_userns=0"),
        ),
        ("sys/fs/cgroup/memory/tasks", "", ("cgroup v1", "only root")),
    ],
)
def test_special_hosts_are_told_about(
    tmp_path: Path, name: str, text: str, told: tuple[str, ...]
) -> None:
    put(tmp_path, name, text)
    found = notes(tmp_path, system="Linux", machine="x86_64")
    assert len(found) == 1
    assert all(words in found[0] for words in told)


def test_another_kernel_gets_a_recipe(tmp_path: Path) -> None:
    (said,) = notes(tmp_path, system="Darwin", machine="arm64")
    assert "Darwin has no namespaces" in said
    assert "limactl" in said


def test_aarch64_is_told_what_is_known(tmp_path: Path) -> None:
    (said,) = notes(tmp_path, system="Linux", machine="aarch64")
    assert "system call numbers" in said
