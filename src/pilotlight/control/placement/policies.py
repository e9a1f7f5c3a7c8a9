"""Where a new environment goes, and how many credits a frontend gets. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pilotlight.ports.worker import WorkerLoad


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker, as one placement sees it.

    Attributes:
        has_code: its cache holds the function's code.
        siblings: environments of the same function version in the worker's zone.
    """

    load: WorkerLoad
    has_code: bool = False
    siblings: int = 0


def room_mib(load: WorkerLoad) -> int:
    """Memory a new environment could be charged with, idle environments evicted."""
    return load.budget_mib - load.charged_mib + load.evictable_mib


def choose_worker(candidates: Sequence[Candidate], charge_mib: int) -> str | None:
    """The worker for a new environment, None when no one has room.

    Warm code first, then memory that is free without an eviction, then the zone with fewest
    siblings, then most free memory; the name decides ties, so equal inputs give equal answers.
    """
    fitting = [c for c in candidates if c.load.is_open and room_mib(c.load) >= charge_mib]
    if not fitting:
        return None
    return min(fitting, key=lambda c: _rank(c, charge_mib)).load.worker


def _rank(candidate: Candidate, charge_mib: int) -> tuple[bool, bool, int, int, str]:
    load = candidate.load
    free_mib = load.budget_mib - load.charged_mib
    return (
        not candidate.has_code,
        free_mib < charge_mib,
        candidate.siblings,
        -free_mib,
        load.worker,
    )


def credit_limit(name: str, reservations: Mapping[tuple[str, str], int], most: int) -> int:
    """How many credits there are of one kind.

    Args:
        name: an account, for what its functions share; ``account/function`` for what is reserved.
        reservations: by account and function.
        most: of an account, reservations included.
    """
    account, _, function = name.partition("/")
    if function:
        return reservations.get((account, function), 0)
    reserved = sum(count for (owner, _), count in reservations.items() if owner == account)
    return max(0, most - reserved)


def grant(limit: int, held: Mapping[str, int], live: Collection[str], wanted: int) -> int:
    """Credits to give now, out of what no one holds.

    A frontend gets at least what it wants, and beyond that its equal share of the limit at once,
    so that it rarely asks: with one frontend that is everything. Never more than is free.

    Example: a limit of 1,000, two frontends, 300 held: a wish for 1 is granted with 500.
    """
    free = max(0, limit - sum(held.values()))
    share = limit // max(1, len(live))
    return min(free, max(wanted, min(share, free)))
