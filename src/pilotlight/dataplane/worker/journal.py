"""What one environment writes into its function's log, and the tail a caller asked for."""

from __future__ import annotations

from pilotlight.dataplane.worker import variables
from pilotlight.model.function import FunctionVersion
from pilotlight.model.ids import EnvironmentId
from pilotlight.model.invocation import Invocation, InvocationReport
from pilotlight.model.limits import LOG_TAIL_BYTES
from pilotlight.model.loglines import end_line, report_line, start_line
from pilotlight.ports.clock import Clock
from pilotlight.ports.telemetry import LogLine, LogSink


class Journal:
    """The log of one environment.

    Attributes:
        stream: name of the environment's log stream.
        request_id: invocation that lines belong to; "" outside of one.
        has_logged: a line was written since the flag was cleared.
    """

    __slots__ = ("_clock", "_function", "_logs", "_tail", "has_logged", "request_id", "stream")

    def __init__(
        self, function: FunctionVersion, environment: EnvironmentId, logs: LogSink, clock: Clock
    ) -> None:
        self.stream = variables.log_stream_name(function.version, environment, clock.wall())
        self.request_id = ""
        self.has_logged = False
        self._function = function
        self._logs = logs
        self._clock = clock
        self._tail: bytearray | None = None

    def line(self, text: str) -> None:
        """Write one line, for the invocation that runs."""
        self.has_logged = True
        if self._tail is not None:
            self._extend_tail(self._tail, text)
        function = self._function
        self._logs.line(
            LogLine(
                self._clock.wall(),
                function.account,
                function.name,
                function.version,
                function.logging.log_group,
                self.stream,
                self.request_id,
                text,
            )
        )

    def begin(self, invocation: Invocation) -> None:
        """An invocation begins: START, and its own tail if it wants one."""
        self.request_id = invocation.request_id
        self.has_logged = False
        function = invocation.function
        if invocation.wants_log:
            self._tail = bytearray()
            self._extend_tail(self._tail, start_line(invocation.request_id, function.version))
        self._logs.start(function, self.stream, invocation.request_id, self._clock.wall())

    def end(self, report: InvocationReport) -> bytes | None:
        """It ended: END and REPORT. Returns the tail if it wanted one."""
        self._logs.report(report, self.stream)
        self.request_id = ""
        tail, self._tail = self._tail, None
        if tail is None:
            return None
        self._extend_tail(tail, end_line(report.request_id))
        self._extend_tail(tail, report_line(report))
        return bytes(tail[-LOG_TAIL_BYTES:])

    @staticmethod
    def _extend_tail(tail: bytearray, text: str) -> None:
        tail += text.encode("utf-8", "replace") + b"\n"
        if len(tail) > 2 * LOG_TAIL_BYTES:
            del tail[:-LOG_TAIL_BYTES]
