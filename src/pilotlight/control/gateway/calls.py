"""Calls of the Lambda API: authenticate, read, check, run, render, in this order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pilotlight.control.api import LARGE_BODIES, OPERATIONS, Call, Services
from pilotlight.control.gateway.bodies import Body, ByteBudget, read_body
from pilotlight.control.gateway.exchange import Exchange
from pilotlight.control.gateway.links import CodeLinks
from pilotlight.control.gateway.metered import MeteredAuthenticator
from pilotlight.control.gateway.note import current_note
from pilotlight.control.registry import Scope
from pilotlight.model import limits
from pilotlight.ports.auth import Caller
from pilotlight.wire import lambda_api
from pilotlight.wire.lambda_api import HttpAnswer, Route

_DECODE_APART_BYTES: Final = 256 * 1024
"""Bodies above this are decoded in a thread: the loop has other requests to serve."""


@dataclass(frozen=True, slots=True)
class LambdaCalls:
    """Answers requests to the paths of the Lambda API."""

    services: Services
    authenticator: MeteredAuthenticator
    links: CodeLinks
    budget: ByteBudget

    async def respond(self, exchange: Exchange) -> HttpAnswer:
        """Answer one request.

        Raises:
            PlatformError: the answer is an error.
            ClientGone: nobody to answer.
        """
        route = lambda_api.route(exchange.method, exchange.path, exchange.query)
        if route is None:
            allowed = lambda_api.allowed_methods(exchange.path)
            raise lambda_api.unknown_operation(exchange.method, exchange.path, allowed)
        note = current_note()
        note.operation, note.resource = route.operation, " ".join(route.labels.values())
        pending = await self.authenticator.open(exchange.signed)
        if route.operation not in OPERATIONS:
            raise lambda_api.not_implemented(route.operation)
        with self.budget.share(pending.access_key) as share:
            body = await read_body(
                exchange.receive,
                declared=exchange.declared_length(),
                most=_body_limit(route.operation),
                operation=route.operation,
                share=share,
            )
            caller = pending.finish(body.sha256)
            params = await _parameters(route, exchange, body)
            del body
            note.resource = note.resource or _made(params)
            result = await self._run(route.operation, exchange, caller, params)
        return lambda_api.render(route.operation, result, request_id=exchange.request_id)

    async def _run(
        self, operation: str, exchange: Exchange, caller: Caller, params: Mapping[str, Any]
    ) -> dict[str, Any]:
        def code_link(digest: str) -> str:
            return self.links.link(
                digest,
                origin=f"{exchange.scheme}://{exchange.host}",
                host=exchange.host,
                region=caller.region,
            )

        scope = Scope(caller.account, caller.region)
        return await OPERATIONS[operation](self.services, Call(operation, scope, params, code_link))


_NAMES = ("FunctionName", "LayerName", "CapacityProviderName", "Arn")


def _made(params: Mapping[str, Any]) -> str:
    """What a call names that has no name in its path: the thing it makes, mostly."""
    return next((str(params[name]) for name in _NAMES if name in params), "")


def _body_limit(operation: str) -> int:
    return limits.REQUEST_BODY_BYTES if operation in LARGE_BODIES else limits.SYNC_PAYLOAD_BYTES


async def _parameters(route: Route, exchange: Exchange, body: Body) -> dict[str, Any]:
    if len(body.data) <= _DECODE_APART_BYTES:
        return _decode(route, exchange.query, exchange.headers(), body.data)
    return await asyncio.to_thread(_decode, route, exchange.query, exchange.headers(), body.data)


def _decode(route: Route, query: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    params = lambda_api.parse(route, query, headers, body)
    lambda_api.validate(route.operation, params)
    return params
