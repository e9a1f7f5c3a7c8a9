"""A sandbox driver whose runtimes are scripted, for tests of the invoke path in virtual time.

A scripted runtime speaks the real frames over a real socket pair, in this process. What it does
with an invocation is said by the event, a JSON object: ``log`` (text to write), ``sleep`` (seconds),
``raise`` (error type), ``exit`` (status), ``oom`` (true), ``lie`` (raw bytes, hexadecimal), ``size``
(bytes to answer), ``stream`` (list of texts to stream; with ``hold``, seconds until the stream ends,
and ``broken``, the error type it ends with); anything else is echoed.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pilotlight.model.errors import PlatformError
from pilotlight.model.function import Code, FunctionVersion, Isolation, Logging, merged_digest
from pilotlight.model.ids import AccountId, Digest, EnvironmentId, RequestId, RuntimeName
from pilotlight.model.invocation import Invocation, InvocationReport, InvocationResult
from pilotlight.ports.functions import Resolved
from pilotlight.ports.invoke import StreamFlow
from pilotlight.ports.runtimes import HostRuntime, RuntimeChoice
from pilotlight.ports.sandbox import (
    Sandbox,
    SandboxExit,
    SandboxSpec,
    SandboxStart,
    SandboxStatus,
    SandboxUsage,
)
from pilotlight.ports.telemetry import LogLine
from pilotlight_guest import frames

PYTHON = RuntimeName("python3.11")


class _Guest(asyncio.Protocol):
    """The runtime: reads frames, does what the event says, answers in order."""

    def __init__(self, sandbox: ScriptedSandbox, init: str) -> None:
        self._sandbox = sandbox
        self._init = init
        self._buffer = b""
        self._queue: deque[tuple[int, bytes]] = deque()
        self._is_busy = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._say(0, frames.READY)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= frames.HEADER.size:
            length, sequence, kind = frames.HEADER.unpack_from(self._buffer)
            end = frames.HEADER.size + length
            if len(self._buffer) < end:
                return
            body, self._buffer = self._buffer[frames.HEADER.size : end], self._buffer[end:]
            if kind == frames.INIT:
                self._sandbox.init = json.loads(body)
                self._do_init()
            elif kind == frames.CREDIT:
                self._sandbox.credits.append(frames.CREDIT_BODY.unpack(body)[0])
            else:
                self._queue.append((sequence, body))
                self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _say(self, sequence: int, kind: int, body: bytes = b"") -> None:
        if self._transport is not None:
            self._transport.write(frames.frame(sequence, kind, body))

    def _do_init(self) -> None:
        loop = asyncio.get_running_loop()
        if self._init == "error":
            error = {"errorMessage": "no module", "errorType": "Runtime.ImportModuleError"}
            self._say(0, frames.INIT_ERROR, json.dumps(error).encode())
            self._sandbox.die(SandboxExit(1))
        elif self._init == "exit":
            self._sandbox.die(SandboxExit(3))
        elif self._init != "hang":
            loop.call_later(float(self._init), self._say, 0, frames.INIT_DONE)

    def _next(self) -> None:
        if self._is_busy or not self._queue:
            return
        self._is_busy = True
        self._sandbox.begun += 1
        sequence, body = self._queue.popleft()
        deadline_ms, size = frames.INVOKE_HEAD.unpack_from(body)
        head = body[frames.INVOKE_HEAD.size : frames.INVOKE_HEAD.size + size]
        self._sandbox.heads.append((deadline_ms, head.decode().split("\0")))
        payload = body[frames.INVOKE_HEAD.size + size :]
        event = json.loads(payload or b"null")
        script = event if isinstance(event, dict) else {}
        if "log" in script:
            self._sandbox.write(script["log"].encode())
        loop = asyncio.get_running_loop()
        if "sleep" in script:
            loop.call_later(script["sleep"], self._finish, sequence, script, payload)
        else:
            self._finish(sequence, script, payload)

    def _finish(self, sequence: int, script: Mapping[str, object], payload: bytes) -> None:
        if "exit" in script:
            self._sandbox.die(SandboxExit(int(str(script["exit"]))))
        elif "oom" in script:
            self._sandbox.die(SandboxExit(-9, oom_killed=True))
        elif "lie" in script and self._transport is not None:
            self._transport.write(bytes.fromhex(str(script["lie"])))
        elif "raise" in script:
            error = {"errorMessage": "handler failed", "errorType": script["raise"]}
            self._say(sequence, frames.ERROR, json.dumps(error).encode())
        elif "stream" in script:
            self._stream(sequence, script)
            return
        elif "size" in script:
            self._say(sequence, frames.RESULT, b'"' + b"x" * int(str(script["size"])) + b'"')
        else:
            self._say(sequence, frames.RESULT, payload)
        self._finished()

    def _stream(self, sequence: int, script: Mapping[str, object]) -> None:
        self._say(
            sequence, frames.STREAM_BEGIN, str(script.get("type", frames.BYTES_TYPE)).encode()
        )
        texts = script["stream"]
        for text in texts if isinstance(texts, list) else []:
            self._say(sequence, frames.STREAM_CHUNK, text.encode())
        hold_s = float(str(script.get("hold", 0)))
        asyncio.get_running_loop().call_later(hold_s, self._end_stream, sequence, script)

    def _end_stream(self, sequence: int, script: Mapping[str, object]) -> None:
        error = {"errorMessage": "stream failed", "errorType": script.get("broken")}
        is_broken = "broken" in script
        self._say(sequence, frames.STREAM_END, json.dumps(error).encode() if is_broken else b"")
        self._finished()

    def _finished(self) -> None:
        if self._sandbox.exit is None:
            self._is_busy = False
            self._next()


class ScriptedSandbox:
    """One sandbox; what happened to it is in its public attributes."""

    def __init__(self, spec: SandboxSpec) -> None:
        self.id: EnvironmentId = spec.id
        self.spec = spec
        self.start = SandboxStart("spawn", {"runtime": 10})
        self.channel, self._far = socket.socketpair()
        self.channel.settimeout(0)
        self._far.settimeout(0)
        self.log_fd, self._log_write = os.pipe()
        os.set_blocking(self.log_fd, False)
        os.set_blocking(self._log_write, False)
        self.exit: SandboxExit | None = None
        self.is_frozen = False
        self.freezes = 0
        self.begun = 0
        self.init: dict[str, object] = {}
        self.heads: list[tuple[int, list[str]]] = []
        self.credits: list[int] = []
        self._died = asyncio.Event()
        self._guest: _Guest | None = None

    async def connect(self, init: str) -> None:
        loop = asyncio.get_running_loop()
        _, self._guest = await loop.create_connection(lambda: _Guest(self, init), sock=self._far)

    def usage(self) -> SandboxUsage:
        return SandboxUsage(peak_memory_bytes=33 * 1024 * 1024)

    def freeze(self) -> None:
        self.is_frozen = True
        self.freezes += 1

    def thaw(self) -> None:
        self.is_frozen = False

    async def wait(self) -> SandboxExit:
        await self._died.wait()
        assert self.exit is not None
        return self.exit

    def write(self, data: bytes) -> None:
        os.write(self._log_write, data)

    def die(self, how: SandboxExit) -> None:
        """End, with this status; the channel closes."""
        if self.exit is None:
            self.exit = how
            if self._guest is not None:
                # What was written is flushed first, as a kernel does for a dead process.
                asyncio.get_running_loop().call_soon(self._guest.close)
            self._died.set()

    def close(self) -> None:
        self.die(SandboxExit(-9))
        self.channel.close()
        os.close(self.log_fd)
        os.close(self._log_write)


class ScriptedDriver:
    """Makes scripted sandboxes.

    Attributes:
        inits: for the next sandboxes in turn: seconds init takes, ``error``, ``exit``, ``hang``.
        failures: raised by the next creates in turn.
        create_s: how long a create takes.
        made: every sandbox ever made, in order.
    """

    isolation = Isolation.MEMORY

    def __init__(self, *, create_s: float = 0.01, init: str = "0.05") -> None:
        self.inits: deque[str] = deque()
        self.failures: deque[Exception] = deque()
        self.create_s = create_s
        self.made: list[ScriptedSandbox] = []
        self.live: dict[EnvironmentId, ScriptedSandbox] = {}
        self._init = init

    async def create(self, spec: SandboxSpec) -> Sandbox:
        if spec.id in self.live:
            return self.live[spec.id]
        await asyncio.sleep(self.create_s)
        if self.failures:
            raise self.failures.popleft()
        sandbox = ScriptedSandbox(spec)
        self.live[spec.id] = sandbox
        self.made.append(sandbox)
        await sandbox.connect(self.inits.popleft() if self.inits else self._init)
        return sandbox

    async def poll(self, sandbox: EnvironmentId) -> SandboxStatus | None:
        found = self.live.get(sandbox)
        return None if found is None else SandboxStatus(sandbox, found.exit)

    async def destroy(self, sandbox: EnvironmentId, *, grace_s: float = 0.0) -> None:
        del grace_s
        found = self.live.pop(sandbox, None)
        if found is not None:
            found.close()

    async def adopt(self) -> tuple[EnvironmentId, ...]:
        return ()

    async def aclose(self) -> None:
        for sandbox in list(self.live):
            await self.destroy(sandbox)


class CachedCode:
    """A code cache that has everything, except what is listed as missing."""

    def __init__(self) -> None:
        self.missing: set[Digest] = set()

    async def ensure(self, code: Digest, runtime: RuntimeName | None) -> Path:
        del runtime
        if code in self.missing:
            raise KeyError(code)
        return Path("/nowhere") / code

    async def ensure_merged(self, packages: Sequence[Digest], runtime: RuntimeName | None) -> Path:
        for package in packages:
            await self.ensure(package, runtime)
        return Path("/nowhere") / merged_digest(packages)

    def is_cached(self, code: Digest) -> bool:
        return code not in self.missing


class OneRuntime:
    """A host that has one Python, and no substitute for anything else."""

    def installed(self) -> Mapping[RuntimeName, HostRuntime]:
        runtime = HostRuntime(PYTHON, "3.11.7", Path("/usr/bin/python3"), Path("/usr"))
        return {PYTHON: runtime}

    def choose(self, wanted: RuntimeName) -> RuntimeChoice | None:
        found = self.installed().get(wanted)
        return None if found is None else RuntimeChoice(found, substituted=False)


@dataclass
class RecordedLogs:
    """A log sink that keeps everything."""

    lines: list[LogLine] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)
    reports: list[InvocationReport] = field(default_factory=list)

    def line(self, line: LogLine) -> None:
        self.lines.append(line)

    def start(
        self, report_of: FunctionVersion, stream: str, request_id: str, wall_s: float
    ) -> None:
        del report_of, stream, wall_s
        self.starts.append(request_id)

    def report(self, report: InvocationReport, stream: str) -> None:
        del stream
        self.reports.append(report)

    def texts(self, request_id: str | None = None) -> list[str]:
        """Texts of all lines, or of one request's."""
        return [
            line.text for line in self.lines if request_id is None or line.request_id == request_id
        ]


