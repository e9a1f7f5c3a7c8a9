"""STS: tells a caller who it is. Deployment tools ask that first.

Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from pilotlight.control.gateway.bodies import ByteBudget, read_body
from pilotlight.control.gateway.exchange import Exchange
from pilotlight.control.gateway.metered import MeteredAuthenticator
from pilotlight.control.gateway.note import current_note
from pilotlight.model.errors import ApiError, PlatformError
from pilotlight.ports.auth import Caller
from pilotlight.wire.lambda_api import HttpAnswer

SERVICE: Final = "sts"
_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_BODY_BYTES = 16 * 1024


class StsProtocol:
    """A responder for requests whose signature names the service ``sts``."""

    def __init__(self, authenticator: MeteredAuthenticator, budget: ByteBudget) -> None:
        self._authenticator = authenticator
        self._budget = budget

    async def respond(self, exchange: Exchange) -> HttpAnswer:
        """Answer one request; errors have the form of this protocol."""
        try:
            return _answer(exchange, 200, await self._run(exchange))
        except PlatformError as error:
            sender = "Sender" if error.http_status < 500 else "Receiver"  # noqa: PLR2004
            body = (
                f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>{sender}</Type>'
                f"<Code>{escape(error.code)}</Code><Message>{escape(str(error))}</Message></Error>"
                f"<RequestId>{exchange.request_id}</RequestId></ErrorResponse>"
            )
            return _answer(exchange, error.http_status, body)

    async def _run(self, exchange: Exchange) -> str:
        pending = self._authenticator.begin(exchange.signed, services=frozenset({SERVICE}))
        with self._budget.share(pending.access_key) as share:
            body = await read_body(
                exchange.receive,
                declared=exchange.declared_length(),
                most=_BODY_BYTES,
                operation="this call",
                share=share,
            )
            caller = pending.finish(body.sha256)
            given = parse_qs(body.data.decode("utf-8", "replace") or exchange.query)
        action = (given.get("Action") or [""])[0]
        current_note().operation = action[:64]
        if action != "GetCallerIdentity":
            raise ApiError(
                "InvalidAction",
                f"This server has no operation {action[:64]!r} of STS; it has: GetCallerIdentity",
                status=400,
            )
        return _identity(caller, exchange.request_id)


def _identity(caller: Caller, request_id: str) -> str:
    return (
        f'<GetCallerIdentityResponse xmlns="{_NAMESPACE}"><GetCallerIdentityResult>'
        f"<Arn>{escape(caller.arn)}</Arn><UserId>{caller.account}</UserId>"
        f"<Account>{caller.account}</Account></GetCallerIdentityResult><ResponseMetadata>"
        f"<RequestId>{request_id}</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
    )


def _answer(exchange: Exchange, status: int, body: str) -> HttpAnswer:
    headers = [
        (b"x-amzn-RequestId", exchange.request_id.encode()),
        (b"Content-Type", b"text/xml"),
    ]
    return HttpAnswer(status, headers, body.encode("utf-8", "replace"))
