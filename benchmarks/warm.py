"""Warm throughput and latency: function URL and signed Invoke, against a peer and a floor."""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from benchmarks import functions, load, peers
from benchmarks.report import Report
from pilotlight.testing.platform import ACCESS_KEY, SECRET_KEY, Platform, running_platform

CONNECTIONS = (1, 16, 64)
INVOKE = "/2015-03-31/functions/signed/invocations"


def signed_script(platform: Platform, count: int) -> str:
    """A wrk script that sends requests signed beforehand, each with its own body, in turn."""
    rows = []
    for number in range(count):
        body = json.dumps({"name": "world", "n": number, "pad": "0123456789abcdefghijklm"})
        request = AWSRequest("POST", platform.url + INVOKE, data=body)
        SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "lambda", "us-east-1").add_auth(request)
        head = "".join(f"{k}: {v}\\r\\n" for k, v in request.headers.items())
        host = platform.url.removeprefix("http://")
        text = f"POST {INVOKE} HTTP/1.1\\r\\nHost: {host}\\r\\n{head}Content-Length: {len(body)}\\r\\n\\r\\n{body}"
        rows.append(f"'{text}'")
    return (
        "local requests = {" + ",\n".join(rows) + "}\nlocal i = 0\n"
        "request = function() i = i % #requests + 1; return requests[i] end"
    )


def measure(report: Report, *, seconds: int, rounds: int) -> None:
    """Run all servers side by side and load them in turn, ``rounds`` times; medians are reported."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            running_platform(folder / "data") as platform,
            peers.functions_framework(folder) as peer,
            peers.floor() as floor,
        ):
            api = functions.client(platform)
            functions.deploy(api, "echo", functions.ECHO_URL)
            functions.deploy(api, "signed", functions.ECHO)
            url = functions.public_url(api, "echo")
            targets = {
                "function URL": (url, platform.pid, ""),
                "signed Invoke": (
                    platform.url + INVOKE,
                    platform.pid,
                    signed_script(platform, 2000),
                ),
                peer.name: (peer.url, peer.pid, ""),
                floor.name: (floor.url, floor.pid, ""),
            }
            rows = _rounds(targets, seconds, rounds)
    for connections in CONNECTIONS:
        _table(report, rows, connections, peer.name, floor.name)


def _rounds(
    targets: dict[str, tuple[str, int, str]], seconds: int, rounds: int
) -> dict[tuple[str, int], list[load.Load]]:
    rows: dict[tuple[str, int], list[load.Load]] = {}
    for url, pid, text in targets.values():
        load.run(url, connections=16, seconds=1, served=[pid], text=text)
    for _ in range(rounds):
        for connections in CONNECTIONS:
            for name, (url, pid, text) in targets.items():
                one = load.run(
                    url, connections=connections, seconds=seconds, served=[pid], text=text
                )
                rows.setdefault((name, connections), []).append(one)
    return rows


def _table(
    report: Report,
    rows: dict[tuple[str, int], list[load.Load]],
    connections: int,
    peer: str,
    floor: str,
) -> None:
    middle = {
        name: load.Load(
            *(statistics.median(getattr(x, k) for x in values) for k in asdict(values[0]))
        )
        for (name, c), values in rows.items()
        if c == connections
    }
    report.table(
        f"warm, {connections} connections",
        [
            "server",
            "requests/s",
            f"x {peer.split(' ', maxsplit=1)[0]}",
            "p50 ms",
            "p99 ms",
            "CPU µs/request",
            "main+threads+children",
            "x floor CPU",
            "errors",
        ],
        [
            [
                n,
                f"{x.rate:.0f}",
                f"{x.rate / middle[peer].rate:.2f}",
                f"{x.p50_ms:.2f}",
                f"{x.p99_ms:.2f}",
                f"{x.cpu_us:.0f}",
                f"{x.main_us:.0f}+{x.threads_us:.0f}+{x.children_us:.0f}",
                f"{x.cpu_us / middle[floor].cpu_us:.2f}",
                f"{x.errors}",
            ]
            for n, x in middle.items()
        ],
    )
    for (name, c), values in rows.items():
        if c == connections:
            report.raw(f"warm/{name}/{c}", [asdict(v) for v in values])
