"""``POST /2021-11-15/functions/{FunctionName}/response-streaming-invocations``.

Source: https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
"""

from __future__ import annotations

import base64

import msgspec

from pilotlight.dataplane.frontend.http.answers import Answer
from pilotlight.dataplane.frontend.http.gate import PendingCaller
from pilotlight.dataplane.frontend.http.head import RequestHead
from pilotlight.dataplane.frontend.http.invoke import (
    InvokeRoute,
    error_answer,
    payload_too_large,
    read_options,
)
from pilotlight.dataplane.frontend.http.json_text import check_event
from pilotlight.dataplane.frontend.http.names import enum_violation
from pilotlight.dataplane.frontend.http.route import Call, Reply
from pilotlight.dataplane.frontend.http.streams import Relay, StreamAnswer
from pilotlight.dataplane.frontend.http.trace import trace_id
from pilotlight.model import limits
from pilotlight.model.errors import PlatformError
from pilotlight.model.ids import RequestId
from pilotlight.model.invocation import Invocation, InvocationResult
from pilotlight.ports.auth import SignedRequest
from pilotlight.wire import eventstream

_PREFIX = b"/2021-11-15/functions/"
_SUFFIX = b"/response-streaming-invocations"
_TYPES = "RequestResponse, DryRun"


class StreamingInvokeRoute:
    """Takes signed invocations, those whose caller takes the answer in pieces among them.

    Args:
        invocations: the route of all others, whose parts are used here too.
    """

    def __init__(self, invocations: InvokeRoute) -> None:
        self.invocations = invocations

    def open(self, head: RequestHead) -> Call | Answer | None:
        """Check key, scope and date of an invocation before its body is read."""
        path = head.path
        if head.method != b"POST" or not path.startswith(_PREFIX) or not path.endswith(_SUFFIX):
            return self.invocations.open(head)
        name = path[len(_PREFIX) : -len(_SUFFIX)]
        if not name or b"/" in name:
            return None
        request_id = self.invocations.ids.uuid()
        try:
            signed = SignedRequest(b"POST", path, head.query, head.headers)
            pending = self.invocations.gate.begin(signed)
        except PlatformError as error:
            return error_answer(error, request_id)
        return _StreamingCall(self.invocations, head, name, request_id, pending)


class _StreamingCall(Relay):
    """One invocation between its head and the end of its answer."""

    body_limit = limits.SYNC_PAYLOAD_BYTES
    wants_digest = True

    def __init__(
        self,
        route: InvokeRoute,
        head: RequestHead,
        name: bytes,
        request_id: str,
        pending: PendingCaller,
    ) -> None:
        super().__init__()
        self._route = route
        self._head = head
        self._name = name
        self._request_id = request_id
        self._pending = pending
        self._reply: Reply | None = None
        self._headers = b""

    @property
    def key(self) -> str:
        return self._pending.access_key

    def too_large(self) -> Answer:
        return self.failed(payload_too_large())

    def failed(self, error: Exception) -> Answer:
        return error_answer(error, self._request_id)

    def run(self, body: bytes, digest: str, reply: Reply) -> None:
        route = self._route
        caller = self._pending.finish(digest)
        route.charge(caller.account, caller.access_key)
        options = read_options(self._head)
        if options.kind == "Event":
            raise enum_violation("Event", "invocationType", _TYPES)
        name = route.name_of(self._name, self._head.query)
        function, arn = route.target_of(caller, name)
        if options.kind == "DryRun":
            reply(Answer(204, f"x-amzn-RequestId: {self._request_id}\r\n".encode("ascii"), b""))
            return
        if body:
            check_event(body)
        trace = trace_id(options.trace, self._request_id, route.clock.wall())
        self._headers = _headers(self._request_id, function.version, trace)
        self._reply = reply
        route.invoker.submit(
            Invocation(
                request_id=RequestId(self._request_id),
                function=function,
                invoked_arn=arn,
                payload=body or b"{}",
                client_context=options.client_context,
                trace_id=trace,
                wants_log=options.wants_log,
                arrived_s=route.clock.monotonic(),
                wants_stream=True,
            ),
            self,
        )

    def begin(self, content_type: str) -> None:
        """The function streams; its type is its clients' affair: they see the body as it is."""
        del content_type
        if self._reply is not None:
            self._reply(StreamAnswer(200, self._headers, self))

    def take(self, data: bytes) -> None:
        """A piece of the answer is an event."""
        self.write(_chunk(data))

    def __call__(self, result: InvocationResult | PlatformError) -> None:
        """The invocation ended."""
        reply, self._reply = self._reply, None
        if self.has_begun:
            self._end(result)
        elif reply is not None and isinstance(result, InvocationResult):
            chunk = b"" if result.function_error is not None else _chunk(result.payload)
            reply(Answer(200, self._headers, chunk + _complete(result)))
        elif reply is not None:
            reply(self.failed(result))  # type: ignore[arg-type]  # the results are dealt with

    def _end(self, result: InvocationResult | PlatformError) -> None:
        if self._writer is None:
            return
        if isinstance(result, InvocationResult):
            self.write(_complete(result))
            self._writer.finish()
        else:
            self._writer.abort()


def _headers(request_id: str, version: str, trace: str) -> bytes:
    return (
        f"Content-Type: {eventstream.CONTENT_TYPE}\r\n"
        f"x-amzn-RequestId: {request_id}\r\n"
        f"X-Amz-Executed-Version: {version}\r\n"
        f"X-Amzn-Trace-Id: {trace}\r\n"
    ).encode("ascii")


def _chunk(data: bytes) -> bytes:
    return eventstream.event("PayloadChunk", "application/octet-stream", data)


def _complete(result: InvocationResult) -> bytes:
    """The last event: how the invocation ended, and its log where that was asked for."""
    said: dict[str, str] = {}
    if result.function_error is not None:
        said["ErrorCode"] = result.function_error
        said["ErrorDetails"] = result.payload.decode("utf-8", "replace")
    if result.log_tail is not None:
        said["LogResult"] = base64.b64encode(result.log_tail).decode("ascii")
    return eventstream.event("InvokeComplete", "application/json", msgspec.json.encode(said))
