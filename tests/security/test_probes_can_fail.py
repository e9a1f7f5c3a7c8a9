"""A probe proves something only if it would be noticed where nothing is closed.

The probes run here as a plain process of the host, without any sandbox, and get through. Left out are
those that would do harm there (bombs, mounts, writes, signals to process 1); their refusals are told
apart from "not possible anyway" by the errno in `test_sandbox_escape`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.timeout(60), pytest.mark.needs("root")]
PROBES = Path(__file__).with_name("probes.py")
RUN = "import json, runpy, sys; p = runpy.run_path(sys.argv[1]); print(json.dumps(p['probe'](json.loads(sys.argv[2]), None)))"


def outside(what: str, argument: object = None) -> Any:
    """The answer of a probe without a sandbox, as root."""
    event = json.dumps({"do": what, "with": argument})
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(PROBES), event], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def allowed(answer: dict[str, str], *names: str) -> bool:
    return all(answer[name].startswith("allowed") for name in names)


GETS_THROUGH: dict[str, Callable[[Any], bool]] = {
    "processes": lambda seen: os.getpid() in seen,
    "identity": lambda seen: (
        seen["status"]["CapEff"] != "0" * 16
        and seen["status"]["NoNewPrivs"] == seen["status"]["Seccomp"] == "0"
        and seen["uid_map"][1] == "0"
        and seen["uid"] == [0] * 3
    ),
    "mounts": lambda seen: any(point.startswith("/sys") for point in seen),
    "sockets": lambda seen: allowed(seen, "raw", "packet", "tcp"),
    "raise_limits": lambda seen: allowed(seen, "setuid"),
    "init_secrets": lambda seen: allowed(seen, "fd"),
    "cgroup_escape": lambda seen: allowed(seen, "sys") and seen["files"] != [],
    "leaks": lambda seen: (
        seen["cmdline"] != "" and seen["user namespaces"] != "0" and seen["core limit"] != [1, 1]
    ),
    "mount_options": lambda seen: any("nosuid" not in options for options, _ in seen.values()),
}


@pytest.mark.parametrize("what", GETS_THROUGH)
def test_the_probe_gets_through_where_nothing_is_closed(what: str) -> None:
    seen = outside(what)
    assert GETS_THROUGH[what](seen), seen


def test_host_files_are_found(tmp_path: Path) -> None:
    paths = ["/etc/shadow", str(tmp_path), "/sys/fs"]
    assert allowed(outside("host_files", paths), *paths)


def test_the_hosts_loopback_and_abstract_sockets_are_reached() -> None:
    name = f"pilotlight-can-fail-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as other:
        other.bind("\0" + name)
        other.listen()
        port = server.getsockname()[1]
        seen = outside("connects", [["127.0.0.1", port]])
        assert seen[f"127.0.0.1:{port}"].startswith("allowed")
        assert outside("abstract", name).startswith("allowed")


def test_an_inherited_descriptor_is_seen(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret:
        event = json.dumps({"do": "descriptors"})
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(PROBES), event],
            capture_output=True, text=True, check=True, pass_fds=[secret.fileno()],
        )  # fmt: skip
        assert str(tmp_path / "secret") in json.loads(done.stdout).values()
