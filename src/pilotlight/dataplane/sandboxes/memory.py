"""In-memory sandbox driver: the executable specification, and the one simulations use.

No process is started. A scripted guest answers frames on the other end of a socket pair, in the
loop's own callbacks: nothing depends on chance or on the host's speed, so a simulation with the
same seed gives the same trace.

The runtime's name chooses the script: ``memory:<script>`` or ``memory:<script>:<number>``.

=============== ==================================================================================
echo            answers every event with itself
slow:MS         the same, MS milliseconds of loop time later
talk            writes ``line on stdout`` and ``line on stderr`` to its log, answers null
fail            answers an error: ``ValueError``, ``wanted``
spin            never answers
stubborn        answers ``"deaf"``; from then on ignores SIGTERM
exit:CODE       ends with CODE at its first invocation
killed:SIGNAL   dies by SIGNAL at its first invocation
oom             dies by SIGKILL at its first invocation, for its memory limit
wrong-sequence  answers another invocation than the one that runs
wrong-type      sends a frame of an unknown type
too-long        announces a frame above ``MAX_BODY``
init-fail       answers INIT with an error and exits 1
init-hang       never answers INIT
init-exit:CODE  ends with CODE at INIT
no-create       cannot be created
create:MS       takes MS milliseconds of loop time to be created, then echoes
=============== ==================================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable

from pilotlight.model.errors import SandboxError
from pilotlight.model.function import Isolation
from pilotlight.model.ids import EnvironmentId
from pilotlight.ports.sandbox import (
    SandboxExit,
    SandboxSpec,
    SandboxStart,
    SandboxStatus,
    SandboxUsage,
)
from pilotlight_guest.frames import (
    ERROR,
    HEADER,
    INIT,
    INIT_DONE,
    INIT_ERROR,
    INVOKE,
    INVOKE_HEAD,
    MAX_BODY,
    READY,
    RESULT,
    SHUTDOWN,
    frame,
)

_PREFIX = "memory:"
_DEFAULT_NUMBER = {"slow": 10, "exit": 7, "killed": 9, "init-exit": 7, "create": 10}
_SCRIPTS = frozenset(
    {"echo", "talk", "fail", "spin", "stubborn", "oom", "wrong-sequence", "wrong-type"}
    | {"too-long", "init-fail", "init-hang", "no-create", *_DEFAULT_NUMBER}
)
_UNKNOWN_TYPE = 99


class MemorySandbox:
    """One scripted guest with its end of the channel and of the log pipe."""

    def __init__(self, spec: SandboxSpec, script: str, number: int) -> None:
        self.id = spec.id
        self.start = SandboxStart("spawn", {"spawn": 0, "runtime": 0})
        self.exit: SandboxExit | None = None
        self._script = script
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._dead = asyncio.Event()
        self._is_frozen = False
        self._is_deaf = False
        self._received = bytearray()
        self._unsent = bytearray()
        self._timers: list[asyncio.TimerHandle] = []
        self._due: list[Callable[[], None]] = []
        self.channel, self._own_end = socket.socketpair()
        self.channel.settimeout(0)
        self._own_end.settimeout(0)
        self.log_fd, self._log_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.add_reader(self._own_end, self._readable)
        self._send(0, READY)

    def usage(self) -> SandboxUsage:
        """Nothing is used."""
        return SandboxUsage()

    def freeze(self) -> None:
        """Stop reading, writing and the timers' effects."""
        if self.exit is None and not self._is_frozen:
            self._is_frozen = True
            self._loop.remove_reader(self._own_end)
            self._loop.remove_writer(self._own_end)

    def thaw(self) -> None:
        """Go on; what fell due meanwhile happens now, in its order."""
        if self.exit is None and self._is_frozen:
            self._is_frozen = False
            self._loop.add_reader(self._own_end, self._readable)
            due, self._due = self._due, []
            for act in due:
                act()
            self._flush()

    async def wait(self) -> SandboxExit:
        await self._dead.wait()
        assert self.exit is not None  # noqa: S101  # set before the event
        return self.exit

    def terminate(self) -> None:
        """SIGTERM."""
        self.thaw()
        if not self._is_deaf:
            self.die(SandboxExit(-signal.SIGTERM))

    def die(self, how: SandboxExit) -> None:
        """End now; the worker sees end of file on channel and log. Idempotent."""
        if self.exit is not None:
            return
        self.exit = how
        for timer in self._timers:
            timer.cancel()
        self._loop.remove_reader(self._own_end)
        self._loop.remove_writer(self._own_end)
        self._own_end.close()
        os.close(self._log_write)
        self._dead.set()

    def close(self) -> None:
        """Give up the worker's ends. Idempotent."""
        self.channel.close()
        if self.log_fd >= 0:
            os.close(self.log_fd)
            self.log_fd = -1

    # The guest's side.

    def _readable(self) -> None:
        try:
            data = self._own_end.recv(1 << 18)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self.die(SandboxExit(0))
            return
        self._received += data
        while self.exit is None and len(self._received) >= HEADER.size:
            length, sequence, kind = HEADER.unpack_from(self._received)
            end = HEADER.size + length
            if len(self._received) < end:
                return
            body = bytes(self._received[HEADER.size : end])
            del self._received[:end]
            self._frame(sequence, kind, body)

    def _frame(self, sequence: int, kind: int, body: bytes) -> None:
        if kind == INIT:
            self._init(sequence)
        elif kind == INVOKE:
            _, head_length = INVOKE_HEAD.unpack_from(body)
            self._invoke(sequence, body[INVOKE_HEAD.size + head_length :])
        else:
            self.die(SandboxExit(0 if kind == SHUTDOWN else 1))

    def _init(self, sequence: int) -> None:
        if self._script == "init-fail":
            self._send(sequence, INIT_ERROR, _error("Runtime.ImportModuleError", "no module"))
            self.die(SandboxExit(1))
        elif self._script == "init-exit":
            self.die(SandboxExit(self._number))
        elif self._script != "init-hang":
            self._send(sequence, INIT_DONE)

    def _invoke(self, sequence: int, event: bytes) -> None:
        match self._script:
            case "exit":
                self.die(SandboxExit(self._number))
            case "killed":
                self.die(SandboxExit(-self._number))
            case "oom":
                self.die(SandboxExit(-signal.SIGKILL, oom_killed=True))
            case "slow":
                self._later(lambda: self._send(sequence, RESULT, event))
            case "spin":
                pass
            case _:
                self._answer(sequence, event)

    def _answer(self, sequence: int, event: bytes) -> None:
        match self._script:
            case "talk":
                os.write(self._log_write, b"line on stdout\nline on stderr\n")
                self._send(sequence, RESULT, b"null")
            case "stubborn":
                self._is_deaf = True
                self._send(sequence, RESULT, b'"deaf"')
            case "fail":
                self._send(sequence, ERROR, _error("ValueError", "wanted"))
            case "wrong-sequence":
                self._send(sequence + 1, RESULT, event)
            case "wrong-type":
                self._send(sequence, _UNKNOWN_TYPE, event)
            case "too-long":
                self._write(HEADER.pack(MAX_BODY + 1, sequence, RESULT))
            case _:
                self._send(sequence, RESULT, event)

    def _later(self, act: Callable[[], None]) -> None:
        def fall_due() -> None:
            if self._is_frozen:
                self._due.append(act)
            else:
                act()

        self._timers = [timer for timer in self._timers if timer.when() > self._loop.time()]
        self._timers.append(self._loop.call_later(self._number / 1000, fall_due))

    def _send(self, sequence: int, kind: int, body: bytes = b"") -> None:
        self._write(frame(sequence, kind, body))

    def _write(self, data: bytes) -> None:
        self._unsent += data
        self._flush()

    def _flush(self) -> None:
        if self.exit is not None:
            return
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while self._unsent:
                del self._unsent[: self._own_end.send(self._unsent)]
        if self._unsent:
            self._loop.add_writer(self._own_end, self._flush)
        else:
            self._loop.remove_writer(self._own_end)


