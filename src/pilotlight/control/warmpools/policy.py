"""How many blank sandboxes to keep, and for whom. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilotlight.ports.sandbox import BlankClass


@dataclass(frozen=True, slots=True)
class BlankSettings:
    """Settings of the blank pools.

    Attributes:
        blank_pool: blanks kept for each class in use. Two cover the usual case of one function
            calling another on a machine with two cores; a burst beyond them forks.
        memory_mib: memory all blanks together may take.
        blank_mib: what one blank takes: an idle interpreter and its kernel objects.
        forget_after_s: a class that was not used for so long loses its blanks.
        tick_s: period in which the pools follow what was used.
        always: classes that keep their blanks from the start, used or not.
    """

    blank_pool: int = 2
    memory_mib: int = 128
    blank_mib: int = 8
    forget_after_s: float = 600.0
    tick_s: float = 1.0
    always: tuple[BlankClass, ...] = field(default=())


def wanted_blanks(
    used_s: Mapping[BlankClass, float], now_s: float, settings: BlankSettings
) -> dict[BlankClass, int]:
    """Blanks to keep for each class; a class that is missing keeps none.

    Classes that are always kept come first, then those used last, until the memory is spent; a
    class gets fewer than the full number rather than none.

    Args:
        used_s: class to the moment it was last asked for (monotonic).
        now_s: this moment.
        settings: limits.
    """
    left = settings.memory_mib // max(1, settings.blank_mib)
    recent = sorted(
        (kind for kind, at_s in used_s.items() if now_s - at_s <= settings.forget_after_s),
        key=lambda kind: -used_s[kind],
    )
    wanted: dict[BlankClass, int] = {}
    for kind in dict.fromkeys((*settings.always, *recent)):
        count = min(settings.blank_pool, left)
        if count <= 0:
            break
        wanted[kind] = count
        left -= count
    return wanted
