"""What the audit log will say about the request that is being answered, filled in on the way.

A request is answered in a task of its own, so its note is a context variable: every protocol that
answers on the listener is noted without passing it on.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from pilotlight.ports.auth import Caller


@dataclass(slots=True)
class CallNote:
    """Who asks for what, as far as is known.

    Attributes:
        service: name of the protocol, for example ``lambda``.
        operation: its operation; method and path where there is none.
        resource: what it names, as the caller wrote it.
        claimed_key: access key of the signature, before it is proven.
        caller: once it is proven.
    """

    service: str = ""
    operation: str = ""
    resource: str = ""
    claimed_key: str = ""
    caller: Caller | None = None


_NOTE: ContextVar[CallNote] = ContextVar("call_note")


def begin_note() -> CallNote:
    """Start the note of a request."""
    note = CallNote()
    _NOTE.set(note)
    return note


def current_note() -> CallNote:
    """The note of the request that is being answered; one that nobody reads outside of any."""
    found = _NOTE.get(None)
    return found if found is not None else begin_note()
