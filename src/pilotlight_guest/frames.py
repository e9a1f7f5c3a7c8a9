"""Frames between a worker and the runtime in a sandbox.

A frame is ``u32 length · u64 sequence · u8 type · body``, little endian; length counts the body
alone. The worker numbers invocations; an answer repeats the number of what it answers. Invocations
are answered in order, one at a time. The answer to a frame is sent before the next one is begun: the
worker may therefore conclude, when a sandbox dies, that only the first unanswered invocation can
have started and that every later one is safe to replay.

Worker to runtime:

========== ==================================================================================
INIT       JSON, see `INIT_KEYS`. Sent once. Answered by INIT_DONE or INIT_ERROR.
INVOKE     ``u64 deadline (ms since the epoch) · u16 head length · head · payload``; the head is
           UTF-8 fields joined by NUL: request id, invoked ARN, trace id, client context (JSON),
           Cognito identity (JSON), tenant id. Answered by RESULT, ERROR or a stream.
SHUTDOWN   Empty: leave the loop and exit 0.
CREDIT     ``u32 bytes`` of the stream of this invocation that were taken: as many more may be
           sent. Comes late when the stream has ended; then it means nothing.
========== ==================================================================================

Runtime to worker:

========== ==================================================================================
READY      Empty. The runtime waits for INIT (sequence 0).
INIT_DONE  Empty.
INIT_ERROR Error payload, JSON as Lambda gives it. The runtime then exits 1.
RESULT     The handler's answer: JSON text.
ERROR      Error payload: ``errorMessage, errorType, requestId, stackTrace``.
========== ==================================================================================

An answer may also be a stream, which is one STREAM_BEGIN, any number of STREAM_CHUNK and one
STREAM_END:

============ ================================================================================
STREAM_BEGIN Content type, ASCII: `BYTES_TYPE`, or `HTTP_TYPE` for a body that starts with a prelude:
             a JSON object (``statusCode, headers, cookies``) and `PRELUDE_END`.
STREAM_CHUNK 1 to `MAX_CHUNK` bytes of the body. At most `STREAM_WINDOW` bytes may be on the way, that
             is sent and not yet returned by CREDIT; `STREAM_BYTES_MAX` in all.
STREAM_END   Empty, or the error payload of a handler that failed after the stream began.
============ ================================================================================

Any other type, a length above `MAX_BODY`, more bytes than the window, or an answer that does not
repeat the number of the first unanswered frame is a lie: the worker kills the sandbox.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct("<IQB")
INVOKE_HEAD = struct.Struct("<QH")

CREDIT_BODY = struct.Struct("<I")

INIT, INVOKE, SHUTDOWN, CREDIT = 1, 2, 3, 4
READY, INIT_DONE, INIT_ERROR, RESULT, ERROR = 16, 17, 18, 19, 20
STREAM_BEGIN, STREAM_CHUNK, STREAM_END = 21, 22, 23

MAX_BODY = 16 * 1024 * 1024
"""Larger than any payload (6 MB and its escapes); a guard against lies, not the service's limit."""

MAX_CHUNK = 64 * 1024
STREAM_WINDOW = 512 * 1024
"""What a stream may hold in memory between the handler and its caller."""
STREAM_BYTES_MAX = 200 * 1024 * 1024
"""Largest streamed answer
(https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html)."""

BYTES_TYPE = "application/octet-stream"
HTTP_TYPE = "application/vnd.awslambda.http-integration-response"
PRELUDE_END = bytes(8)
"""Ends the prelude of a stream of `HTTP_TYPE`."""

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
