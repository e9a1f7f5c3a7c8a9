"""The audit log's part of every call: who asked for what, and how it ended.

Strangers, whose signature or token was not right, may fill neither the log nor its backlog: of
their calls at most `_STRANGERS` are kept, and those that claim no key at all are not.
"""

from __future__ import annotations

from typing import Final

from pilotlight.control.gateway.bodies import ClientGone
from pilotlight.control.gateway.exchange import Exchange, Responder, guarded
from pilotlight.control.gateway.note import CallNote, begin_note
from pilotlight.model.rates import AT_REST, Rate, after, wait_s
from pilotlight.ports.audit import AuditEntry, AuditLog
from pilotlight.ports.clock import Clock
from pilotlight.wire.lambda_api import HttpAnswer

_REFUSED: Final = 400
_GONE: Final = 499
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_STRANGERS: Final = Rate(per_s=10, burst=100)


class Audited:
    """Makes responders whose calls are kept in the log.

    Args:
        log: where entries go.
        clock: time of the entries.
    """

    def __init__(self, log: AuditLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._strangers_s = AT_REST

    def over(self, respond: Responder, service: str) -> Responder:
        """A responder that answers like ``respond`` and keeps who asked for what.

        A call that may change something is refused while the log has no room (`StorageFull`).

        Args:
            respond: to be kept.
            service: name of its protocol, unless the call's note says another.
        """

        async def checked(exchange: Exchange) -> HttpAnswer:
            if exchange.method not in _READING:
                self._log.require()
            return await respond(exchange)

        async def kept(exchange: Exchange) -> HttpAnswer:
            note = begin_note()
            note.service = service
            try:
                answer = await guarded(checked, exchange)
            except ClientGone:
                # What was asked may have happened: only its answer found nobody.
                self._keep(exchange, note, _GONE, "ClientGone")
                raise
            self._keep(exchange, note, answer.status, error_code(answer))
            return answer

        return kept

    def _keep(self, exchange: Exchange, note: CallNote, status: int, code: str) -> None:
        if note.caller is None and not (note.claimed_key and self._takes_stranger()):
            return
        self._log.record(entry_of(exchange, note, status, code, wall_s=self._clock.wall()))

    def _takes_stranger(self) -> bool:
        now_s = self._clock.monotonic()
        after_s = after(self._strangers_s, now_s, _STRANGERS)
        if wait_s(after_s, now_s, _STRANGERS) > 0:
            return False
        self._strangers_s = after_s
        return True


def entry_of(
    exchange: Exchange, note: CallNote, status: int, code: str, *, wall_s: float
) -> AuditEntry:
    """What is kept of a call: nothing of its query, its headers or its body."""
    caller = note.caller
    return AuditEntry(
        wall_s=wall_s,
        request_id=exchange.request_id,
        account=caller.account if caller else "",
        principal=f"arn:aws:iam::{caller.account}:root" if caller else "",
        access_key=caller.access_key if caller else note.claimed_key,
        is_proven=caller is not None,
        source=exchange.source,
        service=note.service,
        operation=note.operation or f"{exchange.method} {exchange.path}",
        resource=note.resource,
        status=status,
        error_code=code,
    )


def error_code(answer: HttpAnswer) -> str:
    """The code of a refusal, "" of anything else."""
    if answer.status < _REFUSED:
        return ""
    found = (value for name, value in answer.headers if name.lower() == b"x-amzn-errortype")
    return next(found, b"").decode("latin-1") or f"HTTP{answer.status}"
