"""The native API under ``/api/v1``: what the Lambda API has no words for.

Signed like the Lambda API; answers and errors are JSON of the same form.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import parse_qsl, unquote

from pilotlight.control.gateway.auth import hash_unless_declared
from pilotlight.control.gateway.exchange import Exchange, json_answer
from pilotlight.control.gateway.links import package_of
from pilotlight.control.gateway.metered import MeteredAuthenticator
from pilotlight.control.gateway.openapi import DOCUMENT
from pilotlight.model.errors import ApiError
from pilotlight.model.ids import Digest
from pilotlight.ports.audit import AuditLog, AuditQuery, NoAudit
from pilotlight.ports.auth import Caller
from pilotlight.ports.blobs import BlobStore
from pilotlight.ports.telemetry import LogQuery, LogReader, StoredLine
from pilotlight.wire.lambda_api import HttpAnswer

_LINES_MAX: Final = 10_000
_LOG_PARAMETERS: Final = frozenset(
    {"function", "request_id", "start", "end", "text", "after_id", "limit", "order"}
)
_AUDIT_PARAMETERS: Final = frozenset(
    {"account", "access_key", "operation", "request_id", "start", "end", "after_id", "limit"}
)
_ENVIRONMENTS = re.compile(r"/api/v1/functions/([^/]+)/environments")

StatusReport = Callable[[], Mapping[str, object]]
"""Version, isolation, runtimes and what is missing, as JSON values."""
EnvironmentReport = Callable[[str, str], Awaitable[Sequence[Mapping[str, object]]]]
"""From account and function to its execution environments, as JSON values."""


class NativePart(Protocol):
    """Answers some paths of the native API; it verifies signatures itself."""

    def handles(self, path: str) -> bool:
        """Whether a path is answered here."""
        ...

    async def respond(self, exchange: Exchange) -> HttpAnswer:
        """Answer one request."""
        ...


@dataclass(frozen=True, slots=True)
class NativeCalls:
    """Answers requests to the native API."""

    authenticator: MeteredAuthenticator
    logs: LogReader
    blobs: BlobStore
    blob_name: Callable[[Digest], str]
    status: StatusReport
    environments: EnvironmentReport
    audit: AuditLog = field(default_factory=NoAudit)
    parts: Sequence[NativePart] = ()
    is_admin: Callable[[Caller], bool] = lambda caller: False  # noqa: ARG005

    async def respond(self, exchange: Exchange) -> HttpAnswer:
        """Answer one request.

        Raises:
            PlatformError: the answer is an error.
        """
        for part in self.parts:
            if part.handles(exchange.path):
                return await part.respond(exchange)
        if exchange.method != "GET":
            raise ApiError("MethodNotAllowed", "This path answers only GET.", status=405)
        if exchange.path == "/api/v1/openapi.json":
            return json_answer(exchange, DOCUMENT)
        caller = await self._caller(exchange)
        package = package_of(exchange.path)
        if package is not None:
            return await self._download(exchange, package)
        answer = self._paths().get(exchange.path)
        if answer is not None:
            return await answer(exchange, caller)
        match = _ENVIRONMENTS.fullmatch(exchange.path)
        if match is None:
            raise _not_found(f"The native API has no path {exchange.path[:256]}.")
        found = await self.environments(caller.account, unquote(match[1]))
        return json_answer(exchange, {"environments": list(found)})

    def _paths(self) -> Mapping[str, Callable[[Exchange, Caller], Awaitable[HttpAnswer]]]:
        return {
            "/api/v1/audit": self._audit,
            "/api/v1/logs": self._logs,
            "/api/v1/status": self._status,
        }

    async def _status(self, exchange: Exchange, caller: Caller) -> HttpAnswer:
        whose = {"account": caller.account, "region": caller.region}
        return json_answer(exchange, {**self.status(), **whose})

    async def _audit(self, exchange: Exchange, caller: Caller) -> HttpAnswer:
        if not self.is_admin(caller):
            raise ApiError(
                "AccessDeniedException",
                "The audit log is of the whole installation: only the root credentials may read it.",
                status=403,
            )
        query = audit_query(exchange.query)
        found = await self.audit.read(query)
        last = max((stored.id for stored in found), default=query.after_id)
        entries = [{"id": stored.id} | dataclasses.asdict(stored.entry) for stored in found]
        return json_answer(exchange, {"entries": entries, "last_id": last})

    async def _caller(self, exchange: Exchange) -> Caller:
        """Who signed; these requests have no body that anybody reads."""
        pending = await self.authenticator.open(exchange.signed)
        return pending.finish(hash_unless_declared(exchange.signed))

    async def _download(self, exchange: Exchange, package: Digest) -> HttpAnswer:
        try:
            data = await self.blobs.get(self.blob_name(package))
        except KeyError:
            raise _not_found(f"There is no package {package} any more.") from None
        headers = [
            (b"x-amzn-RequestId", exchange.request_id.encode()),
            (b"Content-Type", b"application/zip"),
            (b"ETag", f'"{package}"'.encode()),
            (b"Cache-Control", b"private, no-store"),
        ]
        return HttpAnswer(200, headers, data)

    async def _logs(self, exchange: Exchange, caller: Caller) -> HttpAnswer:
        query = log_query(exchange.query, caller.account)
        lines = await self.logs.read(query)
        last = max((line.id for line in lines), default=query.after_id)
        document = {"lines": [_line(line) for line in lines], "last_id": last}
        return json_answer(exchange, document)


def _not_found(message: str) -> ApiError:
    return ApiError("NotFound", message, status=404)


def _invalid(message: str) -> ApiError:
    return ApiError("ValidationException", message)


def log_query(query: str, account: str) -> LogQuery:
    """Read the parameters of ``GET /api/v1/logs``.

    Raises:
        ApiError: ValidationException.
    """
    given = _given(query, _LOG_PARAMETERS)
    if not given.get("function"):
        raise _invalid("The parameter 'function' is required.")
    order = given.get("order", "oldest")
    if order not in {"oldest", "newest"}:
        raise _invalid("The parameter 'order' must be 'oldest' or 'newest'.")
    return LogQuery(
        account=account,
        function=given["function"],
        request_id=given.get("request_id") or None,
        start_s=_number(given, "start"),
        end_s=_number(given, "end"),
        text=given.get("text") or None,
        after_id=_whole(given, "after_id", default=0, least=0, most=2**63 - 1),
        limit=_whole(given, "limit", default=1000, least=1, most=_LINES_MAX),
        newest_first=order == "newest",
    )


def audit_query(query: str) -> AuditQuery:
    """Read the parameters of ``GET /api/v1/audit``.

    Raises:
        ApiError: ValidationException.
    """
    given = _given(query, _AUDIT_PARAMETERS)
    return AuditQuery(
        account=given.get("account") or None,
        access_key=given.get("access_key") or None,
        operation=given.get("operation") or None,
        request_id=given.get("request_id") or None,
        start_s=_number(given, "start"),
        end_s=_number(given, "end"),
        after_id=_whole(given, "after_id", default=0, least=0, most=2**63 - 1),
        limit=_whole(given, "limit", default=1000, least=1, most=_LINES_MAX),
    )


def _given(query: str, known: frozenset[str]) -> dict[str, str]:
    """Parameters by name.

    Raises:
        ApiError: ValidationException, one is unknown or given twice.
    """
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in given or (name not in known and not name.startswith("X-Amz-")):
            raise _invalid(
                f"The parameter '{name[:64]}' is unknown or given twice; known are: "
                + ", ".join(sorted(known))
            )
        given[name] = value
    return given


def _number(given: Mapping[str, str], name: str) -> float | None:
    text = given.get(name)
    if text is None:
        return None
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text) is None:
        raise _invalid(f"The parameter '{name}' must be seconds since 1970, not '{text[:64]}'.")
    return float(text)


def _whole(given: Mapping[str, str], name: str, *, default: int, least: int, most: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    if re.fullmatch(r"\d{1,19}", text, re.ASCII) is None or not least <= int(text) <= most:
        raise _invalid(f"The parameter '{name}' must be a whole number from {least} to {most}.")
    return int(text)


def _line(stored: StoredLine) -> dict[str, object]:
    line = stored.line
    return {
        "id": stored.id,
        "time": line.wall_s,
        "function": line.function,
        "version": line.version,
        "log_group": line.log_group,
        "stream": line.stream,
        "request_id": line.request_id,
        "text": line.text,
    }
