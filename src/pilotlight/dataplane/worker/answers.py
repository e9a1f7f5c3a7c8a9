"""The error payloads and log lines that the platform itself gives for a failed invocation.

Pure. Texts as the service gives them:
https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html and
https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from pilotlight.model.limits import SYNC_RESPONSE_BYTES
from pilotlight.ports.sandbox import SandboxExit

_NAME_CHARS = 256
_DECODED_BYTES = 1 << 20
_SIGNALS = {
    1: "hangup",
    2: "interrupt",
    3: "quit",
    4: "illegal instruction",
    5: "trace/breakpoint trap",
    6: "aborted",
    7: "bus error",
    8: "floating point exception",
    9: "killed",
    11: "segmentation fault",
    13: "broken pipe",
    14: "alarm clock",
    15: "terminated",
    31: "bad system call",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """How an invocation failed, for its caller and its log.

    Attributes:
        outcome: as in `InvocationReport.outcome`.
        payload: what the caller gets.
        lines: what the function's log gets.
    """

    outcome: str
    payload: bytes
    lines: tuple[str, ...]


def _payload(error_type: str, message: str) -> bytes:
    return json.dumps(
        {"errorType": error_type, "errorMessage": message}, separators=(",", ":")
    ).encode()


def timed_out(request_id: str, timeout_s: int, wall_s: float) -> Failure:
    """The function ran into its timeout."""
    text = f"Task timed out after {timeout_s:.2f} seconds"
    moment = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")
    return Failure(
        "timeout",
        _payload("Sandbox.Timedout", f"RequestId: {request_id} Error: {text}"),
        (f"{moment.replace('+00:00', 'Z')} {request_id} {text}",),
    )


def exit_reason(end: SandboxExit | None) -> str:
    """What became of a runtime, in the words of the service."""
    if end is None or end.exit_code == 0:
        return "Runtime exited without providing a reason"
    if end.exit_code > 0:
        return f"Runtime exited with error: exit status {end.exit_code}"
    number = -end.exit_code
    return f"Runtime exited with error: signal: {_SIGNALS.get(number, f'signal {number}')}"


def exited(request_id: str, end: SandboxExit | None) -> Failure:
    """The runtime ended while it should have answered."""
    is_memory = end is not None and end.oom_killed
    error_type = "Runtime.OutOfMemory" if is_memory else "Runtime.ExitError"
    text = f"RequestId: {request_id} Error: {exit_reason(end)}"
    return Failure(
        "memory" if is_memory else "crash", _payload(error_type, text), (text, error_type)
    )


def lied(request_id: str, lie: str) -> Failure:
    """The runtime broke the frame protocol and was killed for it."""
    text = f"RequestId: {request_id} Error: Runtime was stopped: {lie}"
    return Failure("crash", _payload("Runtime.ExitError", text), (text, "Runtime.ExitError"))


def response_too_large() -> bytes:
    """The handler's answer is larger than a synchronous response may be."""
    return _payload(
        "Function.ResponseSizeTooLarge",
        "Response payload size exceeded maximum allowed payload size "
        f"({SYNC_RESPONSE_BYTES} bytes).",
    )


def init_report(init_ms: float, status: str, error_type: str | None) -> str:
    """Log line of an init phase that failed outside an invocation."""
    line = f"INIT_REPORT Init Duration: {init_ms:.2f} ms\tPhase: init\tStatus: {status}"
    return line if error_type is None else f"{line}\tError Type: {error_type}"


def error_type_of(payload: bytes) -> str | None:
    """``errorType`` of an error payload that a guest made, if it is readable and short."""
    if len(payload) > _DECODED_BYTES:
        return None
    try:
        decoded = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    name = decoded.get("errorType") if isinstance(decoded, dict) else None
    return (
        name if isinstance(name, str) and len(name) <= _NAME_CHARS and name.isprintable() else None
    )
