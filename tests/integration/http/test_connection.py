"""Connections on real sockets: order, framing, deadlines, shutdown."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from pilotlight.dataplane.frontend.http import HttpServer, HttpSettings
from pilotlight.model.errors import ConfigurationError

pytestmark = pytest.mark.anyio

BODY = b'{"statusCode": 200, "body": "ok"}'


def get(
    kit: Any, path: bytes = b"/", *extra: bytes, method: bytes = b"GET", version: bytes = b"1.1"
) -> Any:
    lines = [method + b" /url/" + kit.url_id.encode() + path + b" HTTP/" + version]
    return b"\r\n".join([*lines, b"Host: localhost", *extra, b"", b""])


def post(kit: Any, body: bytes, *extra: bytes) -> Any:
    return get(kit, b"/", b"Content-Length: %d" % len(body), *extra, method=b"POST") + body


async def test_pipelined_requests_are_answered_in_order(urls: Any, kit: Any) -> None:
    urls.invoker.behave = lambda inv: None if b"/slow" in inv.payload else kit.result(b'"fast"')
    client = await urls.connect()
    await client.send(get(kit, b"/slow") + get(kit, b"/fast") + get(kit, b"/fast"))
    await kit.eventually(lambda: len(urls.invoker.held) == 1)
    assert len(urls.invoker.seen) == 1
    urls.invoker.held[0][1](kit.result(b'"slow"'))
    bodies = [(await client.response())[2] for _ in range(3)]
    assert bodies == [b"slow", b"fast", b"fast"]
    client.close()


async def test_pipelined_asgi_and_direct_requests_keep_their_order(api: Any) -> None:
    asgi = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
    direct = b"POST /2015-03-31/functions/x/invocations HTTP/1.1\r\nHost: localhost\r\n"
    direct += b"Content-Length: 2\r\n\r\n{}"
    client = await api.connect()
    await client.send(asgi + direct + asgi + direct)
    assert [(await client.response())[0] for _ in range(4)] == [200, 403, 200, 403]
    client.close()


async def test_a_thousand_pipelined_requests_are_all_answered(urls: Any, kit: Any) -> None:
    client = await urls.connect()
    await client.send(get(kit) * 1000)
    for _ in range(1000):
        assert (await client.response())[0] == 200
    client.close()


async def test_request_in_single_bytes(urls: Any, kit: Any) -> None:
    client = await urls.connect()
    for byte in post(kit, b"hello", b"Content-Type: text/plain"):
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.response())[0] == 200
    assert b'"body":"hello"' in urls.invoker.seen[0].payload
    client.close()


async def test_chunked_body_is_joined(urls: Any, kit: Any) -> None:
    chunks = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
    head = get(kit, b"/", b"Transfer-Encoding: chunked", b"Content-Type: text/plain", method=b"PUT")
    status, _, _ = await urls.ask(head + chunks)
    assert status == 200
    assert b'"body":"hello world"' in urls.invoker.seen[0].payload


async def test_expect_100_continue_is_answered_before_the_body(urls: Any, kit: Any) -> None:
    client = await urls.connect()
    head = get(kit, b"/", b"Content-Length: 2", b"Expect: 100-continue", method=b"POST")
    await client.send(head)
    assert (await client.response())[0] == 100
    await client.send(b"hi")
    assert (await client.response())[0] == 200
    client.close()


async def test_refused_expectation_never_asks_for_the_body(api: Any) -> None:
    client = await api.connect()
    await client.send(
        b"POST /2015-03-31/functions/x/invocations HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    )
    status, fields, _ = await client.response()
    assert status == 403
    assert ("connection", "close") in fields
    assert await client.rest() == b""
    client.close()


async def test_head_has_length_but_no_body(urls: Any, kit: Any) -> None:
    urls.invoker.behave = lambda _: kit.result(BODY)
    client = await urls.connect()
    await client.send(get(kit, method=b"HEAD"))
    status, fields, _ = await client.response(is_head=True)
    assert (status, dict(fields)["content-length"]) == (200, "2")
    await client.send(get(kit))
    assert (await client.response())[2] == b"ok"
    client.close()


async def test_http_1_0_is_answered_and_closed(urls: Any, kit: Any) -> None:
    client = await urls.connect()
    await client.send(get(kit, version=b"1.0"))
    status, fields, _ = await client.response()
    assert status == 200
    assert ("connection", "close") in fields
    assert await client.rest() == b""
    client.close()


async def test_connection_close_ends_the_connection_and_ignores_what_follows(
    urls: Any, kit: Any
) -> None:
    client = await urls.connect()
    await client.send(get(kit, b"/", b"Connection: close") + get(kit))
    assert (await client.response())[0] == 200
    assert await client.rest() == b""
    assert len(urls.invoker.seen) == 1
    client.close()


async def test_half_closed_client_still_gets_its_answer(urls: Any, kit: Any) -> None:
    urls.invoker.behave = lambda _: None
    client = await urls.connect()
    await client.send(get(kit))
    await kit.eventually(lambda: len(urls.invoker.held) == 1)
    client.writer.write_eof()
    await asyncio.sleep(0.05)
    urls.invoker.held[0][1](kit.result(BODY))
    assert (await client.response())[0] == 200
    assert await client.rest() == b""
    client.close()


async def test_client_that_leaves_does_not_break_the_late_answer(urls: Any, kit: Any) -> None:
    urls.invoker.behave = lambda _: None
    client = await urls.connect()
    await client.send(post(kit, b"x" * 200_000))
    await kit.eventually(lambda: len(urls.invoker.held) == 1)
    client.close()
    await asyncio.sleep(0.05)
    assert urls.listener.budget.held_bytes > 0  # the function still has its event
    urls.invoker.held[0][1](kit.result(BODY))
    await kit.eventually(lambda: urls.server.connections == 0)
    assert urls.listener.budget.held_bytes == 0


async def test_upgrade_is_ignored_and_the_connection_closed(urls: Any, kit: Any) -> None:
    client = await urls.connect()
    await client.send(get(kit, b"/", b"Connection: Upgrade", b"Upgrade: h2c"))
    status, fields, _ = await client.response()
    assert status == 200
    assert ("connection", "close") in fields
    client.close()


async def test_large_answer_reaches_a_slow_reader_whole(urls: Any, kit: Any) -> None:
    text = b"x" * 5_000_000
    urls.invoker.behave = lambda _: kit.result(b'"' + text + b'"')
    client = await urls.connect()
    await client.send(get(kit) + get(kit))
    for _ in range(2):
        await asyncio.sleep(0.1)
        assert (await client.response())[2] == text
    client.close()


async def test_asgi_application_gets_bodies_and_answers(api: Any) -> None:
    for _ in range(2):
        status, _, body = await api.ask(
            b"POST /a%20b?x=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
            + b"y" * 100_000
        )
        assert status == 200
        assert body == b"POST /a b?x=1\n" + b"y" * 100_000


async def test_early_asgi_answer_is_followed_by_the_next_request(kit: Any) -> None:
    async def impatient(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with kit.running("api", app=impatient) as api:
        client = await api.connect()
        head = b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
        await client.send(head)
        assert (await client.reader.readuntil(b"0\r\n\r\n")).startswith(b"HTTP/1.1 403")
        await client.send(b"hello" + head + b"hello")
        assert (await client.reader.readuntil(b"0\r\n\r\n")).startswith(b"HTTP/1.1 403")
        client.close()


# -- deadlines --------------------------------------------------------------------------------


def fast(**limits: Any) -> HttpSettings:
    return HttpSettings(sweep_period_s=0.02, **limits)


async def test_slow_head_is_answered_408(kit: Any) -> None:
    async with kit.running("urls", fast(head_timeout_s=0.1)) as urls:
        client = await urls.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: loc")
        assert (await client.response())[0] == 408
        assert await client.rest() == b""
        client.close()


async def test_slow_body_is_answered_408(kit: Any) -> None:
    async with kit.running("urls", fast(body_timeout_s=0.1)) as urls:
        client = await urls.connect()
        await client.send(get(kit, b"/", b"Content-Length: 10", method=b"POST") + b"abc")
        assert (await client.response())[0] == 408
        assert urls.invoker.seen == []
        client.close()


async def test_slow_body_of_an_asgi_request_is_answered_408(kit: Any) -> None:
    async with kit.running("api", fast(body_timeout_s=0.1)) as api:
        client = await api.connect()
        await client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")
        assert (await client.response())[0] == 408
        client.close()


async def test_idle_connection_is_closed(kit: Any) -> None:
    async with kit.running("urls", fast(idle_timeout_s=0.1)) as urls:
        client = await urls.connect()
        await client.send(get(kit))
        assert (await client.response())[0] == 200
        assert await client.rest() == b""
        client.close()


async def test_a_running_function_is_no_idle_connection(kit: Any) -> None:
    async with kit.running("urls", fast(idle_timeout_s=0.1, head_timeout_s=0.1)) as urls:
        urls.invoker.behave = lambda _: None
        client = await urls.connect()
        await client.send(get(kit))
        await asyncio.sleep(0.4)
        urls.invoker.held[0][1](kit.result(BODY))
        assert (await client.response())[0] == 200
        client.close()


async def test_client_that_does_not_read_is_cut_off(kit: Any) -> None:
    limits = fast(write_timeout_s=0.1, min_rate_bytes_s=100_000_000)
    async with kit.running("urls", limits) as urls:
        urls.invoker.behave = lambda _: kit.result(b'"' + b"x" * 5_900_000 + b'"')
        sock = socket.create_connection(urls.server.address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.to_thread(sock.sendall, get(kit) * 4)
        await kit.eventually(lambda: urls.server.connections == 1)
        await kit.eventually(lambda: urls.server.connections == 0)
        sock.close()


# -- limits -----------------------------------------------------------------------------------


async def test_too_many_connections_get_503(kit: Any) -> None:
    async with kit.running("urls", fast(max_connections=1)) as urls:
        first = await urls.connect()
        await first.send(get(kit))
        assert (await first.response())[0] == 200
        second = await urls.connect()
        assert (await second.response())[0] == 503
        first.close()
        second.close()


async def test_oversized_body_is_refused_before_it_is_read(urls: Any, kit: Any) -> None:
    client = await urls.connect()
    await client.send(get(kit, b"/", b"Content-Length: 7000000", method=b"POST"))
    status, fields, body = await client.response()
    assert status == 413
    assert b"Request must be smaller than 6291456 bytes for the InvokeFunction operation" in body
    assert ("connection", "close") in fields
    client.close()


async def test_oversized_chunked_body_is_cut_at_the_limit(urls: Any, kit: Any) -> None:
    client = await urls.connect()
    await client.send(get(kit, b"/", b"Transfer-Encoding: chunked", method=b"POST"))
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    for _ in range(7):
        await client.send(chunk)
    assert (await client.response())[0] == 413
    assert urls.invoker.seen == []
    client.close()


async def test_body_budget_of_the_process_answers_503_and_of_a_key_429(kit: Any) -> None:
    for limits, expected in (
        ({"body_budget_bytes": 100_000}, 503),
        ({"key_budget_bytes": 100_000}, 429),
    ):
        async with kit.running("urls", fast(**limits)) as urls:
            status, _, _ = await urls.ask(post(kit, b"x" * 200_000))
            assert status == expected
            assert (await urls.ask(post(kit, b"x" * 90_000)))[0] == 200
            assert urls.listener.budget.held_bytes == 0


# -- shutdown ---------------------------------------------------------------------------------


async def test_drain_finishes_running_requests_and_refuses_new_connections(kit: Any) -> None:
    async with kit.running("urls") as urls:
        urls.invoker.behave = lambda _: None
        idle, busy = await urls.connect(), await urls.connect()
        await busy.send(get(kit))
        await kit.eventually(lambda: len(urls.invoker.held) == 1)
        async with asyncio.TaskGroup() as group:
            drained = group.create_task(urls.server.drain())
            assert await idle.rest() == b""
            assert not drained.done()
            urls.invoker.held[0][1](kit.result(BODY))
            status, fields, _ = await busy.response()
            assert status == 200
            assert ("connection", "close") in fields
        with pytest.raises(ConnectionRefusedError):
            await urls.connect()


async def test_drain_cuts_off_what_does_not_end(kit: Any) -> None:
    async with kit.running("urls", fast(drain_timeout_s=1)) as urls:
        urls.invoker.behave = lambda _: None
        client = await urls.connect()
        await client.send(get(kit))
        await kit.eventually(lambda: len(urls.invoker.held) == 1)
        await urls.server.drain()
        assert await client.rest() == b""


async def test_address_in_use_is_a_configuration_error(urls: Any) -> None:
    host, port = urls.server.address
    with pytest.raises(ConfigurationError, match=f"Cannot listen on {host}:{port}"):
        HttpServer("second", host, port, urls.listener, None)
