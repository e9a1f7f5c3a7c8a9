"""Start the launcher process: the last thing the platform does while it is still privileged."""

from __future__ import annotations

import json
import os
import re
import resource
import select
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pilotlight
from pilotlight.dataplane.sandboxes.container import host
from pilotlight.model.errors import ConfigurationError, IsolationMissing, SandboxError
from pilotlight.ports.runtimes import HostRuntime

_HELLO_WITHIN_S = 60.0
_END_WITHIN_S = 30.0
_MESSAGE_BYTES = 4096
_INSTANCE = re.compile(r"[a-z0-9]{1,32}")
_BOOT = (
    "import sys; sys.path[0:0] = sys.argv.pop().split(':'); "
    "from pilotlight.dataplane.sandboxes.container.launcher_main import main; "
    "sys.exit(main(sys.argv[1:]))"
)


@dataclass(frozen=True, slots=True)
class LauncherOptions:
    """What a launcher is started with.

    Attributes:
        data_dir: of this instance; images for ``/tmp`` live (unlinked) in its ``sandbox`` folder.
        code_root: unpacked packages are ``<code_root>/<digest>``, readable by everybody.
        guest_root: directory that contains ``pilotlight_guest``.
        instance: short id made from the data directory, ``[a-z0-9]{1,32}``: names the cgroups.
        service_uid: who the platform becomes afterwards (for the record; the launcher never needs
            to act as it).
        tenant_base: first host user id for tenants, 65,536 for each.
        zygote_forks_max: forks after which a tenant's zygote is renewed; seconds likewise.
        allow_missing: protections that the user agreed to do without, for example ``memory``.
    """

    data_dir: Path
    code_root: Path
    guest_root: Path
    runtimes: tuple[HostRuntime, ...]
    instance: str
    service_uid: int
    service_gid: int
    tenant_base: int = 1_000_000_000
    allow_missing: frozenset[str] = frozenset()
    zygote_forks_max: int = 1000
    zygote_age_max_s: int = 3600

    def __post_init__(self) -> None:
        if not _INSTANCE.fullmatch(self.instance):
            raise ConfigurationError(f"instance {self.instance!r} must match {_INSTANCE.pattern}")


@dataclass(slots=True)
class Launcher:
    """A running launcher; closing its socket makes it destroy all and end.

    Attributes:
        controllers: cgroup controllers in effect, by version 1 names.
        is_privileged: it runs as real root, each tenant with ids of its own.
        has_disk: ``/tmp`` is on disk and costs no memory.
    """

    process: subprocess.Popen[bytes]
    channel: socket.socket
    controllers: frozenset[str]
    is_privileged: bool
    has_disk: bool
    warnings: tuple[str, ...] = field(default=())

    def close(self) -> None:
        """Make it end and wait for that. Idempotent; blocks up to 30 s.

        Raises:
            SandboxError: it did not end in time and was killed.
        """
        self.channel.close()
        try:
            self.process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise SandboxError(
                f"the sandbox launcher did not end within {_END_WITHIN_S:.0f} s and was killed; "
                "the next start removes what it left"
            ) from None


def start_launcher(options: LauncherOptions) -> Launcher:
    """Start the launcher as a process of its own and wait until it serves.

    Call it before asyncio, threads or a change of user; synchronous.

    Raises:
        IsolationMissing: the host lacks something; the message names it and the remedy.
        SandboxError: the launcher failed for another reason.
    """
    _raise_descriptor_limit()
    findings = host.inspect_host()
    host.require(findings, options.allow_missing)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = _spawn(options, theirs)
    try:
        hello = _hello(ours)
    except BaseException:
        ours.close()
        process.kill()
        process.wait()
        raise
    controllers = frozenset(hello.controllers)
    launcher = Launcher(process, ours, controllers, hello.privileged, hello.disk)
    if "memory" not in controllers | options.allow_missing:
        launcher.close()
        raise IsolationMissing(host.no_memory_limit())
    launcher.warnings = tuple(f"{f.name}: {f.detail}" for f in findings if not f.ok)
    return launcher


def _raise_descriptor_limit() -> None:
    """A sandbox costs the driver eight descriptors; the usual soft limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _spawn(options: LauncherOptions, theirs: socket.socket) -> subprocess.Popen[bytes]:
    settings = {
        "data_dir": str(options.data_dir.resolve()),
        "code_root": str(options.code_root.absolute()),
        "guest_root": str(options.guest_root.resolve()),
        "instance": options.instance,
        "runtimes": [[r.name, str(r.executable), str(r.prefix)] for r in options.runtimes],
        "tenant_base": options.tenant_base,
        "zygote_forks_max": options.zygote_forks_max,
        "zygote_age_max_s": options.zygote_age_max_s,
    }
    package = Path(pilotlight.__file__).resolve().parent.parent
    path = f"{package}:{options.guest_root.resolve()}"
    number = str(theirs.fileno())
    command = [sys.executable, "-I", "-S", "-B", "-c", _BOOT, number, json.dumps(settings), path]
    environment = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_CTYPE": "C.UTF-8"}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()], start_new_session=True, cwd=os.sep,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Hello:
    privileged: bool
    controllers: list[str]
    disk: bool


def _hello(channel: socket.socket) -> _Hello:
    """The launcher's first message.

    Raises:
        IsolationMissing: the kernel refused what it needs.
        SandboxError: it ended without a word, or said nothing in time.
    """
    if not select.select([channel], [], [], _HELLO_WITHIN_S)[0]:
        raise SandboxError(f"the sandbox launcher said nothing for {_HELLO_WITHIN_S:.0f} s")
    message = channel.recv(_MESSAGE_BYTES)
    if not message:
        raise SandboxError("the sandbox launcher ended at its start; its message is above")
    fields = json.loads(message)
    if "error" in fields:
        raise IsolationMissing(
            f"the host refuses what container sandboxes need: {fields['error']}; "
            "`pilotlight doctor` shows what is missing"
        )
    return _Hello(**fields)
