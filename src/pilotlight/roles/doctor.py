"""What this host can isolate and what it cannot, for ``pilotlight doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilotlight.config import Settings
from pilotlight.config.settings import CAN_BE_MISSING
from pilotlight.dataplane.sandboxes.container.host import Finding, inspect_host
from pilotlight.model.function import Isolation
from pilotlight.roles.surroundings import notes
from pilotlight.roles.verdicts import Proof, Verdict, judge, limits

__all__ = [
    "NOT_TESTED", "Faults", "Finding", "Proof", "Verdict", "allowed_for_proof", "faults", "judge", "limits",
    "missing_memory", "notes", "report",
]  # fmt: skip

NOT_TESTED = (
    "faults of the kernel itself, which all sandboxes share (see docs/security.md)",
    "side channels between functions through processor, caches and timing",
    "that CPU time is shared in proportion to memory when processors are scarce",
    "outbound network rules: functions have no network so far",
)
"""What no probe of ours can show."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Why the configured isolation cannot be given; nothing where it can."""

    open: tuple[str, ...]
    missing: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.open or self.missing)


def report(settings: Settings) -> tuple[Finding, ...]:
    """Look at the host; changes nothing. Nothing is needed where nothing is isolated."""
    if settings.isolation is Isolation.PROCESS:
        return ()
    return inspect_host()


def allowed_for_proof(findings: Sequence[Finding], settings: Settings) -> frozenset[str]:
    """Limits the proof does without, so that all the rest is proved where one is missing."""
    lacking = {f.name for f in findings if f.is_required and not f.ok}
    return settings.allow_missing | (lacking & CAN_BE_MISSING)


def missing_memory(findings: Sequence[Finding]) -> Proof | None:
    """The line that stands for the memory probe where there is no limit to be probed."""
    for finding in findings:
        if finding.name == "memory" and not finding.ok:
            return Proof("memory", Verdict.MISSING, finding.detail, finding.remedy)
    return None


def faults(findings: Sequence[Finding], proofs: Sequence[Proof], settings: Settings) -> Faults:
    """What stands between this host and the isolation that the settings ask for.

    An agreed lack (``allow_missing``) is none; a wall that let a probe through always is.
    """
    lacking = [f.name for f in findings if f.is_required and not f.ok]
    lacking += [p.name for p in proofs if p.verdict is Verdict.MISSING]
    return Faults(
        open=tuple(p.name for p in proofs if p.verdict is Verdict.OPEN),
        missing=tuple(sorted(set(lacking) - settings.allow_missing)),
    )
