"""The listener's ASGI application: everything but Invoke, which the data plane answers itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pilotlight.control.api import Services
from pilotlight.control.gateway.audit import Audited
from pilotlight.control.gateway.bodies import DEFAULT_BUDGET_BYTES, ByteBudget
from pilotlight.control.gateway.calls import LambdaCalls
from pilotlight.control.gateway.exchange import Exchange, Responder, endpoint, json_answer
from pilotlight.control.gateway.links import CodeLinks
from pilotlight.control.gateway.metered import Authenticator, MeteredAuthenticator
from pilotlight.control.gateway.native import (
    EnvironmentReport,
    NativeCalls,
    NativePart,
    StatusReport,
)
from pilotlight.control.gateway.tokens import TokenGate
from pilotlight.model.ids import Digest
from pilotlight.ports.audit import AuditLog, NoAudit
from pilotlight.ports.auth import Caller
from pilotlight.ports.blobs import BlobStore
from pilotlight.ports.rates import RateLimits, Unlimited
from pilotlight.ports.telemetry import LogReader
from pilotlight.wire.lambda_api import HttpAnswer
from pilotlight.wire.sigv4 import claimed_service

_UNAVAILABLE: Final = 503


@dataclass(frozen=True, slots=True)
class GatewayParts:
    """What the application needs.

    Attributes:
        services: of the Function API.
        blob_name: name of a package's blob.
        readiness: what is not ready yet; empty when all is.
        metrics: body and content type for Prometheus.
        protocols: what answers for services other than Lambda, by the service's name in the
            signature's scope (``logs``, ``sts``, …); each verifies the signature itself.
        body_budget_bytes: request bodies held at once (decision D21).
        rates: what an account and a key may do here; other protocols bring their own
            `MeteredAuthenticator` over the same.
        tokens: of OIDC issuers, for the Lambda API and the native API; None: signatures only.
        native: what answers further paths of the native API.
        audit: keeps every call that reaches a protocol.
        is_admin: whether a caller may read what concerns the whole installation.
        is_local: only this machine reaches the listener. Else metrics, which name the functions,
            need a signature (decision D17); health and readiness answer their status alone, for
            load balancers cannot sign.
    """

    services: Services
    authenticator: Authenticator
    links: CodeLinks
    blobs: BlobStore
    blob_name: Callable[[Digest], str]
    logs: LogReader
    status: StatusReport
    environments: EnvironmentReport
    readiness: Callable[[], Sequence[str]]
    metrics: Callable[[], tuple[bytes, str]]
    protocols: Mapping[str, Responder] = field(default_factory=dict)
    body_budget_bytes: int = DEFAULT_BUDGET_BYTES
    rates: RateLimits = field(default_factory=Unlimited)
    tokens: TokenGate | None = None
    audit: AuditLog = field(default_factory=NoAudit)
    native: Sequence[NativePart] = ()
    is_admin: Callable[[Caller], bool] = lambda caller: False  # noqa: ARG005
    is_local: bool = True


class _Whole:
    """Keeps Starlette from treating an ASGI application as a request handler."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)


def create_app(parts: GatewayParts) -> Starlette:
    """Build the application. It has no lifespan of its own: the parts are supervised outside."""
    authenticator = MeteredAuthenticator(parts.authenticator, parts.rates, parts.tokens)
    calls = LambdaCalls(
        services=parts.services,
        authenticator=authenticator,
        links=parts.links,
        budget=ByteBudget(parts.body_budget_bytes),
    )
    native = NativeCalls(
        authenticator=authenticator,
        logs=parts.logs,
        blobs=parts.blobs,
        blob_name=parts.blob_name,
        status=parts.status,
        environments=parts.environments,
        audit=parts.audit,
        parts=parts.native,
        is_admin=parts.is_admin,
    )

    async def alive(exchange: Exchange) -> HttpAnswer:
        return json_answer(exchange, {"status": "ok"})

    async def ready(exchange: Exchange) -> HttpAnswer:
        waiting = list(parts.readiness())
        status = _UNAVAILABLE if waiting else 200
        told = {"waiting_for": waiting} if parts.is_local else {}
        return json_answer(exchange, {"ready": not waiting} | told, status=status)

    async def metrics(exchange: Exchange) -> HttpAnswer:
        if not parts.is_local:
            authenticator.authenticate(exchange.signed)
        body, content_type = parts.metrics()
        headers = [
            (b"x-amzn-RequestId", exchange.request_id.encode()),
            (b"Content-Type", content_type.encode()),
        ]
        return HttpAnswer(200, headers, body)

    audited = Audited(parts.audit, parts.services.clock)
    lambda_calls = audited.over(calls.respond, "lambda")
    protocols = {name: audited.over(known, name) for name, known in parts.protocols.items()}
    native_calls = audited.over(native.respond, "pilotlight")

    async def by_service(exchange: Exchange) -> HttpAnswer:
        authorization = (exchange.header("authorization") or "").encode("latin-1")
        service = claimed_service(authorization, exchange.signed.query)
        return await protocols.get(service or "", lambda_calls)(exchange)

    ids = parts.services.ids
    app = Starlette(
        routes=[
            Route("/healthz", _Whole(endpoint(alive, ids))),
            Route("/readyz", _Whole(endpoint(ready, ids))),
            Route("/metrics", _Whole(endpoint(metrics, ids))),
            Route("/api/v1/{rest:path}", _Whole(endpoint(native_calls, ids))),
        ]
    )
    # Not a mount: its pattern leaves out paths with an encoded line feed.
    app.router.default = endpoint(by_service, ids)
    app.router.redirect_slashes = False
    return app
