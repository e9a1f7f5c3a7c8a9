"""One execution environment on this worker: the shell around its table machine.

It turns frames, exits and timers into events and carries out the instructions. Everything here is
synchronous and runs on the loop; what must wait (making and removing the sandbox) is the host's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from pilotlight.dataplane.worker import answers, environment, variables
from pilotlight.dataplane.worker.answers import Failure
from pilotlight.dataplane.worker.channel import Channel
from pilotlight.dataplane.worker.environment import BEGIN, Life
from pilotlight.dataplane.worker.journal import Journal
from pilotlight.dataplane.worker.logpipe import LogPipe
from pilotlight.dataplane.worker.meter import Meter
from pilotlight.dataplane.worker.settings import WorkerSettings
from pilotlight.dataplane.worker.stream import Stream, content_type_of
from pilotlight.dataplane.worker.timers import Timers
from pilotlight.model.environment import EnvironmentState as S
from pilotlight.model.errors import PlatformError
from pilotlight.model.function import Isolation
from pilotlight.model.ids import EnvironmentId
from pilotlight.model.invocation import (
    Invocation,
    InvocationResult,
)
from pilotlight.model.limits import SYNC_RESPONSE_BYTES
from pilotlight.ports.clock import Clock
from pilotlight.ports.sandbox import Sandbox, SandboxExit
from pilotlight.ports.telemetry import LogSink, Telemetry
from pilotlight.ports.worker import (
    EnvironmentOrder,
    EnvironmentOwner,
    EnvironmentStatus,
    StartFailure,
    StartFault,
)
from pilotlight_guest import frames

_ASSIGNED = environment.Assigned()
_ANSWERED = environment.Answered()
_INIT_SEQUENCE = 0
# Names of our own: an enumeration looks its members up slowly.
_IDLE, _INITIALIZING, _DEAD = S.IDLE, S.INITIALIZING, S.DEAD


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all environments of a worker share."""

    settings: WorkerSettings
    clock: Clock
    logs: LogSink
    telemetry: Telemetry
    timers: Timers


class _Sent:
    """One invocation that was sent; times count from the moment it is the oldest.

    ``stream`` is set once the runtime began to stream its answer.
    """

    __slots__ = ("invocation", "sequence", "started_s", "stream", "waited_us")

    def __init__(self, invocation: Invocation, sequence: int, waited_us: int) -> None:
        self.invocation = invocation
        self.sequence = sequence
        self.waited_us = waited_us
        self.started_s = 0.0
        self.stream: Stream | None = None


