"""One HTTP exchange: the request as ASGI gives it, and how every endpoint answers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from pilotlight.control.gateway.bodies import ClientGone
from pilotlight.model.errors import ApiError, InvalidTransition, PlatformError
from pilotlight.ports.auth import SignedRequest
from pilotlight.ports.ids import IdSource
from pilotlight.wire.lambda_api import HttpAnswer, render_error

log = logging.getLogger(__name__)

_SERVER_FAULT = 500
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request whose body was not read yet.

    Attributes:
        request_id: of this exchange; every answer carries it.
        signed: what a signature covers.
        source: address the request came from; "" where the server does not say.
    """

    request_id: str
    signed: SignedRequest
    scheme: str
    receive: Receive
    source: str = ""

    @property
    def method(self) -> str:
        """Upper case."""
        return self.signed.method.decode("latin-1")

    @property
    def path(self) -> str:
        """Raw, still percent-encoded."""
        return self.signed.path.decode("latin-1")

    @property
    def query(self) -> str:
        """Raw."""
        return self.signed.query.decode("latin-1")

    @property
    def host(self) -> str:
        """The ``Host`` header; the listener has checked it."""
        return self.header("host") or ""

    def header(self, name: str) -> str | None:
        """First value of a header; ``name`` in lower case."""
        wanted = name.encode()
        for known, value in self.signed.headers:
            if known == wanted:
                return value.decode("latin-1")
        return None

    def headers(self) -> dict[str, str]:
        """All headers by lower-case name, repeated ones joined with commas."""
        folded: dict[str, str] = {}
        for name, value in self.signed.headers:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            folded[key] = f"{folded[key]},{text}" if key in folded else text
        return folded

    def declared_length(self) -> int | None:
        """``Content-Length``, None when there is none; the listener has checked its form."""
        length = self.header("content-length")
        return int(length) if length is not None and length.isdecimal() else None


def exchange_of(scope: Scope, receive: Receive, request_id: str) -> Exchange:
    """Read an ASGI scope."""
    signed = SignedRequest(
        method=scope["method"].encode("latin-1"),
        path=scope.get("raw_path") or scope["path"].encode(),
        query=scope["query_string"],
        headers=scope["headers"],
    )
    client = scope.get("client")
    source = str(client[0]) if client else ""
    return Exchange(request_id, signed, scope["scheme"], receive, source)


Responder = Callable[[Exchange], Awaitable[HttpAnswer]]


def json_answer(exchange: Exchange, document: object, *, status: int = 200) -> HttpAnswer:
    """An answer of the native API."""
    headers = [
        (b"x-amzn-RequestId", exchange.request_id.encode()),
        (b"Content-Type", b"application/json"),
    ]
    return HttpAnswer(status, headers, msgspec.json.encode(document))


def endpoint(respond: Responder, ids: IdSource) -> ASGIApp:
    """An ASGI application that answers every failure as the API does, with a request id."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope, receive, ids.uuid())
        try:
            answer = await guarded(respond, exchange)
        except ClientGone:
            return
        await _send(answer, send)

    return application


async def guarded(respond: Responder, exchange: Exchange) -> HttpAnswer:
    """Answer, with an error's answer where it fails.

    Raises:
        ClientGone: nobody to answer.
    """
    try:
        return await respond(exchange)
    except ClientGone:
        raise
    except InvalidTransition as bug:
        _log_fault(exchange, bug)
        return render_error(bug, request_id=exchange.request_id)
    except PlatformError as error:
        answer = render_error(error, request_id=exchange.request_id)
        if answer.status >= _SERVER_FAULT and not isinstance(error, ApiError):
            _log_fault(exchange, error)
        return answer
    except Exception as fault:  # noqa: BLE001  the request's edge: logged, answered without detail
        _log_fault(exchange, fault)
        hidden = ApiError(
            "ServiceException",
            "An internal error occurred. Look for this request's id in Pilotlight's log: "
            f"{exchange.request_id}",
        )
        return render_error(hidden, request_id=exchange.request_id)


def _log_fault(exchange: Exchange, fault: Exception) -> None:
    log.error(
        "request_failed",
        exc_info=fault,
        extra={
            "request_id": exchange.request_id,
            "method": exchange.method,
            "path": exchange.path[:256],
        },
    )


async def _send(answer: HttpAnswer, send: Send) -> None:
    headers = [(name.lower(), value) for name, value in answer.headers]
    if not any(name == b"content-length" for name, _ in headers):  # an answer to HEAD has its own
        headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    for start in range(0, len(answer.body), _CHUNK):
        chunk = answer.body[start : start + _CHUNK]
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
