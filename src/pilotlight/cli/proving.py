"""Proves what sandboxes of this host keep in: a platform of its own, and a function that probes.

The platform is a real ``pilotlight up`` with a temporary data directory and free ports, the
function is deployed and invoked through the API: what is proved is what a user's function meets.
"""

from __future__ import annotations

import contextlib
import json
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from pilotlight.cli.client import Client, function_path
from pilotlight.cli.errors import CommandFailed, NoServer
from pilotlight.cli.packing import pack
from pilotlight.cli.publishing import Publisher
from pilotlight.config.project import Project
from pilotlight.config.target import Target, find_target
from pilotlight.kernel.system import SystemClock

BUDGET_S = 14.0
"""All probes together; with the end of the platform it stays below 20 s."""
_END_WITHIN_S = 5.0
_PROBE_TIMEOUT_S = 10
_PROBES = Path("pilotlight_guest/probes.py")
_MEMORY_BEYOND_MIB = 512
_TASKS_BEYOND = 1200
_DISK_BEYOND_MIB = 640


@dataclass(slots=True)
class Evidence:
    """What the probes answered.

    Attributes:
        answers: by probe.
        ended: error type, by probe, of invocations that ended otherwise.
        failure: why the proof could not be completed; "" where it was.
        start: how the sandbox came to be, with the time of each phase.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    failure: str = ""
    start: str = ""


def gather(allow_missing: frozenset[str], step: Callable[[str], None]) -> Evidence:
    """Run all probes; takes at most 20 s and leaves nothing behind, also when interrupted.

    Args:
        allow_missing: limits that the platform is started without; without ``memory`` among them
            the memory limit is probed too.
        step: told what is being done.
    """
    evidence = Evidence()
    folder = Path(tempfile.mkdtemp(prefix="pilotlight-doctor-"))
    folder.chmod(0o755)  # the probe must be stopped by the sandbox, not by this folder's mode
    try:
        with _ends_on_sigterm(), _platform(folder, allow_missing) as (target, deadline_s):
            _Proof(folder, target, deadline_s, evidence, step).run(
                probes_memory="memory" not in allow_missing
            )
    except CommandFailed as failed:
        evidence.failure = failed.message
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return evidence


@contextlib.contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that nothing is left behind."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _platform(folder: Path, allow_missing: frozenset[str]) -> Iterator[tuple[Target, float]]:
    """A platform for the length of the block: where it is, and when to stop probing.

    Raises:
        CommandFailed: it did not start; with what it said.
    """
    clock = SystemClock()
    deadline_s = clock.monotonic() + BUDGET_S
    data_dir = folder / "data"
    command = [
        sys.executable, "-P", "-m", "pilotlight", "up", "--data-dir", str(data_dir),
        "--listen", "127.0.0.1:0", "--url-listen", "127.0.0.1:0", "--isolation", "container",
    ]  # fmt: skip
    if allow_missing:
        command += ["--allow-missing", ",".join(sorted(allow_missing))]
    said = folder / "stderr"
    with said.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C is for us; we end it
        )
    try:
        url = _says_ready(process, deadline_s - clock.monotonic())
        if url is None:
            raise CommandFailed(_last_words(said, process))
        # Named, so that no variable of the user's leads the probes to another server.
        yield find_target(endpoint=url, data_dir=data_dir), deadline_s
    finally:
        _end(process)


def _says_ready(process: subprocess.Popen[bytes], within_s: float) -> str | None:
    """The address that the platform prints when it is ready; None where it does not."""
    if process.stdout is None:
        return None
    with process.stdout as stdout:
        readable, _, _ = select.select([stdout], [], [], within_s)
        word, _, url = (stdout.readline().decode() if readable else "").partition(": ")
    return url.strip() if word == "ready" else None


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()  # its launcher sees that, removes all sandboxes and ends
        process.wait()


def _last_words(said: Path, process: subprocess.Popen[bytes]) -> str:
    """Why a platform did not start: its own message, else the end of what it said."""
    text = said.read_text(errors="replace").strip()
    _, mark, message = text.rpartition("error: ")
    if mark:
        return message
    if process.poll() is None:
        return f"the platform was not ready within {BUDGET_S:g} s"
    return f"the platform ended at its start: {text[-500:] or 'it said nothing'}"


class _Proof:
    """The probes against one running platform."""

    def __init__(
        self,
        folder: Path,
        target: Target,
        deadline_s: float,
        evidence: Evidence,
        step: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._deadline_s = deadline_s
        self._evidence = evidence
        self._step = step
        self._clock = SystemClock()
        self._client = Client(target)

    def run(self, *, probes_memory: bool) -> None:
        """Deploy, then each group of probes in an invocation of its own.

        Raises:
            CommandFailed: the function could not be deployed, or time ran out.
        """
        with contextlib.closing(self._client):
            self._step("deploying the probes")
            self._deploy("neighbour", 128)
            self._deploy("probes", 1024)
            self._invoke("neighbour", {"processes": None})  # lives on beside the next one
            self._evidence.answers.clear()
            self._step("probing the walls")
            self._invoke("probes", self._walls())
            self._evidence.start = self._cold_start("probes")
            self._step("probing the limits")
            self._invoke("probes", {"tasks": _TASKS_BEYOND})
            self._invoke("probes", {"disk": _DISK_BEYOND_MIB})
            if probes_memory:
                self._invoke("neighbour", {"memory": _MEMORY_BEYOND_MIB})

    def _deploy(self, name: str, memory_mib: int) -> None:
        code = self._folder / "code"
        code.mkdir(exist_ok=True)
        source = Path(__file__).resolve().parents[2] / _PROBES
        (code / "main.py").write_bytes(source.read_bytes())
        project = Project(
            name=name,
            runtime=f"python3.{sys.version_info[1]}",
            handler="main.handler",
            memory_mib=memory_mib,
            timeout_s=_PROBE_TIMEOUT_S,
        )
        Publisher(self._client, project, lambda _: None).publish(pack([code], ()))

    def _walls(self) -> dict[str, object]:
        """The event of the quiet probes: what to try to reach, made so that it is there."""
        secret = self._folder / "secret"
        secret.write_text("readable by everybody on the host\n")
        secret.chmod(0o644)
        where = urlsplit(self._client.target.endpoint)
        return {
            "processes": None,
            "status": None,
            "files": [
                str(secret), str(self._folder / "data/registry.db"), "/etc/shadow", "/dev/mem",
                "/proc/1/environ", "/run/docker.sock",
            ],
            "writes": ["/var/task/main.py", "/var/task/x", "/var/runtime/x", "/usr/x", "/etc/passwd"],
            "calls": None,
            "sockets": None,
            "network": [[where.hostname, where.port], ["169.254.169.254", 80], ["192.0.2.1", 53]],
            "descriptors": None,
        }  # fmt: skip

    def _invoke(self, name: str, event: dict[str, object]) -> None:
        """Take the answers of one invocation, or how it ended.

        Raises:
            CommandFailed: time has run out, or the platform failed.
        """
        left_s = self._deadline_s - self._clock.monotonic()
        late = f"time ran out after {BUDGET_S:g} s, before: {', '.join(event)}"
        if left_s <= 0:
            raise CommandFailed(late)
        try:
            answer = self._client.call(
                "POST",
                function_path(name, "invocations"),
                body=json.dumps(event).encode(),
                timeout_s=left_s,
            )
        except NoServer as gone:
            raise CommandFailed(f"{late} ({gone.message})") from gone
        content = answer.json()
        if "x-amz-function-error" in answer.headers:
            error = str(content.get("errorType") or "an error without a type")
            self._evidence.ended |= dict.fromkeys(event, error)
        else:
            self._evidence.answers |= {name: content.get(name) for name in event}

    def _cold_start(self, name: str) -> str:
        """How the sandbox came to be, from the function's log; "" where that is late."""
        lines = self._client.get("/api/v1/logs", {"function": name}).get("lines", [])
        texts = [str(line.get("text", "")) for line in lines]
        cold = [text for text in texts if text.startswith("COLD_START ")]
        return cold[0].partition("Start: ")[2].replace("\t", ", ") if cold else ""