class HostedEnvironment:
    """An environment, from the order to its end; an `EnvironmentHandle` for its owner.

    ``started`` is set when init is over, well or not; ``ended`` when the sandbox must be removed.
    The owner hears exactly one of ``start_failed`` and ``lost``, last.
    """

    def __init__(
        self, order: EnvironmentOrder, owner: EnvironmentOwner, around: Surroundings
    ) -> None:
        self.order = order
        self._node = BEGIN
        self.ended = asyncio.Event()
        self.started = asyncio.Event()
        self.exit: SandboxExit | None = None
        self.meter = Meter(order, around.settings, around.clock)
        self.journal = Journal(order.function, order.id, around.logs, around.clock)
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
        self._is_settled = False
        self._asked_s = around.clock.monotonic()
        self._init_began_s = 0.0
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

    @property
    def life(self) -> Life:
        """Where it stands."""
        return self._node.life

    # What the owner does.

    @property
    def id(self) -> EnvironmentId:
        """Identity given in the order."""
        return self.order.id

    def invoke(self, epoch: int, invocation: Invocation, waited_us: int) -> bool:
        """Send one invocation; see `EnvironmentHandle`."""
        if epoch != self.order.epoch or not self._node.takes_more:
            return False
        self._sent.append(_Sent(invocation, self._next, waited_us))
        self._next += 1
        self._apply(_ASSIGNED)
        return True

    def credit(self, epoch: int, count: int) -> None:
        """Let the running invocation stream more; see `EnvironmentHandle`."""
        stream = self._sent[0].stream if self._sent else None
        if epoch != self.order.epoch or stream is None:
            return
        given = stream.give(count)
        if given and self.channel is not None:
            body = frames.CREDIT_BODY.pack(given)
            self.channel.send(frames.frame(self._sent[0].sequence, frames.CREDIT, body))

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
        """There will be no sandbox; nothing happens when it was retired while it was made."""
        if self.life.phase is S.CREATING:
            self._start_failure = failure
            self._apply(environment.CreateFailed())

    def sandbox_ready(self, sandbox: Sandbox, channel: Channel, pipe: LogPipe) -> None:
        """The sandbox is made and its channel open: begin the init phase."""
        self._sandbox, self.channel, self._pipe = sandbox, channel, pipe
        self.meter.made(sandbox)
        self._apply(environment.SandboxReady())

    def init_took_too_long(self) -> None:
        """The init limit is over; nothing happens when init has ended meanwhile."""
        if self.life.phase is _INITIALIZING:
            self._init_failed("timeout", None, b"")

    def died(self) -> None:
        """The sandbox is dead; ``exit`` holds how, where that is known."""
        self._drain_logs()
        if self.life.phase is _INITIALIZING:
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
        if self.life.phase is _IDLE:
            self._apply(environment.IdleLong())

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
            peak_memory_mib=self.meter.peak_mib,
            invocations=self.meter.invocations,
            in_flight=self.life.in_flight,
            age_s=now_s - self._asked_s,
            idle_s=None if idle_s is None else now_s - idle_s,
            start=self.meter.start,
            log_stream=self.journal.stream,
        )

    # What the runtime says.

    def frame_received(self, sequence: int, kind: int, body: bytes) -> None:
        """Judge one frame of the runtime."""
        if kind in (frames.RESULT, frames.ERROR):
            sent = self._sent[0] if self._sent else None
            if sent is not None and sent.sequence == sequence and sent.stream is None:
                self._answered(kind, body)
            else:
                self.lie_received("it answered what it was not asked")
        elif kind >= frames.STREAM_BEGIN:
            self._stream_received(sequence, kind, body)
        elif kind == frames.READY and not self._has_greeted and not body and not sequence:
            self._has_greeted = True
        elif self.life.phase is not _INITIALIZING or sequence != _INIT_SEQUENCE:
            self.lie_received(f"it sent a frame of type {kind} out of turn")
        elif kind == frames.INIT_DONE and not body:
            self._init_done()
        elif kind == frames.INIT_ERROR:
            self._drain_logs()
            self._init_failed("error", answers.error_type_of(body), body)
        else:
            self.lie_received(f"it sent a frame of type {kind} with a body")

    def _stream_received(self, sequence: int, kind: int, body: bytes) -> None:
        """Judge one frame of a streamed answer."""
        sent = self._sent[0] if self._sent else None
        if sent is None or sent.sequence != sequence:
            self.lie_received("it streamed what it was not asked")
        elif kind == frames.STREAM_BEGIN:
            self._stream_began(sent, content_type_of(body))
        elif sent.stream is None:
            self.lie_received("it went on with a stream that it had not begun")
        elif kind == frames.STREAM_CHUNK:
            lie = sent.stream.take(body)
            if lie is not None:
                self.lie_received(lie)
            elif sent.stream.is_whole:
                self.credit(self.order.epoch, len(body))
            else:
                self._owner.streamed(body)
        else:
            self._stream_ended(sent.stream, body)

    def _stream_began(self, sent: _Sent, content_type: str | None) -> None:
        if content_type is None or sent.stream is not None:
            self.lie_received("it began a stream that can't be")
            return
        wants_stream = sent.invocation.wants_stream
        sent.stream = Stream(content_type, is_whole=not wants_stream)
        if wants_stream:
            self._owner.stream_began(content_type)

    def _stream_ended(self, stream: Stream, error: bytes) -> None:
        whole = stream.whole()
        if error:
            self._answered(frames.ERROR, error)
        elif whole is None:
            self._answered(frames.ERROR, answers.response_too_large())
        else:
            self._answered(frames.RESULT, whole)

    def lie_received(self, lie: str) -> None:
        """The runtime broke the protocol: it is killed and its running invocation fails."""
        if self.life.phase is _DEAD:
            return
        self._drain_logs()
        if self.life.phase is _INITIALIZING:
            self._init_failed("error", "Runtime.ExitError", b"", lie=lie)
            return
        if self._sent:
            self._failure = answers.lied(self._sent[0].invocation.request_id, lie)
        self.journal.line(f"[pilotlight] the runtime was stopped: {lie}")
        self._apply(environment.Lied())

    def channel_closed(self) -> None:
        """The runtime closed its end: the host finds out why."""
        self.started.set()
        self.ended.set()

    # Carrying out instructions.

    def _apply(self, event: environment.Event) -> None:
        move = self._node.after(event)
        self._node = move.node
        for instruction in move.instructions:
            self._do[type(instruction)]()

    def _send_init(self) -> None:
        self._init_began_s = self._around.clock.monotonic()
        if self.order.invocation is not None:
            self.journal.begin(self.order.invocation)

    def send_init_frame(self, own: Mapping[str, str], task_root: str, opt_root: str) -> None:
        """Write the INIT frame; separate from the event because only the host knows the roots."""
        body = variables.init_document(
            self.order.function,
            own=own,
            roots=variables.Roots(task_root, opt_root),
            log_stream=self.journal.stream,
            extra=self._around.settings.extra_environment,
        )
        if self.channel is not None:
            self.channel.send(frames.frame(_INIT_SEQUENCE, frames.INIT, body))

    def _init_done(self) -> None:
        self.meter.init_took(self._around.clock.monotonic() - self._init_began_s)
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
        head = variables.invoke_head(invocation)
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
        sent.started_s = now_s = self._around.clock.monotonic()
        if invocation is self.order.invocation:
            sent.started_s = self._init_began_s
        else:
            self.journal.begin(invocation)
        self._around.timers.runs(self, now_s + self._timeout_left_s(sent))

    def _answered(self, kind: int, body: bytes) -> None:
        # What was written before the answer became readable before it, so the loop has read it
        # before it; looking again is for those who write, and for a caller who waits for it.
        pipe = self._pipe
        if pipe is not None and (pipe.has_read or self._sent[0].invocation.wants_log):
            pipe.drain()
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
        has_logged = self.journal.has_logged
        if self._sent:
            self._begin(self._sent[0])
        self._owner.answered(result, has_logged=has_logged)
        if self.life.phase is _IDLE and self._is_old():
            self.retire_now()

    def _is_old(self) -> bool:
        age_s = self._around.clock.monotonic() - self._asked_s
        return age_s > self._around.settings.max_age_s

    def _fail_running(self) -> None:
        sent = self._sent[0]
        failure = self._failure or answers.exited(sent.invocation.request_id, self.exit)
        for line in failure.lines:
            self.journal.line(line)
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
        failure = self._why_init_failed(status, payload, lie)
        for line in failure.lines if invocation is not None or status != "timeout" else ():
            self.journal.line(line)
        if invocation is None:
            kind = error_type or (None if status == "timeout" else "Runtime.ExitError")
            self.journal.line(answers.init_report(init_ms, status, kind))
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

    def _why_init_failed(self, status: str, payload: bytes, lie: str) -> Failure:
        request_id = self.journal.request_id
        if status == "timeout":
            wall_s = self._around.clock.wall()
            return answers.timed_out(request_id, self.order.function.timeout_s, wall_s)
        if lie:
            return answers.lied(request_id, lie)
        if payload:
            body = payload if len(payload) <= SYNC_RESPONSE_BYTES else answers.response_too_large()
            return Failure("error", body, ())
        return answers.exited(request_id, self.exit)

    def _settle(
        self, sent: _Sent, outcome: str, function_error: str | None, payload: bytes
    ) -> InvocationResult:
        invocation = sent.invocation
        report = self.meter.report(
            invocation, outcome=outcome, began_s=sent.started_s, waited_us=sent.waited_us
        )
        tail = self.journal.end(report)
        self._around.telemetry.finished(report)
        version = invocation.function.version
        stream_type = None if sent.stream is None else sent.stream.content_type
        return InvocationResult(payload, function_error, version, report, tail, stream_type)

    def _drain_logs(self) -> None:
        if self._pipe is not None:
            self._pipe.drain()