@dataclass
class RecordedStream:
    """A `StreamTaker` that keeps everything and tells nobody, until `take` is called."""

    content_type: str | None = None
    pieces: list[bytes] = field(default_factory=list)
    flow: StreamFlow | None = None
    results: list[InvocationResult | PlatformError] = field(default_factory=list)

    def began(self, content_type: str, flow: StreamFlow) -> None:
        assert self.content_type is None
        self.content_type, self.flow = content_type, flow

    def chunk(self, data: bytes) -> None:
        assert not self.results
        self.pieces.append(data)

    def take(self, count: int) -> None:
        """Tell that so many bytes were taken."""
        assert self.flow is not None
        self.flow.taken(count)

    def __call__(self, result: InvocationResult | PlatformError) -> None:
        self.results.append(result)


@dataclass
class RecordedTelemetry:
    """Counts what it is told."""

    reports: list[InvocationReport] = field(default_factory=list)
    throttles: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    waiting: int = 0

    def finished(self, report: InvocationReport) -> None:
        self.reports.append(report)

    def throttled(self, function: FunctionVersion, reason: str) -> None:
        del function
        self.throttles.append(reason)

    def platform_failure(self, component: str, reason: str) -> None:
        self.failures.append((component, reason))

    def waiters(self, delta: int) -> None:
        self.waiting += delta
        assert self.waiting >= 0


