"""Function URL requests, answered on the connection.

Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html and …/urls-invocation.html
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import msgspec

from pilotlight.dataplane.frontend.http.answers import Answer
from pilotlight.dataplane.frontend.http.gate import Gate, PendingCaller
from pilotlight.dataplane.frontend.http.head import RequestHead
from pilotlight.dataplane.frontend.http.invoke import (
    check_state,
    error_answer,
    payload_too_large,
)
from pilotlight.dataplane.frontend.http.route import Call, Reply
from pilotlight.dataplane.frontend.http.streams import StreamAnswer
from pilotlight.dataplane.frontend.http.trace import trace_id
from pilotlight.dataplane.frontend.urls.access import admits
from pilotlight.dataplane.frontend.urls.cors import (
    Cors,
    preflight_headers,
    read_cors,
    response_headers,
)
from pilotlight.dataplane.frontend.urls.event import (
    Origin,
    Template,
    build_event,
    read_fields,
    text,
)
from pilotlight.dataplane.frontend.urls.response import (
    JSON_ONLY,
    NotAResponse,
    UrlResponse,
    map_response,
    map_stream,
)
from pilotlight.dataplane.frontend.urls.stream import UrlStream
from pilotlight.dataplane.frontend.urls.target import Target, by_host, by_path
from pilotlight.model import limits
from pilotlight.model.errors import ApiError, PlatformError
from pilotlight.model.function import FunctionUrl
from pilotlight.model.ids import RequestId
from pilotlight.model.invocation import Invocation, InvocationResult
from pilotlight.ports.auth import Caller, SignedRequest
from pilotlight.ports.clock import Clock
from pilotlight.ports.functions import FunctionView
from pilotlight.ports.ids import IdSource
from pilotlight.ports.invoke import Invoker

log = logging.getLogger(__name__)

URL_HOSTS = ("*.lambda-url.*",)
"""Host patterns of function URLs, for `HttpSettings.allowed_hosts` of their listener."""

_FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see:"
    " https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)
_WRONG_REGION = ApiError(
    "InvalidSignatureException", "Credential should be scoped to a valid region."
)
_JSON_LINE = b"content-type: application/json\r\n"
_CACHED_HOSTS = 4096
_DENIED = 403


class UrlRoute:
    """Takes every request of the function-URL listener.

    Args:
        gate: for URLs with AuthType AWS_IAM.
        port: of the listener, told to functions as ``x-forwarded-port``; set once it is bound.
        scheme: of the listener, told to functions as ``x-forwarded-proto``.
    """

    def __init__(
        self,
        *,
        gate: Gate,
        view: FunctionView,
        invoker: Invoker,
        clock: Clock,
        ids: IdSource,
        port: int = 0,
        scheme: str = "http",
    ) -> None:
        self.gate = gate
        self.view = view
        self.invoker = invoker
        self.clock = clock
        self.ids = ids
        self.port = port
        self.scheme = scheme
        self._hosts: dict[bytes, tuple[str | None, str]] = {}

    def open(self, head: RequestHead) -> Call | Answer | None:
        """Find the URL, answer preflights, and check who calls, before the body is read."""
        request_id = self.ids.uuid()
        memo = head.memo
        target = memo.target if isinstance(memo, _Memo) else self._target(head)
        if target is None:
            return _not_a_url(request_id)
        url = self.view.url(target.url_id)
        if url is None:
            return _denied(None, request_id)  # as the service answers an id it does not know
        cors = read_cors(url.cors) if url.cors else None
        if cors is not None and _is_preflight(head):
            fields = _preflight(cors, head)
            return Answer(200, _lines((*JSON_ONLY, *fields), request_id, ""), b"")
        pending = None
        if url.auth_type != "NONE":
            try:
                pending = self.gate.begin(
                    SignedRequest(head.method, head.path, head.query, head.headers)
                )
            except PlatformError as error:
                return _auth_failed(error, request_id)
        elif not url.is_public:
            return _denied(_FORBIDDEN, request_id)
        return _UrlCall(self, head, target, url, cors, request_id, pending)

    def _target(self, head: RequestHead) -> Target | None:
        known = self._hosts.get(head.host)
        if known is None:
            if len(self._hosts) >= _CACHED_HOSTS:
                self._hosts.clear()
            known = self._hosts[head.host] = by_host(head.host)
        url_id, domain = known
        if url_id is not None:
            return Target(url_id, head.path, domain)
        by_name = by_path(head.path)
        return None if by_name is None else Target(by_name[0], by_name[1], domain)


class _Memo(NamedTuple):
    """What a repeated head keeps: all that follows from the head alone."""

    target: Target
    template: Template
    trace: bytes | None


class _UrlCall:
    """One request of a function URL between its head and its answer."""

    __slots__ = (
        "_cors",
        "_head",
        "_pending",
        "_reply",
        "_request_id",
        "_route",
        "_target",
        "_trace",
        "_url",
        "wants_digest",
    )

    body_limit = limits.SYNC_PAYLOAD_BYTES

    def __init__(
        self,
        route: UrlRoute,
        head: RequestHead,
        target: Target,
        url: FunctionUrl,
        cors: Cors | None,
        request_id: str,
        pending: PendingCaller | None,
    ) -> None:
        self._route = route
        self._head = head
        self._target = target
        self._url = url
        self._cors = cors
        self._request_id = request_id
        self._pending = pending
        self._reply: Reply | None = None
        self._trace = ""
        self.wants_digest = pending is not None

    @property
    def key(self) -> str:
        return self._url.url_id

    def too_large(self) -> Answer:
        return self.failed(payload_too_large())

    def failed(self, error: Exception) -> Answer:
        return _message_answer(error, self._request_id)

    def run(self, body: bytes, digest: str, reply: Reply) -> None:
        route, url = self._route, self._url
        caller = None
        if self._pending is not None:
            try:
                caller = self._pending.finish(digest)
            except PlatformError as error:
                reply(_auth_failed(error, self._request_id))
                return
            if caller.region != url.region:
                reply(_auth_failed(_WRONG_REGION, self._request_id))
                return
            if not admits(url, caller):
                reply(_denied(_FORBIDDEN, self._request_id))
                return
        resolved = route.view.resolve(url.account, url.function, url.qualifier)
        if resolved is None:
            reply(_denied(_FORBIDDEN, self._request_id))
            return
        check_state(resolved.function)
        event = self._event(body, caller)
        if len(event) > limits.SYNC_PAYLOAD_BYTES:
            reply(self.too_large())
            return
        self._reply = reply
        wants_stream = url.invoke_mode == "RESPONSE_STREAM"
        arn = f"arn:aws:lambda:{url.region}:{url.account}:function:{url.function}"
        route.invoker.submit(
            Invocation(
                request_id=RequestId(self._request_id),
                function=resolved.function,
                invoked_arn=f"{arn}:{url.qualifier}" if url.qualifier is not None else arn,
                payload=event,
                trace_id=self._trace,
                arrived_s=route.clock.monotonic(),
                wants_stream=wants_stream,
            ),
            UrlStream(self._respond, self._refuse, self._done) if wants_stream else self._done,
        )

    def _event(self, body: bytes, caller: Caller | None) -> bytes:
        wall_s = self._route.clock.wall()
        head = self._head
        if head.is_repeated and caller is None:
            return self._repeated_event(body, wall_s)
        fields = read_fields(head.headers)
        self._trace = trace_id(fields.trace, self._request_id, wall_s)
        return build_event(head, fields, body, self._origin(wall_s, caller))

    def _origin(self, wall_s: float, caller: Caller | None) -> Origin:
        target = self._target
        return Origin(
            target.url_id,
            target.domain,
            target.path,
            self._request_id,
            self._trace,
            wall_s,
            str(self._route.port),
            self._route.scheme,
            self._url.account,
            caller,
        )

    def _repeated_event(self, body: bytes, wall_s: float) -> bytes:
        """The event from the template that stays with a head which its connection repeats."""
        memo = self._head.memo
        if not isinstance(memo, _Memo):
            fields = read_fields(self._head.headers)
            template = Template(self._head, fields, self._origin(wall_s, None))
            memo = self._head.memo = _Memo(self._target, template, fields.trace)
        self._trace = trace_id(memo.trace, self._request_id, wall_s)
        return memo.template.fill(
            body, trace=self._trace, request_id=self._request_id, wall_s=wall_s
        )

    def _done(self, result: InvocationResult | PlatformError) -> None:
        reply, self._reply = self._reply, None
        if reply is None:
            return
        if isinstance(result, InvocationResult):
            reply(self._answer(result))
        else:
            reply(self.failed(result))

    def _answer(self, result: InvocationResult) -> Answer:
        if result.function_error is not None:
            return self._bad_gateway()
        try:
            if result.stream_type is None:
                response = map_response(result.payload)
            else:
                response = map_stream(result.stream_type, result.payload)
        except NotAResponse as reason:
            return self._not_a_response(reason)
        return self._finished(response)

    def _not_a_response(self, reason: NotAResponse) -> Answer:
        log.info("url_response_invalid request_id=%s reason=%s", self._request_id, reason)
        return self._bad_gateway()

    def _respond(self, response: UrlResponse, source: UrlStream) -> None:
        """Begin a streamed response."""
        reply, self._reply = self._reply, None
        if reply is not None:
            reply(StreamAnswer(response.status, self._header_lines(response), source))

    def _refuse(self, reason: NotAResponse) -> None:
        reply, self._reply = self._reply, None
        if reply is not None:
            reply(self._not_a_response(reason))

    def _bad_gateway(self) -> Answer:
        return self._finished(UrlResponse(502, JSON_ONLY, b"Internal Server Error"))

    def _finished(self, response: UrlResponse) -> Answer:
        return Answer(response.status, self._header_lines(response), response.body)

    def _header_lines(self, response: UrlResponse) -> bytes:
        fields = response.headers
        if self._cors is not None:
            origin = self._head.header(b"origin")
            fields = response_headers(self._cors, text(origin or b""), fields)
        return _lines(fields, self._request_id, self._trace)


def _lines(fields: tuple[tuple[str, str], ...], request_id: str, trace: str) -> bytes:
    ours = f"x-amzn-RequestId: {request_id}\r\n"
    if trace:
        ours += f"X-Amzn-Trace-Id: {trace}\r\n"
    if fields is JSON_ONLY:
        return _JSON_LINE + ours.encode("ascii")
    lines = "".join([f"{name}: {value}\r\n" for name, value in fields])
    return (lines + ours).encode("utf-8", "replace")


def _is_preflight(head: RequestHead) -> bool:
    return (
        head.method == b"OPTIONS"
        and head.header(b"origin") is not None
        and head.header(b"access-control-request-method") is not None
    )


def _preflight(cors: Cors, head: RequestHead) -> tuple[tuple[str, str], ...]:
    return preflight_headers(
        cors,
        text(head.header(b"origin") or b""),
        method=text(head.header(b"access-control-request-method") or b""),
        headers=text(head.header(b"access-control-request-headers") or b""),
    )


def _message(status: int, code: str, message: str | None, request_id: str) -> Answer:
    lines = f"x-amzn-RequestId: {request_id}\r\nx-amzn-ErrorType: {code}\r\n".encode("ascii")
    return Answer(status, _JSON_LINE + lines, msgspec.json.encode({"Message": message}))


def _denied(message: str | None, request_id: str) -> Answer:
    return _message(_DENIED, "AccessDeniedException", message, request_id)


def _auth_failed(error: PlatformError, request_id: str) -> Answer:
    if error.code == "MissingAuthenticationTokenException":
        return _denied(_FORBIDDEN, request_id)
    return _message(_DENIED, error.code, str(error), request_id)


def _not_a_url(request_id: str) -> Answer:
    return _message(
        404,
        "ResourceNotFoundException",
        "This address serves function URLs: as http://<url-id>.lambda-url.<region>.localhost or"
        " under the path /url/<url-id>/. The Lambda API is on the other port.",
        request_id,
    )


def _message_answer(error: Exception, request_id: str) -> Answer:
    """An error in the form of function URLs: the API's status, and a ``Message``."""
    rendered = error_answer(error, request_id)
    message = str(error) if isinstance(error, PlatformError) else "Internal Server Error"
    body = msgspec.json.encode({"Message": message})
    return Answer(rendered.status, rendered.headers, body)
