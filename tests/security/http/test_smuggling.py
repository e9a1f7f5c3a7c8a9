"""Requests that two parties could read differently are refused and their connection is closed.

Source of the rules: RFC 9112, sections 5.1, 6.1, 6.3, 7.1 and 11.2; RFC 9110, section 7.2.
"""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.anyio

AFTER = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def post(*lines: bytes, version: bytes = b"1.1", host: bytes = b"Host: localhost") -> bytes:
    return b"\r\n".join([b"POST /x HTTP/" + version, host, *lines, b"", b""])


CASES = {
    "length and coding": post(b"Content-Length: 3", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "coding and length": post(b"Transfer-Encoding: chunked", b"Content-Length: 3") + b"0\r\n\r\n",
    "two lengths": post(b"Content-Length: 3", b"Content-Length: 4") + b"abc",
    "same length twice": post(b"Content-Length: 3", b"Content-Length: 3") + b"abc",
    "length list": post(b"Content-Length: 3, 3") + b"abc",
    "signed length": post(b"Content-Length: +3") + b"abc",
    "negative length": post(b"Content-Length: -1"),
    "hexadecimal length": post(b"Content-Length: 0x3") + b"abc",
    "huge length": post(b"Content-Length: 99999999999999999999") + b"abc",
    "blank in length": post(b"Content-Length: 3 3") + b"abc",
    "unknown coding": post(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "coding list": post(b"Transfer-Encoding: identity, chunked") + b"0\r\n\r\n",
    "chunked not last": post(b"Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n",
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n",
    "two codings": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x") + b"0\r\n\r\n",
    "blank before colon": post(b"Transfer-Encoding : chunked") + b"0\r\n\r\n",
    "tab in coding": post(b"Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n",
    "coding on 1.0": post(b"Transfer-Encoding: chunked", version=b"1.0") + b"0\r\n\r\n",
    "folded coding": post(b"Transfer-Encoding:\r\n chunked") + b"0\r\n\r\n",
    "folded header": post(b"X: a", b" Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "bare line feed": b"POST /x HTTP/1.1\nHost: localhost\n\n",
    "bare carriage return": post(b"X: a\rTransfer-Encoding: chunked") + b"0\r\n\r\n",
    "nul in value": post(b"X: a\x00b"),
    "blank in name": post(b"X Y: a"),
    "empty name": post(b": a"),
    "chunk size sign": post(b"Transfer-Encoding: chunked") + b"+3\r\nabc\r\n0\r\n\r\n",
    "chunk size prefix": post(b"Transfer-Encoding: chunked") + b"0x3\r\nabc\r\n0\r\n\r\n",
    "chunk too long": post(b"Transfer-Encoding: chunked") + b"3\r\nabcd\r\n0\r\n\r\n",
    "chunk line feed": post(b"Transfer-Encoding: chunked") + b"3\nabc\r\n0\r\n\r\n",
    "chunk overflow": post(b"Transfer-Encoding: chunked") + b"fffffffffffffffff\r\nabc\r\n",
    "no host": b"GET /x HTTP/1.1\r\n\r\n",
    "no host 1.0": b"GET /x HTTP/1.0\r\n\r\n",
    "two hosts": post(b"Host: localhost"),
    "empty host": post(host=b"Host: "),
    "absolute target": b"GET http://localhost/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "authority target": b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "unknown version": b"GET /x HTTP/1.2\r\nHost: localhost\r\n\r\n",
    "version 2": b"GET /x HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "version 0.9": b"GET /x\r\n\r\n",
    "http2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown method": b"SMUGGLE /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "upgrade with body": post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 3")
    + b"abc",
    "other expectation": post(b"Expect: 200-ok", b"Content-Length: 0"),
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
}


@pytest.mark.parametrize("name", CASES)
async def test_ambiguous_request_is_refused_and_nothing_after_it_is_read(
    kit: Any, name: Any
) -> None:
    asked = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.disconnect":
            return
        asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with kit.running("api", app=app) as api:
        client = await api.connect()
        await client.send(CASES[name] + AFTER)
        status, fields, _ = await client.response()
        assert 400 <= status <= 599
        assert ("connection", "close") in fields
        assert await client.rest() == b""
        assert asked == []


@pytest.mark.parametrize(
    "host",
    [b"evil.example", b"localhost.evil.example", b"127.0.0.1.nip.io", b"[::2]", b"local host"],
)
async def test_foreign_host_is_refused_and_the_setting_is_named(api: Any, host: Any) -> None:
    status, _, body = await api.ask(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert status == 421
    assert b"allowed_hosts" in body


@pytest.mark.parametrize(
    "host", [b"localhost", b"LOCALHOST:1", b"a.localhost", b"127.0.0.1:9700", b"[::1]:9700"]
)
async def test_own_hosts_are_answered(api: Any, host: Any) -> None:
    assert (await api.ask(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"))[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"X: y\r\n" * 200,
        b"X: " + b"y" * 100_000 + b"\r\n",
        b"X" * 100_000 + b": y\r\n",
    ],
)
async def test_too_many_or_too_large_headers_are_431(api: Any, head: Any) -> None:
    status, _, _ = await api.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n")
    assert status == 431


async def test_endless_header_line_is_cut_while_it_arrives(api: Any) -> None:
    client = await api.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
    for _ in range(20):
        await client.send(b"y" * 10_000)
    assert (await client.response())[0] == 431


async def test_endless_target_is_cut(api: Any) -> None:
    assert (await api.ask(b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n"))[0] == 431


async def test_endless_trailers_are_cut(api: Any) -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    client = await api.connect()
    await client.send(head + b"T: y\r\n" * 50_000 + b"\r\n")
    status, fields, _ = await client.response()
    assert status == 431
    assert ("connection", "close") in fields


async def test_trailers_do_not_become_headers(kit: Any) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with kit.running("api", app=app) as api:
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        await api.ask(head + b"0\r\nAuthorization: stolen\r\n\r\n")
        assert (b"authorization", b"stolen") not in seen


async def test_endless_refused_upload_is_aborted(kit: Any) -> None:
    async with kit.running("urls") as urls:
        client = await urls.connect()
        head = f"POST /url/{kit.url_id}/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n"
        await client.send(head.encode())
        assert (await client.response())[0] == 413

        async def send_for_ever() -> None:
            while True:
                await client.send(b"x" * 65_536)

        with pytest.raises(ConnectionError):
            await send_for_ever()