def _error(kind: str, message: str) -> bytes:
    error = {"errorMessage": message, "errorType": kind, "requestId": "", "stackTrace": []}
    return json.dumps(error).encode()


class MemoryHost:
    """Stands for the machine: what runs on it outlives a driver that is given up."""

    def __init__(self) -> None:
        self.sandboxes: dict[EnvironmentId, MemorySandbox] = {}


class MemoryDriver:
    """See `SandboxDriver`; the module's text lists the scripts.

    Args:
        host: shared by drivers that stand for one worker before and after a restart.
    """

    def __init__(self, host: MemoryHost | None = None) -> None:
        self._host = MemoryHost() if host is None else host
        self._own: dict[EnvironmentId, MemorySandbox] = {}
        self._is_closed = False

    @property
    def isolation(self) -> Isolation:
        return Isolation.MEMORY

    async def create(self, spec: SandboxSpec) -> MemorySandbox:
        script, number = _script(spec)
        await asyncio.sleep(number / 1000 if script == "create" else 0)
        known = self._own.get(spec.id)
        if known is not None:
            return known
        if self._is_closed:
            raise SandboxError(f"sandbox {spec.id}: the memory driver is closed")
        sandbox = MemorySandbox(spec, script, number)
        self._own[spec.id] = self._host.sandboxes[spec.id] = sandbox
        return sandbox

    async def poll(self, sandbox: EnvironmentId) -> SandboxStatus | None:
        known = self._own.get(sandbox)
        return None if known is None else SandboxStatus(sandbox, known.exit)

    async def destroy(self, sandbox: EnvironmentId, *, grace_s: float = 0.0) -> None:
        known = self._own.get(sandbox)
        if known is None:
            return
        try:
            if grace_s > 0:
                known.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(grace_s):
                        await known.wait()
        finally:
            self._remove(known)
        await asyncio.sleep(0)

    def _remove(self, sandbox: MemorySandbox) -> None:
        sandbox.die(SandboxExit(-signal.SIGKILL))
        sandbox.close()
        for table in (self._own, self._host.sandboxes):
            if table.get(sandbox.id) is sandbox:
                del table[sandbox.id]

    async def adopt(self) -> tuple[EnvironmentId, ...]:
        """Destroy what another driver left on the host."""
        for name, sandbox in tuple(self._host.sandboxes.items()):
            if name not in self._own:
                sandbox.die(SandboxExit(-signal.SIGKILL))
                del self._host.sandboxes[name]
        return ()

    async def aclose(self) -> None:
        self._is_closed = True
        for sandbox in tuple(self._own.values()):
            self._remove(sandbox)


def _script(spec: SandboxSpec) -> tuple[str, int]:
    """Script and number that a runtime's name asks for.

    Raises:
        SandboxError: no such script, or the one that cannot be created.
    """
    name, _, number = spec.runtime.removeprefix(_PREFIX).partition(":")
    is_number = not number or number.isdecimal()
    if not spec.runtime.startswith(_PREFIX) or name not in _SCRIPTS or not is_number:
        known = ", ".join(sorted(_SCRIPTS))
        raise SandboxError(
            f"sandbox {spec.id}: {spec.runtime!r} is no script of the memory driver; use"
            f" {_PREFIX} and one of {known}"
        )
    if name == "no-create":
        raise SandboxError(f"sandbox {spec.id}: the script {spec.runtime!r} is never created")
    return name, int(number or _DEFAULT_NUMBER.get(name, 0))
