"""A listener on a real socket, with fakes behind it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from pilotlight.control.gateway import RootCredentials, StaticAuthenticator
from pilotlight.dataplane.frontend.http import (
    HttpServer,
    HttpSettings,
    InvokeRoute,
    Listener,
    StreamingInvokeRoute,
)
from pilotlight.dataplane.frontend.http.hosts import LOOPBACK_HOSTS
from pilotlight.dataplane.frontend.urls import URL_HOSTS, UrlRoute
from pilotlight.model.errors import PlatformError
from pilotlight.model.events import Event
from pilotlight.model.function import Code, FunctionUrl, FunctionVersion, Logging
from pilotlight.model.ids import AccountId, Digest, RuntimeName
from pilotlight.model.invocation import Invocation, InvocationReport, InvocationResult
from pilotlight.ports.events import Accepted
from pilotlight.ports.functions import Resolved
from pilotlight.ports.invoke import Done
from pilotlight.ports.rates import RateLimits

ACCOUNT = AccountId("000000000000")
KEY, SECRET = "AKIATESTTESTTESTTEST", "secret"
URL_ID = "abcdefghijklmnopqrstuvwxyz012345"


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


class RandomIds:
    def uuid(self) -> str:
        return str(uuid.uuid4())

    def token(self, length: int) -> str:
        return "a" * length


def function(name: str = "echo", version: str = "$LATEST", **changes: object) -> FunctionVersion:
    facts: dict[str, object] = {
        "account": ACCOUNT,
        "region": "us-east-1",
        "name": name,
        "version": version,
        "runtime": RuntimeName("python3.11"),
        "handler": "app.handler",
        "role": "arn:aws:iam::000000000000:role/r",
        "code": Code("", 1, Digest("d")),
        "logging": Logging(f"/aws/lambda/{name}"),
        "last_modified": "",
        "revision_id": "1",
    }
    return FunctionVersion(**(facts | changes))  # type: ignore[arg-type]  # test data


def result(payload: bytes, **changes: object) -> InvocationResult:
    report = InvocationReport("r", "e", function(), 0.0, "success", 1.0, 1, None, 10)  # type: ignore[arg-type]
    facts: dict[str, object] = {
        "payload": payload,
        "function_error": None,
        "executed_version": "$LATEST",
        "report": report,
    }
    return InvocationResult(**(facts | changes))  # type: ignore[arg-type]  # test data


Behaviour = Callable[[Invocation], InvocationResult | PlatformError | None]


@dataclass
class FakeInvoker:
    """Answers at once; an invocation whose behaviour gives None is held until the test answers."""

    behave: Behaviour = lambda invocation: result(invocation.payload)
    seen: list[Invocation] = field(default_factory=list)
    held: list[tuple[Invocation, Done]] = field(default_factory=list)

    def submit(self, invocation: Invocation, done: Done) -> None:
        self.seen.append(invocation)
        outcome = self.behave(invocation)
        if outcome is None:
            self.held.append((invocation, done))
        else:
            done(outcome)

    async def invoke(self, invocation: Invocation) -> InvocationResult:
        raise NotImplementedError

    async def drain(self, grace_s: float) -> None:
        raise NotImplementedError


@dataclass
class FakeView:
    functions: dict[tuple[str, str | None], FunctionVersion] = field(default_factory=dict)
    urls: dict[str, FunctionUrl] = field(default_factory=dict)
    accounts: set[str] = field(default_factory=lambda: {str(ACCOUNT)})
    revision: int = 1

    def resolve(self, account: str, name: str, qualifier: str | None) -> Resolved | None:
        found = self.functions.get((name, qualifier))
        return (
            Resolved(found, qualifier) if found is not None and account in self.accounts else None
        )

    def url(self, url_id: str) -> FunctionUrl | None:
        return self.urls.get(url_id)


class FakeEvents:
    """Takes events; ``refusal`` is told to the next callers while it is set."""

    def __init__(self) -> None:
        self.accepted: list[Event] = []
        self.refusal: PlatformError | None = None

    def accept(self, event: Event, done: Accepted) -> None:
        if self.refusal is None:
            self.accepted.append(event)
        done(self.refusal)


async def echo_app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that answers with what it was sent."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    head = f"{scope['method']} {scope['path']}?{scope['query_string'].decode()}\n".encode()
    answer = head + body
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


class Client:
    """A raw HTTP/1.1 client that sends exactly the bytes it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def response(self, *, is_head: bool = False) -> tuple[int, list[tuple[str, str]], bytes]:
        """Read one response; 0 and nothing when the server closed instead."""
        async with asyncio.timeout(8):
            line = await self.reader.readline()
            if not line:
                return 0, [], b""
            status = int(line.split(b" ")[1])
            fields: list[tuple[str, str]] = []
            while (raw := await self.reader.readline()) != b"\r\n":
                name, _, value = raw.decode("latin-1").partition(":")
                fields.append((name.lower(), value.strip()))
            length = dict(fields).get("content-length")
            body = b""
            if length is not None and not is_head and status not in (100, 204, 304):
                body = await self.reader.readexactly(int(length))
            return status, fields, body

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(8):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def close(self) -> None:
        self.writer.transport.abort()


