"""Whatever bytes arrive, in whatever pieces: no crash, no request unanswered or answered twice."""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.anyio

GOOD = [
    b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /c HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    (
        b"POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    ),
]
LAST = b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [A-Za-z ]*\r\n")


def responses(raw: bytes) -> list[int]:
    """Parse a whole connection's answers strictly; any stray byte fails."""
    found = []
    while raw:
        line = _STATUS.match(raw)
        assert line is not None, raw[:80]
        head, _, rest = raw[line.end() - 2 :].partition(b"\r\n\r\n")
        fields = dict(field.split(b": ", 1) for field in head.lower().split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", b"0"))
        assert len(rest) >= length
        raw = rest[length:]
        found.append(int(line[1]))
    return found


async def talk(api: Any, data: bytes, cuts: list[int]) -> bytes:
    client = await api.connect()
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    try:
        for start, end in itertools.pairwise(places):
            await client.send(data[start:end])
            await asyncio.sleep(0)
        client.writer.write_eof()
    except (ConnectionError, OSError):
        pass
    try:
        received: bytes = await client.rest()
        return received
    finally:
        client.close()


async def test_well_formed_requests_in_any_pieces_are_each_answered_once(api: Any) -> None:
    async def check(requests: list[bytes], cuts: list[int]) -> None:
        raw = await talk(api, b"".join(requests) + LAST, cuts)
        expected = [403 if b"invocations" in one else 200 for one in requests]
        assert responses(raw) == [*expected, 200]

    await fuzz(
        check,
        st.lists(st.sampled_from(GOOD), max_size=6),
        st.lists(st.integers(0, 600), max_size=8),
    )


async def test_damaged_requests_never_crash_the_server(api: Any) -> None:
    async def check(
        requests: list[bytes], damage: list[tuple[int, bytes]], cuts: list[int]
    ) -> None:
        data = b"".join(requests)
        for place, piece in damage:
            data = data[:place] + piece + data[place + 1 :]
        found = responses(await talk(api, data, cuts))
        assert all(200 <= status < 600 and status != 500 for status in found)
        assert responses(await talk(api, LAST, [])) == [200]

    await fuzz(
        check,
        st.lists(st.sampled_from(GOOD), min_size=1, max_size=3),
        st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=6)), max_size=4),
        st.lists(st.integers(0, 400), max_size=4),
    )


async def test_random_bytes_never_crash_the_server(api: Any) -> None:
    async def check(data: bytes) -> None:
        responses(await talk(api, data, []))
        assert responses(await talk(api, LAST, [])) == [200]

    await fuzz(check, st.binary(max_size=200))


async def fuzz(check: Any, *strategies: Any) -> None:
    """Run an asynchronous property: hypothesis draws in a thread, the check runs on the loop."""
    loop = asyncio.get_running_loop()

    @settings(
        max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.tuples(*strategies))
    def prop(values: Any) -> None:
        asyncio.run_coroutine_threadsafe(check(*values), loop).result(timeout=15)

    await asyncio.to_thread(prop)
