"""``POST /2015-03-31/functions/{FunctionName}/invocations``, answered on the connection.

Also ``/2014-11-13/functions/{FunctionName}/invoke-async``, the deprecated way to say ``Event``.

Source: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html and API_InvokeAsync.html
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote_to_bytes

from pilotlight.dataplane.frontend.http.answers import Answer
from pilotlight.dataplane.frontend.http.gate import Gate, PendingCaller
from pilotlight.dataplane.frontend.http.head import RequestHead
from pilotlight.dataplane.frontend.http.json_text import check_event
from pilotlight.dataplane.frontend.http.names import (
    FunctionName,
    check_qualifier,
    enum_violation,
    parse_function_name,
)
from pilotlight.dataplane.frontend.http.route import Call, Reply
from pilotlight.dataplane.frontend.http.trace import trace_id
from pilotlight.model import limits
from pilotlight.model.errors import ApiError, PlatformError
from pilotlight.model.events import Event
from pilotlight.model.function import LATEST, FunctionState, FunctionVersion
from pilotlight.model.ids import RequestId
from pilotlight.model.invocation import Invocation, InvocationResult
from pilotlight.ports.auth import Caller, SignedRequest
from pilotlight.ports.clock import Clock
from pilotlight.ports.events import EventAcceptor
from pilotlight.ports.functions import FunctionView
from pilotlight.ports.ids import IdSource
from pilotlight.ports.invoke import Invoker
from pilotlight.ports.rates import RateLimits, Unlimited
from pilotlight.wire.lambda_api import render_error

log = logging.getLogger(__name__)

_PREFIX = b"/2015-03-31/functions/"
_SUFFIX = b"/invocations"
_ASYNC_PATH = re.compile(rb"/2014-11-13/functions/([^/]+)/invoke-async/?")
_TYPES = "Event, RequestResponse, DryRun"
_LOG_TYPES = "None, Tail"
_CACHED_NAMES = 4096
_TOO_MANY = 429


@dataclass(frozen=True, slots=True)
class _Options:
    """Headers of an Invoke request, decoded."""

    kind: str
    wants_log: bool
    client_context: str
    trace: bytes | None


class InvokeRoute:
    """Takes signed invocations; leaves every other request of the listener to ASGI."""

    def __init__(
        self,
        *,
        gate: Gate,
        view: FunctionView,
        invoker: Invoker,
        events: EventAcceptor,
        clock: Clock,
        ids: IdSource,
        rates: RateLimits | None = None,
    ) -> None:
        self.gate = gate
        self.view = view
        self.invoker = invoker
        self.events = events
        self.clock = clock
        self.ids = ids
        self.charge = (rates or Unlimited()).charge
        self._names: dict[tuple[bytes, bytes], FunctionName] = {}

    def open(self, head: RequestHead) -> Call | Answer | None:
        """Check key, scope and date of an invocation before its body is read."""
        path = head.path
        if head.method != b"POST":
            return None
        if path.startswith(_PREFIX) and path.endswith(_SUFFIX):
            name, is_event = path[len(_PREFIX) : -len(_SUFFIX)], False
        elif (found := _ASYNC_PATH.fullmatch(path)) is not None:
            name, is_event = found[1], True
        else:
            return None
        if not name or b"/" in name:
            return None
        request_id = self.ids.uuid()
        try:
            pending = self.gate.begin(SignedRequest(b"POST", path, head.query, head.headers))
        except PlatformError as error:
            return error_answer(error, request_id)
        return _InvokeCall(self, head, name, request_id, pending, is_event=is_event)

    def name_of(self, name: bytes, query: bytes) -> FunctionName:
        """The function that path and query name, from memory after the first time.

        Raises:
            ApiError: the name or the qualifier is malformed, or two qualifiers differ.
        """
        known = self._names.get((name, query))
        if known is None:
            known = _parse_name(name, query)
            if len(self._names) >= _CACHED_NAMES:
                self._names.clear()
            self._names[(name, query)] = known
        return known

    def target_of(self, caller: Caller, name: FunctionName) -> tuple[FunctionVersion, str]:
        """The version that a name means for a caller, and the ARN by which it was called.

        Raises:
            ApiError: it is not the caller's, is unknown, or cannot run.
        """
        return _resolve(self.view, caller, name), _arn(caller, name.name, name.qualifier)


class _InvokeCall:
    """One invocation between its head and its answer."""

    __slots__ = (
        "_head",
        "_is_event",
        "_name",
        "_pending",
        "_reply",
        "_request_id",
        "_route",
        "_trace",
    )

    body_limit = limits.SYNC_PAYLOAD_BYTES
    wants_digest = True

    def __init__(
        self,
        route: InvokeRoute,
        head: RequestHead,
        name: bytes,
        request_id: str,
        pending: PendingCaller,
        *,
        is_event: bool,
    ) -> None:
        self._is_event = is_event
        self._route = route
        self._head = head
        self._name = name
        self._request_id = request_id
        self._pending = pending
        self._reply: Reply | None = None
        self._trace = ""

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
        name = route.name_of(self._name, self._head.query)
        function = _resolve(route.view, caller, name)
        if options.kind == "DryRun" and not self._is_event:
            # As recorded from the service: no executed version on a dry run.
            reply(Answer(204, f"x-amzn-RequestId: {self._request_id}\r\n".encode("ascii"), b""))
            return
        if body:
            check_event(body)
        self._trace = trace_id(options.trace, self._request_id, route.clock.wall())
        if self._is_event or options.kind == "Event":
            check_event_size(body)
            self._reply = reply
            route.events.accept(self._event(caller, name, body), self._accepted)
            return
        self._reply = reply
        route.invoker.submit(
            Invocation(
                request_id=RequestId(self._request_id),
                function=function,
                invoked_arn=_arn(caller, name.name, name.qualifier),
                payload=body or b"{}",
                client_context=options.client_context,
                trace_id=self._trace,
                wants_log=options.wants_log,
                arrived_s=route.clock.monotonic(),
            ),
            self._done,
        )

    def _event(self, caller: Caller, name: FunctionName, body: bytes) -> Event:
        return Event(
            request_id=self._request_id,
            account=caller.account,
            region=caller.region,
            function=name.name,
            qualifier=name.qualifier,
            payload=body or b"{}",
            trace_id=self._trace,
            accepted_s=self._route.clock.wall(),
        )

    def _accepted(self, error: PlatformError | None) -> None:
        reply, self._reply = self._reply, None
        if reply is None:
            return
        if error is not None:
            reply(self.failed(error))
            return
        headers = f"x-amzn-RequestId: {self._request_id}\r\nX-Amzn-Trace-Id: {self._trace}\r\n"
        reply(Answer(202, headers.encode("ascii"), b""))

    def _done(self, result: InvocationResult | PlatformError) -> None:
        reply, self._reply = self._reply, None
        if reply is None:
            return
        if isinstance(result, InvocationResult):
            reply(_success(result, self._request_id, self._trace))
        else:
            reply(self.failed(result))


def read_options(head: RequestHead) -> _Options:
    """Decode the headers of an Invoke request.

    Raises:
        ApiError: a value is not one of those allowed, or the client context is not valid.
    """
    kind, log_type, context = "RequestResponse", "None", ""
    trace = None
    for name, value in head.headers:
        if not name.startswith(b"x-amz"):
            continue
        if name == b"x-amz-invocation-type":
            kind = value.decode("latin-1")
        elif name == b"x-amz-log-type":
            log_type = value.decode("latin-1")
        elif name == b"x-amz-client-context":
            context = _client_context(value)
        elif name == b"x-amzn-trace-id":
            trace = value
    if kind not in {"RequestResponse", "Event", "DryRun"}:
        raise enum_violation(kind, "invocationType", _TYPES)
    if log_type not in {"None", "Tail"}:
        raise enum_violation(log_type, "logType", _LOG_TYPES)
    return _Options(kind, log_type == "Tail", context, trace)


def _client_context(value: bytes) -> str:
    if not value:
        return ""
    if len(value) > limits.CLIENT_CONTEXT_BYTES:
        raise ApiError(
            "InvalidRequestContentException",
            f"Client context must be no more than {limits.CLIENT_CONTEXT_BYTES} bytes when"
            " Base64-encoded.",
        )
    try:
        text = base64.b64decode(value, validate=True).decode("utf-8")
        is_object = isinstance(json.loads(text), dict)
    except (binascii.Error, ValueError, RecursionError):
        is_object, text = False, ""
    if not is_object:
        raise ApiError(
            "InvalidRequestContentException",
            "Client context must be a valid Base64-encoded JSON object.",
        )
    return text


def _parse_name(name: bytes, query: bytes) -> FunctionName:
    parsed = parse_function_name(unquote_to_bytes(name).decode("utf-8", "replace"))
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("Qualifier", [""])[0]
    if not given:
        return parsed
    qualifier = check_qualifier(given)
    if parsed.qualifier is not None and parsed.qualifier != qualifier:
        raise ApiError(
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        )
    return FunctionName(parsed.name, parsed.region, parsed.account, qualifier)


def _resolve(view: FunctionView, caller: Caller, name: FunctionName) -> FunctionVersion:
    if name.region is not None and name.region != caller.region:
        raise ApiError(
            "ResourceNotFoundException",
            f"Functions from '{name.region}' are not reachable in this region ('{caller.region}')",
        )
    if name.account is not None and name.account != caller.account:
        raise ApiError(
            "AccessDeniedException",
            f"The access key of account {caller.account} may not invoke functions of account"
            f" {name.account}.",
            status=403,
        )
    resolved = view.resolve(caller.account, name.name, name.qualifier)
    if resolved is None:
        raise ApiError(
            "ResourceNotFoundException",
            f"Function not found: {_arn(caller, name.name, name.qualifier or LATEST)}",
        )
    check_state(resolved.function)
    return resolved.function


def check_state(function: FunctionVersion) -> None:
    """Refuse versions that cannot run.

    Raises:
        ApiError: ResourceConflictException, with the service's text.
    """
    state = function.state
    if state != FunctionState.ACTIVE and state != FunctionState.INACTIVE:  # noqa: PLR1714 - no set per call
        raise ApiError(
            "ResourceConflictException",
            "The operation cannot be performed at this time. The function is currently in the"
            f" following state: {function.state}",
        )


def _arn(caller: Caller, name: str, qualifier: str | None) -> str:
    arn = f"arn:aws:lambda:{caller.region}:{caller.account}:function:{name}"
    return f"{arn}:{qualifier}" if qualifier is not None else arn


def _success(result: InvocationResult, request_id: str, trace: str) -> Answer:
    headers = (
        f"Content-Type: {result.stream_type or 'application/json'}\r\n"
        f"x-amzn-RequestId: {request_id}\r\n"
        "x-amzn-Remapped-Content-Length: 0\r\n"
        f"X-Amz-Executed-Version: {result.executed_version}\r\n"
        f"X-Amzn-Trace-Id: {trace}\r\n"
    )
    if result.function_error is not None:
        error = "Handled" if result.function_error == "Handled" else "Unhandled"
        headers += f"X-Amz-Function-Error: {error}\r\n"
    if result.log_tail is not None:
        headers += f"X-Amz-Log-Result: {base64.b64encode(result.log_tail).decode('ascii')}\r\n"
    return Answer(200, headers.encode("ascii"), result.payload)


def payload_too_large() -> ApiError:
    """An event above the limit of synchronous invocations, by API or by function URL."""
    return ApiError(
        "RequestTooLargeException",
        f"Request must be smaller than {limits.SYNC_PAYLOAD_BYTES} bytes for the"
        " InvokeFunction operation",
    )


def check_event_size(payload: bytes) -> None:
    """Refuse a payload above the limit of asynchronous invocations.

    Raises:
        ApiError: RequestTooLargeException.
    """
    if len(payload) > limits.ASYNC_PAYLOAD_BYTES:
        raise ApiError(
            "RequestTooLargeException",
            f"{len(payload)} byte payload is too large for the Event invocation type"
            f" (limit {limits.ASYNC_PAYLOAD_BYTES} bytes)",
        )


def error_answer(error: Exception, request_id: str) -> Answer:
    """The service's answer to an error; a bug is logged and answered without its details."""
    if not isinstance(error, PlatformError):
        log.error("invoke_failed request_id=%s", request_id, exc_info=error)
        error = ApiError(
            "ServiceException",
            f"An internal error occurred. Look for request {request_id} in Pilotlight's log.",
        )
    rendered = render_error(error, request_id=request_id)
    headers = b"".join(b"%b: %b\r\n" % field for field in rendered.headers)
    if rendered.status == _TOO_MANY and b"retry-after:" not in headers.lower():
        headers += b"Retry-After: 1\r\n"
    return Answer(rendered.status, headers, rendered.body)
