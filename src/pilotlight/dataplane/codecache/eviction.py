"""Which trees to remove so that the cache fits. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pilotlight.model.ids import Digest


@dataclass(frozen=True, slots=True)
class Tree:
    """What the decision needs to know of a cached tree.

    Attributes:
        used: counts up with every use; the lowest was used longest ago.
        pins: sandboxes that have it mounted.
    """

    code: Digest
    size_bytes: int
    used: int
    pins: int


def choose(trees: Iterable[Tree], capacity_bytes: int, keep: Digest) -> tuple[Digest, ...]:
    """The trees to remove, least recently used first, never one that is pinned or ``keep``.

    May free less than needed: pinned trees stay whatever the capacity is.
    """
    known = list(trees)
    excess = sum(tree.size_bytes for tree in known) - capacity_bytes
    chosen: list[Digest] = []
    for tree in sorted(known, key=lambda tree: tree.used):
        if excess <= 0:
            break
        if tree.pins == 0 and tree.code != keep:
            chosen.append(tree.code)
            excess -= tree.size_bytes
    return tuple(chosen)
