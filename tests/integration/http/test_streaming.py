"""Answers in pieces over real sockets: function URLs and InvokeWithResponseStream."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ResponseStreamingError
from urllib3.exceptions import ProtocolError

from pilotlight.dataplane.frontend.http import HttpSettings
from pilotlight.dataplane.frontend.http.hosts import LOOPBACK_HOSTS
from pilotlight.dataplane.frontend.http.streams import reset
from pilotlight.dataplane.frontend.urls import URL_HOSTS
from pilotlight.model.errors import SandboxError
from pilotlight_guest.frames import BYTES_TYPE, HTTP_TYPE, STREAM_WINDOW

pytestmark = pytest.mark.anyio


class Credit:
    """A `StreamFlow` that counts."""

    def __init__(self) -> None:
        self.count = 0

    def taken(self, count: int) -> None:
        self.count += count


class Function:
    """A function that streams what the test says, when it says it."""

    def __init__(self, done: Any, content_type: str = BYTES_TYPE) -> None:
        self.done = done
        self.credit = Credit()
        done.began(content_type, self.credit)

    def send(self, data: bytes) -> None:
        self.done.chunk(data)


def get(kit: Any, *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    head = [f"{method} /url/{kit.url_id}/p HTTP/{version}", "Host: localhost", *lines, "", ""]
    return "\r\n".join(head).encode()


@pytest.fixture
def streaming(urls: Any, kit: Any) -> Any:
    """The listener of function URLs; its one URL streams, and each invocation waits."""
    url = urls.view.urls[kit.url_id]
    urls.view.urls[kit.url_id] = dataclasses.replace(url, invoke_mode="RESPONSE_STREAM")
    urls.invoker.behave = lambda _: None
    return urls


async def begun(harness: Any, kit: Any, number: int = 0, content_type: str = BYTES_TYPE) -> Any:
    await kit.eventually(lambda: len(harness.invoker.held) > number)
    return Function(harness.invoker.held[number][1], content_type)


async def head(client: Any) -> tuple[bytes, dict[str, str]]:
    async with asyncio.timeout(8):
        lines = (await client.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    fields = [line.decode().partition(": ") for line in lines[1:] if line]
    return lines[0], {name.lower(): value for name, _, value in fields}


async def piece(client: Any) -> bytes:
    """One chunk as it was sent; empty for the last."""
    async with asyncio.timeout(8):
        size = int(await client.reader.readline(), 16)
        data = await client.reader.readexactly(size + 2)
    assert data.endswith(b"\r\n")
    return bytes(data[:-2])


async def test_a_piece_arrives_before_the_function_ends(streaming: Any, kit: Any) -> None:
    client = await streaming.connect()
    await client.send(get(kit))
    function = await begun(streaming, kit)
    assert streaming.invoker.seen[0].wants_stream
    status, fields = await head(client)
    assert status == b"HTTP/1.1 200 OK"
    assert (fields["content-type"], fields["transfer-encoding"]) == (BYTES_TYPE, "chunked")
    assert fields["x-amzn-requestid"] == streaming.invoker.seen[0].request_id
    assert "content-length" not in fields
    function.send(b"one")
    assert await piece(client) == b"one"
    function.send(b"two")
    assert await piece(client) == b"two"
    assert function.credit.count == 6
    function.done(kit.result(b"", stream_type=BYTES_TYPE))
    assert await piece(client) == b""
    await client.send(get(kit))  # the connection goes on
    (await begun(streaming, kit, 1)).done(kit.result(b""))
    assert (await head(client))[0] == b"HTTP/1.1 200 OK"


async def test_a_head_of_its_own(streaming: Any, kit: Any) -> None:
    client = await streaming.connect()
    await client.send(get(kit))
    function = await begun(streaming, kit, content_type=HTTP_TYPE)
    said = {"statusCode": 206, "headers": {"X-A": "1", "content-type": "text/html"},
            "cookies": ["a=1", "b=2"]}  # fmt: skip
    prelude = json.dumps(said).encode() + bytes(8)
    for cut in range(0, len(prelude) + 3, 9):
        function.send((prelude + b"<p>")[cut : cut + 9])
    async with asyncio.timeout(8):
        raw = (await client.reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert raw.startswith("http/1.1 206 ")
    assert "x-a: 1\r\n" in raw
    assert "content-type: text/html\r\n" in raw
    assert "set-cookie: a=1\r\nset-cookie: b=2\r\n" in raw
    assert await piece(client) == b"<p>"
    assert function.credit.count == len(prelude) + 3
    function.done(kit.result(b""))
    assert await piece(client) == b""


@pytest.mark.parametrize(
    "said", [b"{" + bytes(8) + b"rest", b'{"statusCode": 1000}' + bytes(8), b" " * 200_000, b"{}"]
)
async def test_a_head_that_is_none_is_a_502(streaming: Any, kit: Any, said: bytes) -> None:
    client = await streaming.connect()
    await client.send(get(kit))
    function = await begun(streaming, kit, content_type=HTTP_TYPE)
    function.send(said)
    function.send(b"more")
    function.done(kit.result(b""))
    status, _, body = await client.response()
    assert (status, body) == (502, b"Internal Server Error")
    assert function.credit.count == len(said) + 4


async def test_an_error_between_pieces_cuts_the_body(streaming: Any, kit: Any) -> None:
    client = await streaming.connect()
    await client.send(get(kit))
    function = await begun(streaming, kit)
    function.send(b"half")
    function.done(kit.result(b"{}", function_error="Unhandled"))
    await head(client)
    assert await client.rest() == b"4\r\nhalf\r\n"


async def test_what_does_not_stream_is_answered_as_ever(streaming: Any, kit: Any) -> None:
    client = await streaming.connect()
    for number, (result, status, body) in enumerate(
        [
            (kit.result(b'{"statusCode": 201, "body": "made"}'), 201, b"made"),
            (kit.result(b"{}", function_error="Unhandled"), 502, b"Internal Server Error"),
        ]
    ):
        await client.send(get(kit))
        await kit.eventually(lambda wanted=number: len(streaming.invoker.held) > wanted)
        streaming.invoker.held[number][1](result)
        got = await client.response()
        assert (got[0], got[2]) == (status, body)


async def test_an_old_client_gets_a_body_that_ends_with_the_connection(
    streaming: Any, kit: Any
) -> None:
    client = await streaming.connect()
    await client.send(get(kit, version="1.0"))
    function = await begun(streaming, kit)
    function.send(b"one")
    function.send(b"two")
    function.done(kit.result(b""))
    _, fields = await head(client)
    assert "transfer-encoding" not in fields
    assert fields["connection"] == "close"
    assert await client.rest() == b"onetwo"


async def test_an_old_client_sees_a_reset_when_the_body_is_not_whole(
    streaming: Any, kit: Any
) -> None:
    client = await streaming.connect()
    await client.send(get(kit, version="1.0"))
    function = await begun(streaming, kit)
    await head(client)
    function.done(kit.result(b"{}", function_error="Unhandled"))
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(8):
            await client.reader.read()


async def test_a_head_request_has_no_body(streaming: Any, kit: Any) -> None:
    client = await streaming.connect()
    await client.send(get(kit, method="HEAD"))
    function = await begun(streaming, kit)
    function.send(b"one")
    function.done(kit.result(b""))
    await head(client)
    await client.send(get(kit))
    (await begun(streaming, kit, 1)).send(b"next")
    assert (await head(client))[0] == b"HTTP/1.1 200 OK"
    assert await piece(client) == b"next"


async def test_requests_sent_ahead_wait_for_the_end_of_the_body(streaming: Any, kit: Any) -> None:
    client = await streaming.connect()
    await client.send(get(kit) + get(kit))
    first = await begun(streaming, kit)
    first.send(b"one")
    await head(client)
    assert await piece(client) == b"one"
    assert len(streaming.invoker.held) == 1
    first.done(kit.result(b""))
    second = await begun(streaming, kit, 1)
    second.send(b"two")
    assert await piece(client) == b""
    await head(client)
    assert await piece(client) == b"two"


async def test_a_client_that_does_not_read_holds_back_the_function(
    streaming: Any, kit: Any
) -> None:
    client = await streaming.connect()
    await client.send(get(kit))
    function = await begun(streaming, kit)
    chunk, sent = b"x" * 65536, 0
    # A function goes on only while less than the window is on the way.
    while sent - function.credit.count < STREAM_WINDOW and sent < 256 * 2**20:
        function.send(chunk)
        sent += len(chunk)
        await asyncio.sleep(0)
    assert sent - function.credit.count == STREAM_WINDOW
    received = 0
    await head(client)
    while received < sent:
        received += len(await piece(client))
    await kit.eventually(lambda: function.credit.count == sent)
    function.done(kit.result(b""))
    assert await piece(client) == b""


async def test_a_client_that_goes_leaves_the_function_running(streaming: Any, kit: Any) -> None:
    client = await streaming.connect()
    await client.send(get(kit))
    function = await begun(streaming, kit)
    chunk, sent = b"x" * 65536, 0
    while sent - function.credit.count < STREAM_WINDOW:
        function.send(chunk)
        sent += len(chunk)
        await asyncio.sleep(0)
    client.close()
    await kit.eventually(lambda: function.credit.count == sent)
    function.send(b"for nobody")
    assert function.credit.count == sent + 10
    function.done(kit.result(b""))
    status, _, _ = await streaming.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status == 404  # others are served


async def test_a_client_that_has_gone_before_the_first_piece(streaming: Any, kit: Any) -> None:
    client = await streaming.connect()
    await client.send(get(kit))
    await kit.eventually(lambda: len(streaming.invoker.held) == 1)
    reset(client.writer.transport)  # a plain end would mean that it still reads
    await kit.eventually(lambda: streaming.server.connections == 0)
    function = await begun(streaming, kit)
    function.send(b"for nobody")
    assert function.credit.count == 10
    function.done(kit.result(b""))


async def test_a_client_that_reads_too_slowly_is_cut_off(kit: Any) -> None:
    settings = HttpSettings(
        sweep_period_s=0.05,
        write_timeout_s=0.2,
        min_rate_bytes_s=10**9,
        allowed_hosts=LOOPBACK_HOSTS + URL_HOSTS,
    )
    async with kit.running("urls", settings) as urls:
        url = urls.view.urls[kit.url_id]
        urls.view.urls[kit.url_id] = dataclasses.replace(url, invoke_mode="RESPONSE_STREAM")
        urls.invoker.behave = lambda _: None
        client = await urls.connect()
        await client.send(get(kit))
        function = await begun(urls, kit)
        sent = 0
        while sent - function.credit.count < STREAM_WINDOW:
            function.send(b"x" * 65536)
            sent += 65536
            await asyncio.sleep(0)
        await kit.eventually(lambda: function.credit.count == sent)
        await kit.eventually(lambda: urls.server.connections == 0)


async def test_a_stop_waits_for_the_end_of_the_body(streaming: Any, kit: Any) -> None:
    client = await streaming.connect()
    await client.send(get(kit))
    function = await begun(streaming, kit)
    function.send(b"one")
    await head(client)
    stopping = asyncio.create_task(streaming.server.drain())
    await kit.eventually(lambda: not _listens(streaming))
    function.send(b"two")
    function.done(kit.result(b""))
    assert await client.rest() == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    async with asyncio.timeout(8):
        await stopping


def _listens(harness: Any) -> bool:
    return any(server.is_serving() for server in harness.server._server.servers)


async def test_a_stream_has_the_headers_of_cors(streaming: Any, kit: Any) -> None:
    url = streaming.view.urls[kit.url_id]
    streaming.view.urls[kit.url_id] = dataclasses.replace(url, cors={"AllowOrigins": ["*"]})
    client = await streaming.connect()
    await client.send(get(kit, "Origin: https://a.example"))
    (await begun(streaming, kit)).done(kit.result(b""))
    assert (await head(client))[1]["access-control-allow-origin"] == "*"


# InvokeWithResponseStream, as boto3 reads it.


class Sdk:
    def __init__(self, api: Any, kit: Any) -> None:
        self._opened: list[Any] = []
        self._client = boto3.client(
            "lambda",
            endpoint_url=api.server.url,
            region_name="us-east-1",
            aws_access_key_id=kit.key,
            aws_secret_access_key=kit.secret,
            config=Config(
                retries={"total_max_attempts": 1}, parameter_validation=False, read_timeout=8
            ),
        )

    async def open(self, **options: Any) -> Any:
        call = self._client.invoke_with_response_stream
        answer = await asyncio.to_thread(call, **{"FunctionName": "echo", **options})
        self._opened.append(answer["EventStream"])
        return answer

    async def events(self, **options: Any) -> tuple[Any, list[Any]]:
        answer = await self.open(**options)
        return answer, await asyncio.to_thread(list, answer["EventStream"])

    def close(self) -> None:
        for stream in self._opened:
            stream.close()
        self._client.close()


@pytest.fixture
async def sdk(api: Any, kit: Any) -> Any:
    client = Sdk(api, kit)
    yield client
    client.close()


async def test_what_does_not_stream_is_one_chunk(sdk: Any, api: Any, kit: Any) -> None:
    api.invoker.behave = lambda one: kit.result(one.payload, log_tail=b"log")
    answer, events = await sdk.events(Payload=b'{"a": 1}', LogType="Tail", Qualifier="live")
    assert answer["StatusCode"] == 200
    assert answer["ExecutedVersion"] == "1"
    assert answer["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    assert events == [
        {"PayloadChunk": {"Payload": b'{"a": 1}'}},
        {"InvokeComplete": {"LogResult": "bG9n"}},
    ]
    seen = api.invoker.seen[0]
    assert (seen.wants_stream, seen.wants_log) == (True, True)
    assert seen.invoked_arn == "arn:aws:lambda:us-east-1:000000000000:function:echo:live"


async def test_an_error_at_once_is_told_at_the_end(sdk: Any, api: Any, kit: Any) -> None:
    error = b'{"errorMessage":"x","errorType":"ValueError"}'
    api.invoker.behave = lambda _: kit.result(error, function_error="Unhandled")
    _, events = await sdk.events()
    assert events == [
        {"InvokeComplete": {"ErrorCode": "Unhandled", "ErrorDetails": error.decode()}}
    ]


async def test_events_arrive_before_the_function_ends(sdk: Any, api: Any, kit: Any) -> None:
    api.invoker.behave = lambda _: None
    asked = asyncio.create_task(sdk.open())
    function = await begun(api, kit, content_type=HTTP_TYPE)
    stream = iter((await asked)["EventStream"])
    for data in (b"{}" + bytes(8), b"\x00\xff" * 30_000):
        function.send(data)
        assert await asyncio.to_thread(next, stream) == {"PayloadChunk": {"Payload": data}}
    function.done(kit.result(b'{"errorType":"E"}', function_error="Unhandled"))
    last = await asyncio.to_thread(next, stream)
    assert last == {
        "InvokeComplete": {"ErrorCode": "Unhandled", "ErrorDetails": '{"errorType":"E"}'}
    }
    assert await asyncio.to_thread(next, stream, None) is None


async def test_a_platform_that_fails_between_pieces_cuts_the_stream(
    sdk: Any, api: Any, kit: Any
) -> None:
    api.invoker.behave = lambda _: None
    asked = asyncio.create_task(sdk.open())
    function = await begun(api, kit)
    stream = iter((await asked)["EventStream"])
    function.send(b"one")
    function.done(SandboxError("the worker has gone"))
    assert await asyncio.to_thread(next, stream) == {"PayloadChunk": {"Payload": b"one"}}
    with pytest.raises((ProtocolError, ResponseStreamingError)):
        await asyncio.to_thread(next, stream)


@pytest.mark.parametrize(
    ("options", "code", "status"),
    [
        ({"FunctionName": "nothing"}, "ResourceNotFoundException", 404),
        ({"FunctionName": "pending"}, "ResourceConflictException", 409),
        ({"Payload": b"{"}, "InvalidRequestContentException", 400),
        ({"InvocationType": "Event"}, "ValidationException", 400),
        ({"LogType": "All"}, "ValidationException", 400),
        ({"ClientContext": "?"}, "InvalidRequestContentException", 400),
        ({"Payload": b" " * (6 * 2**20 + 200)}, "RequestTooLargeException", 413),
    ],
)
async def test_refusals_come_before_the_stream(
    sdk: Any, options: dict[str, Any], code: str, status: int
) -> None:
    with pytest.raises(ClientError) as caught:
        await sdk.open(**options)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


async def test_a_dry_run_runs_nothing(sdk: Any, api: Any) -> None:
    assert (await sdk.open(InvocationType="DryRun"))["StatusCode"] == 204
    assert api.invoker.seen == []


async def test_a_stranger_is_refused(api: Any, kit: Any) -> None:
    class Stranger:
        key, secret = kit.key, "wrong"

    stranger = Sdk(api, Stranger)
    with pytest.raises(ClientError) as caught:
        await stranger.open()
    stranger.close()
    assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"
    assert api.invoker.seen == []
