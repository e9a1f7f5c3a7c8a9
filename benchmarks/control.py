"""Control plane: reading functions with many of them stored, against moto's server.

Both get the same functions through the same boto3 calls. What is timed are GET requests signed
beforehand over a plain connection, so the client costs both the same and next to nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from benchmarks import functions, peers
from benchmarks.report import Report
from pilotlight.testing.platform import running_platform

_REQUESTS = {
    "GetFunction": "/2015-03-31/functions/{name}",
    "ListFunctions (first 50)": "/2015-03-31/functions/?MaxItems=50",
}
_CALLERS = 4
Settings = dict[str, str]


def measure(report: Report, *, stored: int, samples: int) -> None:
    """Store functions in both, time each request in turn, and report medians and ratios."""
    with tempfile.TemporaryDirectory() as name, running_platform(Path(name) / "data") as platform:
        ours = platform.credentials()
        ours_s = _fill(ours, functions.ROLE, stored)
        with _moto() as theirs:
            role = boto3.client("iam", **theirs).create_role(
                RoleName="bench", AssumeRolePolicyDocument="{}"
            )["Role"]["Arn"]
            theirs_s = _fill(theirs, role, stored)
            rows = []
            for title, path in _REQUESTS.items():
                calls = {
                    "pilotlight": _get(ours, path.format(name=_name(stored // 2))),
                    "moto": _get(theirs, path.format(name=_name(stored // 2))),
                }
                times = _times(calls, samples)
                report.raw(f"control/{title}", times)
                own, other = (statistics.median(times[key]) * 1e3 for key in calls)
                rows.append([title, f"{own:.2f}", f"{other:.2f}", f"{other / own:.1f}"])
    report.raw("control/fill", {"pilotlight": ours_s, "moto": theirs_s, "functions": stored})
    rows.append(
        [
            f"CreateFunction, {_CALLERS} callers, mean",
            f"{ours_s / stored * 1e3:.2f}",
            f"{theirs_s / stored * 1e3:.2f}",
            f"{theirs_s / ours_s:.1f}",
        ]
    )
    report.table(
        f"control plane with {stored} functions stored",
        ["call", "pilotlight p50 ms", "moto p50 ms", "moto / pilotlight"],
        rows,
    )


@contextlib.contextmanager
def _moto() -> Iterator[Settings]:
    port = peers.free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with peers.child(command, Path.cwd()):
        peers.wait_for(port)
        yield {
            "endpoint_url": f"http://127.0.0.1:{port}",
            "region_name": "us-east-1",
            "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
            "aws_secret_access_key": "none",
        }


def _name(number: int) -> str:
    return f"function-{number:05d}"


def _fill(settings: Settings, role: str, stored: int) -> float:
    """Create the functions; return how long that took, in seconds."""
    config = Config(retries={"max_attempts": 3}, max_pool_connections=_CALLERS)
    api = boto3.client("lambda", config=config, **settings)
    package = functions.package(functions.ECHO)

    def create(number: int) -> None:
        api.create_function(
            FunctionName=_name(number),
            Runtime="python3.11",
            Role=role,
            Handler="app.handler",
            Code={"ZipFile": package},
            Environment={"Variables": {"STAGE": "bench"}},
        )

    began_s = time.perf_counter()
    with ThreadPoolExecutor(_CALLERS) as pool:
        list(pool.map(create, range(stored)))
    return time.perf_counter() - began_s


def _get(settings: Settings, path: str) -> Callable[[], None]:
    """A signed GET over a connection that is kept where the server keeps it."""
    where = urlsplit(settings["endpoint_url"])
    request = AWSRequest("GET", settings["endpoint_url"] + path)
    keys = Credentials(settings["aws_access_key_id"], settings["aws_secret_access_key"])
    SigV4Auth(keys, "lambda", settings["region_name"]).add_auth(request)
    headers: dict[str, Any] = dict(request.headers)
    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=120)

    def call() -> None:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"GET {path} answered {answer.status}: {body[:200]!r}")

    return call


def _times(calls: dict[str, Callable[[], None]], samples: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(samples):  # in turn, so that a disturbance meets both
        for name, call in calls.items():
            began_s = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began_s)
    return times
