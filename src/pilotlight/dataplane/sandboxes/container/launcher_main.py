"""Start of the launcher process: become private, say what can be given, serve."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from pathlib import Path

from pilotlight.dataplane.sandboxes.container.launcher import Launcher, Settings
from pilotlight_guest import linux


def raise_descriptor_limit() -> None:
    """Each sandbox holds a few of ours; the usual soft limit of 1024 is for ``select``."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def become_private() -> bool:
    """Enter a mount namespace of our own; True when that needed no user namespace.

    Raises:
        OSError: neither is allowed.
    """
    try:
        linux.unshare(linux.NEWNS)
        is_privileged = True
    except PermissionError:
        uid, gid = os.getuid(), os.getgid()
        linux.unshare(linux.NEWUSER | linux.NEWNS)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")
        is_privileged = False
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    return is_privileged


def main(arguments: list[str]) -> int:
    """Run the launcher on the socket whose number is the first argument."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    driver = socket.socket(fileno=int(arguments[0]))
    driver.set_inheritable(False)
    try:
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        os.chdir("/")
        raise_descriptor_limit()
        is_privileged = become_private()
        launcher = Launcher(
            Settings(**json.loads(arguments[1])), driver, is_privileged=is_privileged
        )
    except OSError as error:
        driver.send(json.dumps({"error": str(error)}).encode())
        return 1
    driver.send(json.dumps(launcher.hello()).encode())
    launcher.run()
    return 0
