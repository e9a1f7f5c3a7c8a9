"""Frames between a worker and the runtime in a sandbox.

A frame is ``u32 length · u64 sequence · u8 type · body``, little endian; length counts the body
alone. The worker numbers invocations; an answer repeats the number of what it answers. Frames are
answered in order, one at a time. The answer to a frame is sent before the next one is begun: the
worker may therefore conclude, when a sandbox dies, that only the first unanswered invocation can
have started and that every later one is safe to replay.

Worker to runtime:

========== ==================================================================================
INIT       JSON, see `INIT_KEYS`. Sent once. Answered by INIT_DONE or INIT_ERROR.
INVOKE     ``u64 deadline (ms since the epoch) · u16 head length · head · payload``; the head is
           UTF-8 fields joined by NUL: request id, invoked ARN, trace id, client context (JSON),
           Cognito identity (JSON), tenant id. Answered by RESULT or ERROR.
SHUTDOWN   Empty: leave the loop and exit 0.
========== ==================================================================================

Runtime to worker:

========== ==================================================================================
READY      Empty. The runtime waits for INIT (sequence 0).
INIT_DONE  Empty.
INIT_ERROR Error payload, JSON as Lambda gives it. The runtime then exits 1.
RESULT     The handler's answer: JSON text.
ERROR      Error payload: ``errorMessage, errorType, requestId, stackTrace``.
========== ==================================================================================

Any other type, a length above `MAX_BODY`, or an answer that does not repeat the number of the
first unanswered frame is a lie: the worker kills the sandbox.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct("<IQB")
INVOKE_HEAD = struct.Struct("<QH")

INIT, INVOKE, SHUTDOWN = 1, 2, 3
READY, INIT_DONE, INIT_ERROR, RESULT, ERROR = 16, 17, 18, 19, 20

MAX_BODY = 16 * 1024 * 1024
"""Larger than any payload (6 MB and its escapes); a guard against lies, not the service's limit."""

INIT_KEYS = (
    "handler",
    "environment",
    "task_root",
    "function_name",
    "function_version",
    "memory_mib",
    "log_group",
    "log_stream",
    "log_format",
    "log_level",
)
"""``environment`` is the process environment, whole: name to value. The rest are strings and
numbers; ``log_level`` may be null."""


def frame(sequence: int, kind: int, body: bytes = b"") -> bytes:
    """One whole frame."""
    return HEADER.pack(len(body), sequence, kind) + body


def invoke_body(deadline_ms: int, head: bytes, payload: bytes) -> bytes:
    """Body of an INVOKE frame; ``head`` is the NUL-joined fields, at most 65,535 bytes."""
    return INVOKE_HEAD.pack(deadline_ms, len(head)) + head + payload
