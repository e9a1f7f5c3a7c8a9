"""A small client of the API: signed requests over one connection, errors in plain words."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from pilotlight.cli.errors import NoServer, ServerAnswer, WrongKeys
from pilotlight.config.target import Target
from pilotlight.kernel.system import SystemClock
from pilotlight.ports.auth import SignedRequest
from pilotlight.ports.clock import Clock
from pilotlight.wire.sigv4 import SigningCredentials, sign

FUNCTIONS = "/2015-03-31/functions"
TIMEOUT_S = 60.0
_KEY_ERRORS = frozenset(
    {
        "InvalidSignatureException",
        "UnrecognizedClientException",
        "IncompleteSignatureException",
        "MissingAuthenticationTokenException",
    }
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty where it is empty or something else."""
        try:
            content = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}


class Client:
    """Sends requests to one server. Not for several threads."""

    def __init__(self, target: Target, clock: Clock | None = None) -> None:
        self.target = target
        self._clock = clock or SystemClock()
        where = urlsplit(target.endpoint)
        kind = (
            http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(where.hostname or "", where.port, timeout=TIMEOUT_S)
        self._host = where.netloc.rpartition("@")[2]
        self._prefix = where.path.rstrip("/")
        self._credentials = SigningCredentials(target.access_key_id, target.secret_access_key)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """GET a JSON object."""
        return self.call("GET", path, query=query).json()

    def send(self, method: str, path: str, content: Mapping[str, object]) -> dict[str, Any]:
        """Send a JSON object, get one back."""
        return self.call(method, path, body=json.dumps(content).encode()).json()

    def send_query(
        self, method: str, path: str, query: Mapping[str, str], content: Mapping[str, object]
    ) -> dict[str, Any]:
        """Send a JSON object with a query, get one back."""
        return self.call(method, path, query=query, body=json.dumps(content).encode()).json()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Answer:
        """Sign and send one request.

        Args:
            method: upper case.
            path: already percent-encoded.
            query: names and values, not yet encoded.
            body: sent as it is.
            headers: further ones, all signed.
            timeout_s: longest wait for any part of the answer.

        Raises:
            NoServer: it cannot be reached, or hung up.
            WrongKeys: it refused the signature.
            ServerAnswer: it answered with an error.
        """
        target = self._prefix + path
        encoded = urlencode(query or {}, quote_via=quote)
        given = [(b"host", self._host.encode())]
        given += [
            (name.lower().encode(), value.encode()) for name, value in (headers or {}).items()
        ]
        added = sign(
            SignedRequest(method.encode(), target.encode(), encoded.encode(), given),
            credentials=self._credentials,
            region=self.target.region,
            service="lambda",
            now_s=self._clock.wall(),
            body_sha256=hashlib.sha256(body).hexdigest(),
        )
        lines = {name.decode(): value.decode("latin-1") for name, value in [*given, *added]}
        answer = self._exchange(method, target, encoded, body, lines, timeout_s)
        if answer.status >= 400:  # noqa: PLR2004  (client and server errors)
            raise self._refusal(answer)
        return answer

    def _exchange(
        self,
        method: str,
        path: str,
        query: str,
        body: bytes,
        headers: dict[str, str],
        timeout_s: float,
    ) -> Answer:
        connection = self._connection
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        try:
            connection.request(method, f"{path}?{query}" if query else path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except TimeoutError as exc:
            connection.close()
            raise NoServer(
                f"{self.target.endpoint} did not answer within {timeout_s:g} s."
            ) from exc
        except (OSError, http.client.HTTPException) as exc:
            connection.close()
            raise NoServer(
                f"No server answers at {self.target.endpoint} ({_why(exc)}).",
                "Start one with: pilotlight up\nAnother address or data directory: "
                "--endpoint URL or --data-dir DIR.",
            ) from exc
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, named, content)

    def _refusal(self, answer: Answer) -> ServerAnswer:
        content = answer.json()
        error = answer.headers.get("x-amzn-errortype") or str(content.get("__type", ""))
        error = error.split(":")[0].rpartition("#")[2] or f"HTTP {answer.status}"
        message = str(content.get("message") or content.get("Message") or "no explanation")
        if error in _KEY_ERRORS:
            message += (
                f"\nThe keys came from {self.target.origin}. Name the data directory of the server "
                'with --data-dir DIR, or export its keys: eval "$(pilotlight env --data-dir DIR)"'
            )
        kind = WrongKeys if error in _KEY_ERRORS else ServerAnswer
        request_id = answer.headers.get("x-amzn-requestid", "")
        return kind(error=error, status=answer.status, message=message, request_id=request_id)


def function_path(name: str, *rest: str) -> str:
    """Path of a function in the API; the name may be an ARN."""
    return "/".join((FUNCTIONS, quote(name, safe=""), *rest))


def list_functions(client: Client) -> Iterator[dict[str, Any]]:
    """All functions, page by page."""
    marker = ""
    while True:
        query = {"MaxItems": "50"} | ({"Marker": marker} if marker else {})
        page = client.get(FUNCTIONS + "/", query)
        yield from page.get("Functions", [])
        marker = page.get("NextMarker") or ""
        if not marker:
            return


def _why(exc: Exception) -> str:
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror.lower()
    return str(exc) or type(exc).__name__
