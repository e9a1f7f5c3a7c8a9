"""Who holds how many concurrency credits of one account. Pure state.

Invariant 1: the credits of all holders, the dead included, never exceed the limit.
Invariant 2: a dead frontend's credits stay taken until they are released by name and epoch.
"""

from __future__ import annotations

from collections.abc import Collection

from pilotlight.control.placement.policies import grant


class AccountCredits:
    """The ledger of one account; holders are named ``frontend@epoch``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: dict[str, int] = {}

    @property
    def free(self) -> int:
        """Credits no one holds; 0 while a lowered limit is still exceeded."""
        return max(0, self.limit - sum(self._held.values()))

    @property
    def excess(self) -> int:
        """Credits held beyond a limit that was lowered."""
        return max(0, sum(self._held.values()) - self.limit)

    def held_by(self, holder: str) -> int:
        """Credits of one holder."""
        return self._held.get(holder, 0)

    def take(self, holder: str, wanted: int, live: Collection[str]) -> int:
        """Grant credits to a holder and return how many."""
        given = grant(self.limit, self._held, live, wanted)
        if given:
            self._held[holder] = self.held_by(holder) + given
        return given

    def give_back(self, holder: str, count: int) -> None:
        """A holder returns credits it does not use.

        Raises:
            ValueError: it does not hold so many.
        """
        held = self.held_by(holder)
        if not 0 <= count <= held:
            raise ValueError(f"{holder} returns {count} credits and holds {held}")
        self._held[holder] = held - count

    def release(self, holder: str) -> None:
        """All credits of a holder return: none of its invocations runs any more."""
        self._held.pop(holder, None)
