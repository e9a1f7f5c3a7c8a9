"""A small server that answers as the API does, and a way to run commands against it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from pilotlight.cli.app import run

Reply = tuple[int, dict[str, str], Any]


@dataclass
class FakeServer:
    """Functions in memory; what it does not know it refuses as the API does."""

    functions: dict[str, dict[str, Any]] = field(default_factory=dict)
    urls: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    invoke_reply: Reply = (200, {"X-Amz-Executed-Version": "$LATEST"}, {"ok": True})
    refuse: Reply | None = None
    fails_with: str | None = None
    status: dict[str, Any] | None = None
    last_headers: dict[str, str] = field(default_factory=dict)
    last_body: bytes = b""
    last_query: dict[str, str] = field(default_factory=dict)
    port: int = 0

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        where = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(where.query).items()}
        parts = [unquote(part) for part in where.path.strip("/").split("/")]
        self.calls.append(f"{method} {where.path}")
        self.last_headers, self.last_body, self.last_query = headers, body, query
        if self.refuse is not None:
            return self.refuse
        if parts[:3] == ["api", "v1", "logs"]:
            after, limit = int(query.get("after_id", 0)), int(query["limit"])
            found = [line for line in self.lines if line["id"] > after]
            return 200, {}, {"lines": found[:limit]}
        if parts[:3] == ["api", "v1", "status"] and self.status is not None:
            return 200, {}, self.status
        if parts[1] == "tags":
            self.tags |= json.loads(body)["Tags"]
            return 204, {}, ""
        if parts[0] == "api":
            return 404, {}, {"message": "no such thing"}
        return self.of_function(method, parts, query, body)

    def of_function(
        self, method: str, parts: list[str], query: dict[str, str], body: bytes
    ) -> Reply:
        name, rest = (parts[2] if len(parts) > 2 else ""), parts[3:]
        if not name:
            return self.of_all(method, query, body)
        if name not in self.functions:
            return self.refusal(404, "ResourceNotFoundException", f"Function not found: {name}")
        if rest == ["url"]:
            return self.of_url(method, name)
        if method == "DELETE":
            del self.functions[name]
            return 204, {}, ""
        if method == "PUT":
            return 200, {}, self.store(name, json.loads(body))
        function = self.functions[name]
        replies: dict[tuple[str, ...], Reply] = {
            ("GET", "configuration"): (200, {}, function),
            ("GET",): (200, {}, {"Configuration": function, "Tags": self.tags}),
            ("POST", "invocations"): self.invoke_reply,
            ("POST", "policy"): (201, {}, {}),
        }
        return replies[(method, *rest)]

    def of_all(self, method: str, query: dict[str, str], body: bytes) -> Reply:
        if method == "GET":
            return 200, {}, self.page(query)
        content = json.loads(body)
        self.tags |= content.get("Tags", {})
        return 201, {}, self.store(content["FunctionName"], content)

    def of_url(self, method: str, name: str) -> Reply:
        if method == "GET" and name not in self.urls:
            return self.refusal(404, "ResourceNotFoundException", "no URL")
        self.urls.add(name)
        return 200, {}, {"FunctionUrl": "http://abc123.lambda-url.us-east-1.localhost:9701/"}

    def store(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        code = content.pop("Code", content)
        function = self.functions.setdefault(
            name,
            {"FunctionName": name, "FunctionArn": f"arn:aws:lambda:us-east-1:0:function:{name}"},
        )
        if "ZipFile" in code:
            package = base64.b64decode(code.pop("ZipFile"))
            function["CodeSha256"] = base64.b64encode(hashlib.sha256(package).digest()).decode()
            function["CodeSize"] = len(package)
        function |= {key: value for key, value in content.items() if key != "Tags"}
        function["State"] = "Failed" if self.fails_with else "Active"
        function["StateReason"] = self.fails_with
        function["LastUpdateStatus"] = "Successful"
        return function

    def page(self, query: dict[str, str]) -> dict[str, Any]:
        names = sorted(self.functions)
        start = names.index(query["Marker"]) if "Marker" in query else 0
        following = names[start + 2 : start + 3]
        page = {"Functions": [self.functions[name] for name in names[start : start + 2]]}
        return page | ({"NextMarker": following[0]} if following else {})

    def refusal(self, status: int, error: str, message: str) -> Reply:
        return (
            status,
            {"x-amzn-ErrorType": error, "x-amzn-RequestId": "req-1"},
            {"Message": message},
        )


def _handler(fake: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            named = {name.lower(): value for name, value in self.headers.items()}
            status, headers, content = fake.answer(self.command, self.path, named, body)
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  (names of the standard library)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake)) as httpd:
        httpd.daemon_threads = True
        httpd.block_on_close = False
        fake.port = httpd.server_address[1]
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty folder, no variables but keys, no interpreters but ours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_LAMBDA", "AWS_REGION", "PILOTLIGHT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PILOTLIGHT_ROOT_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("PILOTLIGHT_ROOT_SECRET_ACCESS_KEY", "w" * 40)


Run = Callable[..., int]


@pytest.fixture
def cli(server: FakeServer) -> Run:
    """Run a command line against the fake server; returns the exit code."""

    def one(*arguments: str) -> int:
        return run([*arguments, "--endpoint", f"http://127.0.0.1:{server.port}"])

    return one