class OneView:
    """A view that holds the functions it was given."""

    def __init__(self) -> None:
        self.revision = 1
        self.reservations: dict[tuple[str, str], int] = {}
        self.provisioned: dict[tuple[str, str, str], int] = {}
        self._functions: dict[tuple[str, str, str], FunctionVersion] = {}

    def put(self, function: FunctionVersion) -> FunctionVersion:
        """Add or replace a version."""
        self._functions[function.account, function.name, function.version] = function
        self.revision += 1
        return function

    def drop(self, function: FunctionVersion) -> None:
        """Delete a version."""
        self._functions.pop((function.account, function.name, function.version), None)
        self.revision += 1

    def resolve(self, account: str, name: str, qualifier: str | None) -> Resolved | None:
        found = self._functions.get((account, name, qualifier or "$LATEST"))
        return None if found is None else Resolved(found, qualifier)

    def url(self, url_id: str) -> None:
        del url_id


class CountedIds:
    """Identities in order."""

    def __init__(self) -> None:
        self._next = 0

    def uuid(self) -> str:
        self._next += 1
        return f"00000000-0000-4000-8000-{self._next:012d}"

    def token(self, length: int) -> str:
        self._next += 1
        return f"a{self._next:0{length - 1}d}"


def a_function(name: str = "hello", **changes: object) -> FunctionVersion:
    """A function version; any attribute can be given."""
    values: dict[str, object] = {
        "account": AccountId("000000000000"),
        "region": "us-east-1",
        "name": name,
        "version": "$LATEST",
        "runtime": PYTHON,
        "handler": "app.handler",
        "role": "arn:aws:iam::000000000000:role/r",
        "code": Code("sha", 1, Digest("a" * 64)),
        "logging": Logging(f"/aws/lambda/{name}"),
        "last_modified": "2026-11-24T00:00:00.000+0000",
        "revision_id": "1",
    }
    return FunctionVersion(**(values | changes))  # type: ignore[arg-type]  # keywords of a test


def an_invocation(
    function: FunctionVersion,
    number: int,
    event: object = None,
    *,
    now: Callable[[], float] = lambda: 0.0,
    wants_log: bool = False,
    wants_stream: bool = False,
) -> Invocation:
    """An invocation of a function with a request id made of a number."""
    return Invocation(
        request_id=RequestId(f"00000000-0000-4000-9000-{number:012d}"),
        function=function,
        invoked_arn=function.arn,
        payload=json.dumps(event).encode(),
        wants_log=wants_log,
        arrived_s=now(),
        wants_stream=wants_stream,
    )
