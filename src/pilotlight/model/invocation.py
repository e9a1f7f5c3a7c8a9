"""One request to run a function version, and what came of it.

These values are made for every invocation. They are immutable structs without a place in the cycle
collector: making one costs a third of what a frozen dataclass costs.
"""

from __future__ import annotations

import msgspec

from pilotlight.model.function import FunctionVersion
from pilotlight.model.ids import RequestId


class Invocation(msgspec.Struct, frozen=True, gc=False):
    """One synchronous request.

    Attributes:
        invoked_arn: the ARN as the caller named it, qualifier included if one was given.
        payload: the event, JSON text as received; never decoded before it reaches the runtime.
        client_context: JSON text of the client context, already base64-decoded; "" for none.
        trace_id: value of ``X-Amzn-Trace-Id`` for the function; "" for none.
        wants_log: the caller asked for ``LogType=Tail``.
        arrived_s: monotonic time at which the request was complete.
        wants_stream: the caller takes the answer in pieces, if the function gives it so.
    """

    request_id: RequestId
    function: FunctionVersion
    invoked_arn: str
    payload: bytes
    client_context: str = ""
    trace_id: str = ""
    wants_log: bool = False
    arrived_s: float = 0.0
    wants_stream: bool = False


class ColdStart(msgspec.Struct, frozen=True, gc=False):
    """Where the time of a cold start went, microseconds by phase.

    Attributes:
        how: ``blank`` (claimed from the pool), ``fork`` (zygote), ``spawn`` (new process).
        phases_us: of ``queue, placement, fetch, sandbox, runtime, init`` those that happened.
    """

    how: str
    phases_us: dict[str, int] = msgspec.field(default_factory=dict)


class InvocationReport(msgspec.Struct, frozen=True, gc=False):
    """The facts of a finished invocation: REPORT line, metrics and headers are made from it.

    Attributes:
        outcome: ``success``, ``error`` (the handler raised), ``timeout``, ``crash``, ``memory``.
        duration_ms: handler time as the host measured it.
        billed_ms: rounded up as AWS bills, the init phase included on a cold start.
        init_ms: None on a warm invocation.
        peak_memory_mib: highest memory use of the environment so far.
    """

    request_id: RequestId
    environment: str
    function: FunctionVersion
    ended_wall_s: float
    outcome: str
    duration_ms: float
    billed_ms: int
    init_ms: float | None
    peak_memory_mib: int
    cold: ColdStart | None = None


class InvocationResult(msgspec.Struct, frozen=True, gc=False):
    """What the caller gets.

    Attributes:
        payload: the runtime's answer, or the error payload when ``function_error`` is set; empty
            where the answer was given in pieces.
        function_error: ``Unhandled`` when the function failed, else None.
        log_tail: the last 4 KiB of this invocation's log where it was asked for, else None.
        stream_type: content type of an answer that the function streamed, else None.
    """

    payload: bytes
    function_error: str | None
    executed_version: str
    report: InvocationReport
    log_tail: bytes | None = None
    stream_type: str | None = None
