"""One execution environment on this worker: the shell around its table machine.

It turns frames, exits and timers into events and carries out the instructions. Everything here is
synchronous and runs on the loop; what must wait (making and removing the sandbox) is the host's.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from dataclasses import dataclass

from pilotlight.dataplane.worker import answers, environment, variables
from pilotlight.dataplane.worker.answers import Failure
from pilotlight.dataplane.worker.channel import Channel
from pilotlight.dataplane.worker.environment import Life, can_assign, step
from pilotlight.dataplane.worker.logpipe import LogPipe
from pilotlight.dataplane.worker.settings import WorkerSettings
from pilotlight.dataplane.worker.timers import Timers
from pilotlight.model.environment import EnvironmentState as S
from pilotlight.model.errors import ApiError, PlatformError
from pilotlight.model.function import Isolation
from pilotlight.model.ids import EnvironmentId
from pilotlight.model.invocation import (
    ColdStart,
    Invocation,
    InvocationReport,
    InvocationResult,
)
from pilotlight.model.limits import LOG_TAIL_BYTES, SYNC_RESPONSE_BYTES
from pilotlight.model.loglines import end_line, report_line, start_line
from pilotlight.ports.clock import Clock
from pilotlight.ports.sandbox import Sandbox, SandboxExit
from pilotlight.ports.telemetry import LogLine, LogSink, Telemetry
from pilotlight.ports.worker import (
    EnvironmentOrder,
    EnvironmentOwner,
    EnvironmentStatus,
    StartFailure,
    StartFault,
)
from pilotlight_guest import frames

_MIB = 1024 * 1024
_ASSIGNED = environment.Assigned()
_ANSWERED = environment.Answered()
_INIT_SEQUENCE = 0
_HEAD_BYTES_MAX = 65_535
_LONG_MS = 5.0
"""After a run this long the memory counters are always read: it does not feel it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all environments of a worker share."""

    settings: WorkerSettings
    clock: Clock
    logs: LogSink
    telemetry: Telemetry
    timers: Timers


class _Sent:
    """One invocation that was sent; times count from the moment it is the oldest."""

    __slots__ = ("invocation", "sequence", "started_s", "waited_us")

    def __init__(self, invocation: Invocation, sequence: int, waited_us: int) -> None:
        self.invocation = invocation
        self.sequence = sequence
        self.waited_us = waited_us
        self.started_s = 0.0


class HostedEnvironment:
    """An environment, from the order to its end; an `EnvironmentHandle` for its owner.

    ``started`` is set when init is over, well or not; ``ended`` when the sandbox must be removed.
    The owner hears exactly one of ``start_failed`` and ``lost``, last.
    """

    def __init__(
        self, order: EnvironmentOrder, owner: EnvironmentOwner, around: Surroundings
    ) -> None:
        self.order = order
        self.life = Life()
        self.ended = asyncio.Event()
        self.started = asyncio.Event()
        self.start = "-"
        self.exit: SandboxExit | None = None
        self.phases_us: dict[str, int] = {}
        self.log_stream = variables.log_stream_name(
            order.function.version, order.id, around.clock.wall()
        )
        self._owner = owner
        self._around = around
        self.channel: Channel | None = None
        self._sandbox: Sandbox | None = None
        self._pipe: LogPipe | None = None
        self._sent: deque[_Sent] = deque()
        self._next = _INIT_SEQUENCE + 1
        self._answer: tuple[str, str | None, bytes] = ("", None, b"")
        self._failure: Failure | None = None
        self._start_failure: StartFailure | None = None
        self._has_greeted = False
        self._has_logged = False
        self._is_settled = False
        self._tail: bytearray | None = None
        self._asked_s = around.clock.monotonic()
        self._init_began_s = 0.0
        self._init_ms = 0.0
        self._invocations = 0
        self._peak_mib = 0
        self._usage_read_s = -math.inf
        self._do = {
            environment.SendInit: self._send_init,
            environment.Offer: self._offer,
            environment.FailStart: self._fail_start,
            environment.Thaw: self._thaw,
            environment.Freeze: self._freeze,
            environment.SendInvoke: self._send_invoke,
            environment.Deliver: self._deliver,
            environment.FailRunning: self._fail_running,
            environment.Rest: self._rest,
            environment.Destroy: self._destroy,
        }
        around.telemetry.environments(S.CREATING, 1)

    # What the owner does.

    @property
    def id(self) -> EnvironmentId:
        """Identity given in the order."""
        return self.order.id

    def invoke(self, epoch: int, invocation: Invocation, waited_us: int) -> bool:
        """Send one invocation; see `EnvironmentHandle`."""
        if epoch != self.order.epoch or not can_assign(self.life, environment.MAX_IN_FLIGHT):
            return False
        self._sent.append(_Sent(invocation, self._next, waited_us))
        self._next += 1
        self._apply(_ASSIGNED)
        return True

    def retire(self, epoch: int) -> None:
        """End once idle; see `EnvironmentHandle`."""
        if epoch == self.order.epoch:
            self.retire_now()

    # What the host does.

    def retire_now(self) -> None:
        """End once idle, for a reason of the worker: keep-alive, eviction, drain."""
        if self._start_failure is None:
            self._start_failure = StartFailure(
                StartFault.STALE, PlatformError("the environment was retired before it was ready")
            )
        self._apply(environment.Retired())

    def failed(self, failure: StartFailure) -> None:
        """There will be no sandbox."""
        self._start_failure = failure
        self._apply(environment.CreateFailed())

    def sandbox_ready(self, sandbox: Sandbox, channel: Channel, pipe: LogPipe) -> None:
        """The sandbox is made and its channel open: begin the init phase."""
        self._sandbox, self.channel, self._pipe = sandbox, channel, pipe
        self.start = sandbox.start.how
        self._apply(environment.SandboxReady())

    def init_took_too_long(self) -> None:
        """The init limit is over; nothing happens when init has ended meanwhile."""
        if self.life.phase is S.INITIALIZING:
            self._init_failed("timeout", None, b"")

    def died(self) -> None:
        """The sandbox is dead; ``exit`` holds how, where that is known."""
        self._drain_logs()
        if self.life.phase is S.INITIALIZING:
            self._init_failed("error", None, b"")
            return
        head = self._sent[0].invocation if self._sent else None
        if head is not None:
            self._failure = answers.exited(head.request_id, self.exit)
        self._apply(environment.Exited())

    def release(self) -> Channel | None:
        """Stop reading; returns the channel that must be closed before the sandbox goes."""
        self._around.timers.forgets(self)
        if self._pipe is not None:
            self._pipe.close()
        return self.channel

    def deadline_reached(self) -> None:
        """The running invocation ran into its timeout."""
        if not self._sent:
            return
        invocation = self._sent[0].invocation
        self._failure = answers.timed_out(
            invocation.request_id, invocation.function.timeout_s, self._around.clock.wall()
        )
        self._drain_logs()
        self._apply(environment.TimedOut())

    def idle_long(self) -> None:
        """It has been idle long enough to be frozen."""
        if self.life.phase is S.IDLE:
            self._apply(environment.IdleLong())

    def write_line(self, text: str) -> None:
        """Put one line into the function's log, for the running invocation if there is one."""
        if self._tail is not None:
            self._extend_tail(text)
        self._has_logged = True
        function = self.order.function
        self._around.logs.line(
            LogLine(
                self._around.clock.wall(),
                function.account,
                function.name,
                function.version,
                function.logging.log_group,
                self.log_stream,
                self._request_id(),
                text,
            )
        )

    def status(self, *, isolation: Isolation) -> EnvironmentStatus:
        """The environment, for people."""
        now_s = self._around.clock.monotonic()
        idle_s = self._around.timers.idle_since(self)
        function = self.order.function
        return EnvironmentStatus(
            id=self.id,
            worker=self._around.settings.worker,
            account=function.account,
            function=function.name,
            version=function.version,
            runtime=function.runtime or "",
            isolation=isolation,
            state=self.life.phase,
            is_frozen=self.life.is_frozen,
            frontend=self.order.frontend,
            epoch=self.order.epoch,
            memory_mib=function.memory_mib,
            peak_memory_mib=self._peak_mib,
            invocations=self._invocations,
            in_flight=self.life.in_flight,
            age_s=now_s - self._asked_s,
            idle_s=None if idle_s is None else now_s - idle_s,
            start=self.start,
            log_stream=self.log_stream,
        )

    # What the runtime says.

    def frame_received(self, sequence: int, kind: int, body: bytes) -> None:
        """Judge one frame of the runtime."""
        if kind in (frames.RESULT, frames.ERROR):
            if self._sent and self._sent[0].sequence == sequence:
                self._answered(kind, body)
            else:
                self.lie_received("it answered what it was not asked")
        elif kind == frames.READY and not self._has_greeted and not body and not sequence:
            self._has_greeted = True
        elif self.life.phase is not S.INITIALIZING or sequence != _INIT_SEQUENCE:
            self.lie_received(f"it sent a frame of type {kind} out of turn")
        elif kind == frames.INIT_DONE and not body:
            self._init_done()
        elif kind == frames.INIT_ERROR:
            self._drain_logs()
            self._init_failed("error", answers.error_type_of(body), body)
        else:
            self.lie_received(f"it sent a frame of type {kind} with a body")

    def lie_received(self, lie: str) -> None:
        """The runtime broke the protocol: it is killed and its running invocation fails."""
        if self.life.phase is S.DEAD:
            return
        self._drain_logs()
        if self.life.phase is S.INITIALIZING:
            self._init_failed("error", "Runtime.ExitError", b"", lie=lie)
            return
        if self._sent:
            self._failure = answers.lied(self._sent[0].invocation.request_id, lie)
        self.write_line(f"[pilotlight] the runtime was stopped: {lie}")
        self._apply(environment.Lied())

    def channel_closed(self) -> None:
        """The runtime closed its end: the host finds out why."""
        self.started.set()
        self.ended.set()

    # Carrying out instructions.

    def _apply(self, event: environment.Event) -> None:
        before = self.life
        result = step(before, event)
        self.life = after = result.state
        if after.phase is not before.phase:
            self._around.telemetry.environments(before.phase, -1)
            if after.phase is not S.DEAD:
                self._around.telemetry.environments(after.phase, 1)
        for instruction in result.instructions:
            self._do[type(instruction)]()

    def _send_init(self) -> None:
        self._init_began_s = self._around.clock.monotonic()
        if self.order.invocation is not None:
            self._log_start(self.order.invocation)

    def send_init_frame(self, task_root: str) -> None:
        """Write the INIT frame; separate from the event because only the host knows the root."""
        body = variables.init_document(
            self.order.function,
            task_root=task_root,
            log_stream=self.log_stream,
            extra=self._around.settings.extra_environment,
        )
        if self.channel is not None:
            self.channel.send(frames.frame(_INIT_SEQUENCE, frames.INIT, body))

    def _init_done(self) -> None:
        took_s = self._around.clock.monotonic() - self._init_began_s
        self._init_ms = took_s * 1000
        self.phases_us["init"] = int(took_s * 1e6)
        self._drain_logs()
        self._apply(environment.InitDone())

    def _offer(self) -> None:
        self.started.set()
        self._owner.ready(self)

    def _rest(self) -> None:
        self._around.timers.rests(self, self._around.clock.monotonic())

    def _thaw(self) -> None:
        if self._sandbox is not None:
            self._sandbox.thaw()

    def _freeze(self) -> None:
        if self._sandbox is not None:
            self._drain_logs()
            self._sandbox.freeze()

    def _send_invoke(self) -> None:
        sent = self._sent[-1]
        invocation = sent.invocation
        fields = (
            invocation.request_id,
            invocation.invoked_arn,
            invocation.trace_id,
            invocation.client_context,
            "",
            "",
        )
        head = "\0".join(fields).encode()
        if head.count(b"\0") != len(fields) - 1 or len(head) > _HEAD_BYTES_MAX:
            safe = (field.replace("\0", "")[:8192] for field in fields)
            head = "\0".join(safe).encode("utf-8", "replace")[:_HEAD_BYTES_MAX]
        if len(self._sent) == 1:
            self._begin(sent)
        deadline_s = self._around.clock.wall() + self._timeout_left_s(sent)
        body = frames.invoke_body(int(deadline_s * 1000), head, invocation.payload)
        if self.channel is not None:
            self.channel.send(frames.frame(sent.sequence, frames.INVOKE, body))

    def _timeout_left_s(self, sent: _Sent) -> float:
        timeout_s = sent.invocation.function.timeout_s
        if sent.invocation is self.order.invocation:
            return max(0.001, timeout_s - (self._around.clock.monotonic() - self._init_began_s))
        return timeout_s

    def _begin(self, sent: _Sent) -> None:
        invocation = sent.invocation
        self._has_logged = False
        sent.started_s = now_s = self._around.clock.monotonic()
        if invocation is self.order.invocation:
            sent.started_s = self._init_began_s
        else:
            self._log_start(invocation)
        self._around.timers.runs(self, now_s + self._timeout_left_s(sent))

    def _log_start(self, invocation: Invocation) -> None:
        self._tail = bytearray() if invocation.wants_log else None
        version = invocation.function.version
        if self._tail is not None:
            self._extend_tail(start_line(invocation.request_id, version))
        self._around.logs.start(
            invocation.function,
            self.log_stream,
            invocation.request_id,
            self._around.clock.wall(),
        )

    def _answered(self, kind: int, body: bytes) -> None:
        self._drain_logs()
        if len(body) > SYNC_RESPONSE_BYTES:
            self._answer = ("error", "Unhandled", answers.response_too_large())
        elif kind == frames.RESULT:
            self._answer = ("success", None, body)
        else:
            self._answer = ("error", "Unhandled", body)
        self._apply(_ANSWERED)

    def _deliver(self) -> None:
        sent = self._sent.popleft()
        outcome, function_error, payload = self._answer
        self._answer = ("", None, b"")
        result = self._settle(sent, outcome, function_error, payload)
        has_logged = self._has_logged
        if self._sent:
            self._begin(self._sent[0])
        self._owner.answered(result, has_logged=has_logged)
        if self.life.phase is S.IDLE and self._is_old():
            self.retire_now()

    def _is_old(self) -> bool:
        age_s = self._around.clock.monotonic() - self._asked_s
        return age_s > self._around.settings.max_age_s

    def _fail_running(self) -> None:
        sent = self._sent[0]
        failure = self._failure or answers.exited(sent.invocation.request_id, self.exit)
        for line in failure.lines:
            self.write_line(line)
        self._sent.popleft()
        result = self._settle(sent, failure.outcome, "Unhandled", failure.payload)
        self._owner.answered(result, has_logged=True)

    def _destroy(self) -> None:
        self._around.timers.forgets(self)
        self._sent.clear()
        self.started.set()
        self.ended.set()
        if not self._is_settled:
            self._is_settled = True
            self._owner.lost()

    def _fail_start(self) -> None:
        self._is_settled = True
        failure = self._start_failure or StartFailure(
            StartFault.SANDBOX, PlatformError("the sandbox ended before it was ready")
        )
        self._owner.start_failed(failure)

    # Init that fails.

    def _init_failed(
        self, status: str, error_type: str | None, payload: bytes, *, lie: str = ""
    ) -> None:
        init_ms = (self._around.clock.monotonic() - self._init_began_s) * 1000
        invocation = self.order.invocation
        failure = self._init_failure(invocation, status, payload, lie)
        for line in failure.lines if invocation is not None or status != "timeout" else ():
            self.write_line(line)
        if invocation is None:
            kind = error_type or (None if status == "timeout" else "Runtime.ExitError")
            self.write_line(answers.init_report(init_ms, status, kind))
            error = PlatformError(f"init failed: {status}")
            self._start_failure = StartFailure(StartFault.INIT, error, is_retryable=True)
        else:
            sent = _Sent(invocation, 0, 0)
            sent.started_s = self._init_began_s
            result = self._settle(sent, failure.outcome, "Unhandled", failure.payload)
            self._owner.answered(result, has_logged=True)
            self._start_failure = StartFailure(
                StartFault.INIT, PlatformError("init failed inside the invocation")
            )
        self._apply(environment.InitFailed())

    def _init_failure(
        self, invocation: Invocation | None, status: str, payload: bytes, lie: str
    ) -> Failure:
        request_id = invocation.request_id if invocation is not None else ""
        if status == "timeout":
            timeout_s = self.order.function.timeout_s
            return answers.timed_out(request_id, timeout_s, self._around.clock.wall())
        if lie:
            return answers.lied(request_id, lie)
        if payload:
            body = payload if len(payload) <= SYNC_RESPONSE_BYTES else answers.response_too_large()
            return Failure("error", body, ())
        return answers.exited(request_id, self.exit)

    # The facts of an invocation.

    def _settle(
        self, sent: _Sent, outcome: str, function_error: str | None, payload: bytes
    ) -> InvocationResult:
        invocation, function = sent.invocation, sent.invocation.function
        now_s = self._around.clock.monotonic()
        duration_ms = (now_s - sent.started_s) * 1000
        if outcome == "timeout":
            duration_ms = function.timeout_s * 1000.0
        is_first = self._invocations == 0 and self.order.invocation is None
        self._invocations += 1
        self._read_usage(now_s, duration_ms, is_first=is_first)
        init_ms = self._init_ms if is_first else None
        report = InvocationReport(
            invocation.request_id,
            self.order.id,
            function,
            self._around.clock.wall(),
            outcome,
            duration_ms,
            math.ceil(duration_ms + (init_ms or 0.0)) or 1,
            init_ms,
            self._peak_mib,
            self._cold_start(sent) if sent.waited_us and self._invocations == 1 else None,
        )
        self._around.logs.report(report, self.log_stream)
        self._around.telemetry.finished(report)
        tail = None
        if self._tail is not None:
            tail = self._take_tail(report)
        return InvocationResult(payload, function_error, function.version, report, tail)

    def _cold_start(self, sent: _Sent) -> ColdStart:
        phases = dict(self.phases_us)
        phases["placement"] = self.order.placement_us
        phases["queue"] = max(0, sent.waited_us - sum(phases.values()))
        return ColdStart(self.start, phases)

    def _read_usage(self, now_s: float, duration_ms: float, *, is_first: bool) -> None:
        period_s = self._around.settings.usage_period_s
        is_due = is_first or duration_ms > _LONG_MS or now_s - self._usage_read_s > period_s
        if is_due and self._sandbox is not None:
            self._usage_read_s = now_s
            peak = math.ceil(self._sandbox.usage().peak_memory_bytes / _MIB)
            limit = self.order.function.memory_mib
            self._peak_mib = max(self._peak_mib, min(peak, limit))

    def _drain_logs(self) -> None:
        if self._pipe is not None:
            self._pipe.drain()

    def _request_id(self) -> str:
        if self._sent:
            return self._sent[0].invocation.request_id
        bound = self.order.invocation
        return bound.request_id if bound is not None and self.life.phase is S.INITIALIZING else ""

    def _extend_tail(self, text: str) -> None:
        if self._tail is None:
            return
        self._tail += text.encode("utf-8", "replace") + b"\n"
        if len(self._tail) > 2 * LOG_TAIL_BYTES:
            del self._tail[:-LOG_TAIL_BYTES]

    def _take_tail(self, report: InvocationReport) -> bytes:
        self._extend_tail(end_line(report.request_id))
        self._extend_tail(report_line(report))
        tail = bytes(self._tail or b"")[-LOG_TAIL_BYTES:]
        self._tail = None
        return tail


def missing_runtime(runtime: str | None) -> ApiError:
    """What a caller is told when this host can't run the function's runtime."""
    return ApiError(
        "InvalidRuntimeException",
        f"This host has no runtime {runtime!r} and no substitute is allowed. Run "
        f"`pilotlight runtime add {runtime} PATH`, or choose a runtime that "
        "`pilotlight runtime ls` shows.",
    )
