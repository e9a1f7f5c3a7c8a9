"""Admission: the concurrency credits of accounts, as this frontend holds them (decision D7).

A credit is taken when an invocation is admitted and returned when it has ended, the wait for an
environment included, as the service counts. Only what was granted is spent.
"""

from __future__ import annotations

from collections import deque

from pilotlight.model.invocation import Invocation
from pilotlight.ports.invoke import Done


class Account:
    """Credits that functions share: those of an account, or of one function that reserved its own.

    Attributes:
        name: see `pilotlight.ports.placement.Placement.credits`.
        is_reserved: they are of one function.
        held: credits granted to this frontend.
        running: credits in use; never more than were held when they were taken.
        asking: placement has been asked and has not answered.
        refused_until_s: until then a request beyond the credits is refused without asking.
        pending: requests that wait for placement's answer.
    """

    __slots__ = ("asking", "held", "is_reserved", "name", "pending", "refused_until_s", "running")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_reserved = "/" in name
        self.held = 0
        self.running = 0
        self.asking = False
        self.refused_until_s = 0.0
        self.pending: deque[tuple[Invocation, Done]] = deque()

    def give_back(self, wanted: int) -> int:
        """Return up to ``wanted`` unused credits to placement."""
        given = max(0, min(wanted, self.held - self.running))
        self.held -= given
        return given