@dataclass
class Harness:
    """One running listener and its fakes."""

    server: HttpServer
    listener: Listener
    invoker: FakeInvoker
    view: FakeView
    events: FakeEvents
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        host, port = self.server.address
        client = Client(*await asyncio.open_connection(host, port))
        self.clients.append(client)
        return client

    async def close_clients(self) -> None:
        for client in self.clients:
            client.close()
            with contextlib.suppress(ConnectionError):
                await client.writer.wait_closed()

    async def ask(self, data: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """One request on a connection of its own."""
        client = await self.connect()
        try:
            await client.send(data)
            return await client.response()
        finally:
            client.close()


def _view() -> FakeView:
    echo = function()
    view = FakeView()
    view.functions = {
        ("echo", None): echo,
        ("echo", "$LATEST"): echo,
        ("echo", "1"): function(version="1"),
        ("echo", "live"): function(version="1"),
        ("pending", None): function("pending", state="Pending"),
    }
    view.urls = {
        URL_ID: FunctionUrl(URL_ID, ACCOUNT, "us-east-1", "echo", None, "NONE", is_public=True)
    }
    return view


def _gate() -> StaticAuthenticator:
    return StaticAuthenticator([RootCredentials(ACCOUNT, KEY, SECRET)], clock=SystemClock())


@asynccontextmanager
async def running(
    kind: str = "api",
    settings: HttpSettings | None = None,
    app: object = echo_app,
    rates: RateLimits | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Harness]:
    """Run one listener: ``api`` (invocations and ASGI) or ``urls`` (function URLs)."""
    view, invoker, clock, ids = _view(), FakeInvoker(), SystemClock(), RandomIds()
    events = FakeEvents()
    route: StreamingInvokeRoute | UrlRoute
    if kind == "api":
        settings = settings or HttpSettings(sweep_period_s=0.05)
        route = StreamingInvokeRoute(
            InvokeRoute(
                gate=_gate(),
                view=view,
                invoker=invoker,
                events=events,
                clock=clock,
                ids=ids,
                rates=rates,
            )
        )
    else:
        settings = settings or HttpSettings(
            sweep_period_s=0.05, allowed_hosts=LOOPBACK_HOSTS + URL_HOSTS
        )
        route = UrlRoute(gate=_gate(), view=view, invoker=invoker, clock=clock, ids=ids)
    listener = Listener(settings=settings, route=route, clock=clock, ids=ids)
    server = HttpServer(kind, "127.0.0.1", 0, listener, app, tls=tls)
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server.run(ready.set))
        async with asyncio.timeout(5):
            await ready.wait()
        harness = Harness(server, listener, invoker, view, events)
        try:
            yield harness
        finally:
            await harness.close_clients()
            task.cancel()


async def eventually(condition: Callable[[], bool], *, within_s: float = 5.0) -> None:
    """Poll until a condition holds."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)


class Kit:
    """What tests of other folders need of this file, without importing it."""

    account = ACCOUNT
    key = KEY
    secret = SECRET
    url_id = URL_ID
    function = staticmethod(function)
    result = staticmethod(result)
    running = staticmethod(running)
    eventually = staticmethod(eventually)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that the product runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def kit() -> Kit:
    return Kit()


@pytest.fixture
async def api() -> AsyncIterator[Harness]:
    async with running("api") as harness:
        yield harness


@pytest.fixture
async def urls() -> AsyncIterator[Harness]:
    async with running("urls") as harness:
        yield harness
