"""One HTTP/1.1 connection: parses, keeps order and limits, and dispatches each request.

A subclass of uvicorn's protocol, so that uvicorn's server runs it (decision D2). Requests that the
listener's route takes are answered here, without ASGI and without a task; all others become ASGI
requests. One request at a time is *current*; requests sent ahead wait in a queue while reading is
paused, so answers leave in the order of the requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pilotlight.dataplane.frontend.http.answers import (
    CONTINUE,
    NO_BODY_STATUSES,
    Answer,
    refusal,
    render,
)
from pilotlight.dataplane.frontend.http.asgi import new_cycle
from pilotlight.dataplane.frontend.http.deadlines import (
    Phase,
    Verdict,
    transfer_is_late,
    verdict,
)
from pilotlight.dataplane.frontend.http.head import Refused, RequestHead, check_head
from pilotlight.dataplane.frontend.http.listener import Listener, ListenerConfig
from pilotlight.dataplane.frontend.http.request import Request
from pilotlight.dataplane.frontend.http.route import Call
from pilotlight.dataplane.frontend.http.streams import (
    StreamAnswer,
    StreamBody,
    render_stream,
    reset,
)
from pilotlight.model.errors import PlatformError

if TYPE_CHECKING:
    from uvicorn.server import ServerState

log = logging.getLogger(__name__)

_SPLIT_WRITE_BYTES = 64 * 1024
"""Above it head and body are written apart: joining them would copy the body once more."""
_REMEMBERED_BYTES = 4096
"""Heads up to this are kept until the next request, for every open connection."""
_MALFORMED = Refused(400, "BadRequest", "The request is not well-formed HTTP/1.1.")
_BROKEN = Refused(500, "InternalFailure", "The server failed; its log has the reason.")


class Connection(HttpToolsProtocol):
    """Runs the requests of one connection.

    Invariants: at most one request is current; each request is answered at most once and in
    order; once `_is_deaf` is set nothing that arrives is looked at any more.
    """

    def __init__(
        self,
        config: ListenerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # A parser of our own: uvicorn's is told to read on after "Connection: close".
        self.parser = httptools.HttpRequestParser(self)
        self._listener: Listener = config.listener
        self._current: Request | None = None
        self._incoming: Request | None = None
        self._queue: deque[Request] = deque()
        self._phase = Phase.IDLE
        self._since = 0.0
        self._head_bytes = 0
        self._head_raw = 0
        self._written_since: float | None = None
        self._write_mark = 0
        self._written = 0
        self._discarded = 0
        self._stream: StreamBody | None = None
        self._is_deaf = False
        self._is_draining = False
        self._is_advancing = False
        self._former: RequestHead | None = None
        self._former_url = b""

    # -- connection ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Take a connection, or turn it away when there are too many."""
        super().connection_made(transport)
        self._since = self._listener.now
        if len(self.connections) > self._listener.settings.max_connections:
            full = Refused(503, "TooManyConnections", "Too many connections. Try again later.")
            self._enqueue_refused(full, is_complete=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection. A function that runs for it runs on; its answer is dropped."""
        self._is_deaf = True
        super().connection_lost(exc)
        for request in (*self._queue, self._incoming, self._current):
            if request is not None and (request.call is None or not request.is_complete):
                request.release()
        self._queue.clear()
        self._incoming = None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.lost()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio allows a bool
        """Keep a half-closed connection whose client waits for an answer that has not begun."""
        request = self._current
        if request is None or not request.is_complete:
            return None
        if request.cycle is not None and request.cycle.response_started:
            return None
        self._is_deaf = True
        self._finish_soon()
        return True

    def shutdown(self) -> None:
        """Called by the server when it stops: finish what has begun, then close."""
        self._finish_soon()
        if self._current is None and self._phase is Phase.IDLE:
            self.transport.close()

    def _finish_soon(self) -> None:
        """Close after the last request that has begun to arrive."""
        self._is_draining = True
        if self._current is not None and self._current.cycle is not None and not self._queue:
            self._current.cycle.keep_alive = False

    # -- parser -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Feed the parser; whatever is malformed is answered in its turn, then closed."""
        if self._is_deaf:
            self._discard(len(data))
            return
        in_head = self._phase is Phase.HEAD
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._is_deaf = True  # an upgrade was ignored; what follows is not ours to read
        except httptools.HttpParserCallbackError:
            log.exception("connection_failed")
            self._stop_at(_BROKEN)
        except httptools.HttpParserError:
            self._stop_at(_MALFORMED)
        if in_head and self._phase is Phase.HEAD and not self._is_deaf:
            # A field that has not ended yet is only seen here.
            self._head_raw += len(data)
            if self._head_raw > self._listener.settings.max_head_bytes:
                self._too_large_head()

    def on_message_begin(self) -> None:
        """The first byte of a request has arrived."""
        self.url = b""
        self.headers = []
        self._head_bytes = 0
        self._head_raw = 0
        if not self._is_deaf:
            self._discarded = 0
            self._phase = Phase.HEAD
            self._since = self._listener.now

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        if self._is_deaf:
            return
        self.url += url
        self._head_bytes += len(url)
        if self._head_bytes > self._listener.settings.max_head_bytes:
            self._too_large_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer field, which is counted and dropped."""
        if self._is_deaf:
            return
        if self._phase is Phase.HEAD:
            self.headers.append((name.lower(), value))
        self._head_bytes += len(name) + len(value)
        settings = self._listener.settings
        if len(self.headers) > settings.max_headers or self._head_bytes > settings.max_head_bytes:
            self._too_large_head()

    def on_headers_complete(self) -> None:
        """Check the head, then begin the request or let it wait its turn."""
        if self._is_deaf:
            return
        head = self._repeated() or self._new_head()
        if head is None:
            return
        self._phase = Phase.BODY
        self._since = self._listener.now
        request = Request(head, self._listener.budget)
        self._incoming = request
        if self._current is None and not self._queue:
            self._current = request
            self._begin(request)
        else:
            self._queue.append(request)
            self._wait_in_line()

    def _repeated(self) -> RequestHead | None:
        """The head of the request before, when this one is the same to the byte."""
        former = self._former
        if (
            former is None
            or self.headers != former.headers
            or self.url != self._former_url
            or self.parser.get_method() != former.method
            or self.parser.get_http_version() != former.version
        ):
            return None
        former.is_repeated = True
        return former

    def _new_head(self) -> RequestHead | None:
        """Check a head that was not seen just before; None when it was refused."""
        parser = self.parser
        head = RequestHead(parser.get_method(), self.url, parser.get_http_version(), self.headers)
        head.client = self.client
        head.keep_alive = head.keep_alive and parser.should_keep_alive()
        try:
            check_head(head, self._listener.hosts)
            if parser.should_upgrade():
                _check_upgrade(head)
        except Refused as refused:
            self._enqueue_refused(refused)
            return None
        if self._head_bytes <= _REMEMBERED_BYTES:
            self._former, self._former_url = head, self.url
        return head

    def on_body(self, body: bytes) -> None:
        """A piece of the body of the request that is being read."""
        request = self._incoming
        if self._is_deaf or request is None:
            return
        cycle = request.cycle
        if request.is_answered or (cycle is not None and cycle.response_complete):
            self._discard(len(body))
        elif cycle is not None:
            request.size += len(body)
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()
        else:
            self._spool(request, body)

    def on_message_complete(self) -> None:
        """The last byte of a request has arrived."""
        request, self._incoming = self._incoming, None
        if self._is_deaf or request is None:
            return
        self._phase = Phase.IDLE
        self._since = self._listener.now
        request.is_complete = True
        if request.cycle is not None:
            request.cycle.more_body = False
            request.cycle.message_event.set()
        elif request is self._current and request.call is not None:
            self._run(request)
        if not request.is_answered and request.head is not None and not request.head.keep_alive:
            self._is_deaf = True
        if self._queue:
            self._advance()

    # -- one request after the other ----------------------------------------------------------

    def _advance(self) -> None:
        """Begin queued requests until one of them has to wait for its answer."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._current is None and self._queue:
                incoming = self._incoming
                if incoming is not None and incoming.is_answered:
                    return  # the rest of an answered request is still being thrown away
                self._current = self._queue.popleft()
                self._begin(self._current)
        finally:
            self._is_advancing = False
        if not self._queue and self._current is None and not self._is_deaf:
            self.flow.resume_reading()

    def _begin(self, request: Request) -> None:
        if request.refused is not None or request.head is None:
            self._write(request, request.refused or refusal(_MALFORMED, self._listener.ids.uuid()))
            return
        taken = self._open(request.head)
        if taken is None:
            self._begin_asgi(request, request.head)
            return
        if isinstance(taken, Answer):
            self._write(request, taken)
            return
        length = request.head.content_length
        if (length or request.size) > taken.body_limit:
            self._write(request, taken.too_large())
            return
        try:
            request.accept(taken)
        except PlatformError as error:
            self._write(request, taken.failed(error))
            return
        if request.is_complete:
            self._run(request)
        else:
            if request.head.expects_continue and length != 0 and not request.size:
                self.transport.write(CONTINUE)
            self.flow.resume_reading()

    def _open(self, head: RequestHead) -> Call | Answer | None:
        try:
            return self._listener.route.open(head)
        except Exception:
            log.exception("route_failed")
            return refusal(_BROKEN, self._listener.ids.uuid())

    def _begin_asgi(self, request: Request, head: RequestHead) -> None:
        keep = head.keep_alive and not (self._is_draining and not self._queue)
        cycle = new_cycle(self, head, keep_alive=keep, done=self.on_response_complete)
        cycle.body += b"".join(request.take_parts())
        cycle.more_body = not request.is_complete
        cycle.message_event.set()
        request.cycle = cycle
        self.cycle = cycle
        self._start_asgi_task(cycle, self.app)

    def _spool(self, request: Request, body: bytes) -> None:
        try:
            request.add(body)
        except PlatformError as error:
            if request.call is not None:
                self._write(request, request.call.failed(error))
            return
        call = request.call
        if call is not None and request.size > call.body_limit:
            self._write(request, call.too_large())

    def _run(self, request: Request) -> None:
        call = request.call
        if call is None or request.is_answered:
            return
        body, digest = request.body()
        try:
            call.run(body, digest, lambda answer: self._answer(request, answer))
        except PlatformError as error:
            self._answer(request, call.failed(error))
        except Exception as error:
            log.exception("call_failed")
            self._answer(request, call.failed(error))

    def _answer(self, request: Request, answer: Answer | StreamAnswer) -> None:
        if request.is_answered:
            log.error("answered_twice")
            return
        if isinstance(answer, StreamAnswer):
            self._begin_stream(request, answer)
            return
        self._write(request, answer)
        if self._queue or self.flow.read_paused:
            self._advance()

    def on_response_complete(self) -> None:
        """The ASGI application has answered the current request."""
        self.server_state.total_requests += 1
        request, self._current = self._current, None
        if request is None or request.cycle is None:
            return
        request.is_answered = True
        if not request.cycle.keep_alive:
            self._is_deaf = True
            self._phase = Phase.CLOSING
            self._since = self._listener.now
            return
        self.flow.resume_reading()
        self._since = self._listener.now
        self._advance()

    # -- answers ------------------------------------------------------------------------------

    def _write(self, request: Request, answer: Answer) -> None:
        """Answer the current request. The caller advances to the next one."""
        request.is_answered = True
        request.close()
        self._current = None
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        head = request.head
        keep = self._may_keep(request, head)
        first, body = render(
            answer,
            date_line=self._listener.date_line,
            is_head=head is not None and head.method == b"HEAD",
            close=not keep,
        )
        if len(body) > _SPLIT_WRITE_BYTES:
            self.transport.writelines((first, body))
        else:
            self.transport.write(first + body)
        if keep:
            self._since = self._listener.now
        else:
            self._close_after(request)

    def _begin_stream(self, request: Request, answer: StreamAnswer) -> None:
        """Send the head of an answer; the request stays current until its body has ended."""
        request.is_answered = True
        request.close()
        head = request.head
        if head is None or self.transport.is_closing():
            self._current = None
            answer.source.gone()
            return
        is_chunked = head.version == "1.1"
        is_silent = head.method == b"HEAD" or answer.status in NO_BODY_STATUSES
        keep = (is_chunked or is_silent) and self._may_keep(request, head)
        self.transport.write(
            render_stream(
                answer, date_line=self._listener.date_line, is_chunked=is_chunked, close=not keep
            )
        )
        self._stream = StreamBody(
            self.transport,
            self.flow,
            answer.source,
            is_chunked=is_chunked,
            is_silent=is_silent,
            ended=lambda is_whole: self._end_stream(request, keep=keep, is_whole=is_whole),
        )
        answer.source.opened(self._stream)

    def _end_stream(self, request: Request, *, keep: bool, is_whole: bool) -> None:
        self._stream = None
        self._current = None
        self.server_state.total_requests += 1
        if not is_whole:
            self._cut_stream(request)
        elif keep and not (self._is_draining and not self._queue):
            self._since = self._listener.now
            if self._queue or self.flow.read_paused:
                self._advance()
        else:
            self._close_after(request)

    def _cut_stream(self, request: Request) -> None:
        """End a body that is not whole, so that its client sees that; what was sent arrives."""
        if request.head is not None and request.head.version == "1.1":
            self._close_after(request)  # the last chunk is missing
        else:
            self._is_deaf = True
            self._queue.clear()
            reset(self.transport)  # only that differs from the end of the body

    def _may_keep(self, request: Request, head: RequestHead | None) -> bool:
        if head is None or not head.keep_alive or request.refused is not None:
            return False
        if self._is_draining and not self._queue:
            return False
        if request.is_complete:
            return True
        # The rest of the body has to be thrown away; that is only worth it when it is short.
        short = head.content_length is not None and head.content_length <= _SPLIT_WRITE_BYTES
        return short and not head.expects_continue

    def _close_after(self, request: Request) -> None:
        """Close once the answer is out, without resetting a client that is still sending."""
        self._is_deaf = True
        self._since = self._listener.now
        self._queue.clear()
        if request.is_complete:
            self._phase = Phase.CLOSING
            self.transport.close()
            return
        self._phase = Phase.LINGER
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    # -- refusals -----------------------------------------------------------------------------

    def _enqueue_refused(self, refused: Refused, *, is_complete: bool = False) -> None:
        """Refuse the request that is being read, in its turn; nothing after it is read."""
        self._is_deaf = True
        self._incoming = None
        request = Request(None, self._listener.budget)
        request.is_complete = is_complete
        request.refused = refusal(refused, self._listener.ids.uuid())
        self._queue.append(request)
        self._advance()

    def _stop_at(self, refused: Refused) -> None:
        """Nothing more can be read: answer what is being read, in its turn, and close."""
        if self._is_deaf:
            return
        if self._incoming is None:
            self._enqueue_refused(refused)
        else:
            self._cut_short(self._incoming, refused)

    def _cut_short(self, request: Request, refused: Refused) -> None:
        """The body of a request will never be complete: answer it if no one has, and close."""
        self._is_deaf = True
        self._incoming = None
        cycle = request.cycle
        if cycle is not None:
            begun = cycle.response_started
            cycle.disconnected = True
            cycle.message_event.set()
            request.cycle = None
            if begun:
                self.transport.close()
                self._current = None
                return
        elif request.is_answered:
            self.transport.close()
            return
        request.refused = refusal(refused, self._listener.ids.uuid())
        if request is self._current:
            self._write(request, request.refused)
        self._advance()

    def _too_large_head(self) -> None:
        settings = self._listener.settings
        refused = Refused(
            431,
            "RequestHeaderFieldsTooLarge",
            f"A request may have {settings.max_headers} header fields and"
            f" {settings.max_head_bytes} bytes of them (settings max_headers, max_head_bytes).",
        )
        self._stop_at(refused)

    def _wait_in_line(self) -> None:
        self.flow.pause_reading()
        if len(self._queue) > self._listener.settings.max_queued:
            # Not an error of the requests before it: they are answered, then the line is cut.
            self._queue.pop()
            self._incoming = None
            self._is_deaf = True
            self._is_draining = True

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > self._listener.settings.discard_bytes:
            self.transport.abort()

    # -- slow clients -------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        super().pause_writing()
        self._written_since = self._listener.now
        self._write_mark = self.transport.get_write_buffer_size()
        self._written = 0

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._written_since = None
        if self._stream is not None:
            self._stream.resumed()

    def sweep(self, now: float) -> None:
        """Close the connection if its client is late with anything."""
        if self._is_write_late(now):
            self.transport.abort()
            return
        if self.flow.read_paused:
            self._since = now  # we do not read: the client owes us nothing
            return
        request = self._incoming
        busy = self._current is not None or bool(self._queue)
        size = request.size if request is not None else 0
        match verdict(self._phase, now - self._since, size, self._listener.settings, is_busy=busy):
            case Verdict.CLOSE:
                self._phase = Phase.CLOSING
                self._is_deaf = True
                self.transport.close()
            case Verdict.ABORT:
                self.transport.abort()
            case Verdict.REFUSE:
                late = Refused(408, "RequestTimeout", "The request did not arrive in time.")
                self._stop_at(late)
            case Verdict.KEEP:
                pass

    def _is_write_late(self, now: float) -> bool:
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            self._written_since = None
            return False
        if self._written_since is None:
            self._written_since, self._write_mark, self._written = now, waiting, 0
            return False
        self._written += max(0, self._write_mark - waiting)
        self._write_mark = waiting
        settings = self._listener.settings
        return transfer_is_late(
            now - self._written_since,
            self._written,
            settings.write_timeout_s,
            settings.min_rate_bytes_s,
        )


def _check_upgrade(head: RequestHead) -> None:
    if head.method == b"CONNECT":
        raise Refused(405, "MethodNotAllowed", "CONNECT is not served.")
    if head.content_length != 0:
        # The parser takes the body of such a request for the other protocol's bytes.
        raise Refused(400, "InvalidFraming", "A request with Upgrade may not have a body.")
    head.keep_alive = False
