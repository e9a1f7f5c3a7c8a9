"""``pilotlight doctor``: what this host can isolate, and what to do about what it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pilotlight.cli.options import data_dir_option, json_option
from pilotlight.cli.output import note, progress, say, say_json, say_table

if TYPE_CHECKING:
    from pilotlight.cli.proving import Evidence
    from pilotlight.config import Settings
    from pilotlight.roles.doctor import Finding, Proof


@click.command()
@click.option("--quick", is_flag=True, help="Only look; start nothing.")
@click.option("--isolation", help="Instead of the configured one: container or process.")
@click.option("--allow-missing", metavar="LIMITS", help="Limits to do without, e.g. memory.")
@data_dir_option
@json_option
def command(
    *,
    quick: bool,
    isolation: str | None,
    allow_missing: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Prove with probes in a real sandbox what this host can and cannot isolate.

    Takes up to 20 s, needs no running server and leaves nothing behind. Exit code 0 only where the
    configured isolation can be given.
    """
    from pilotlight.config import load_settings
    from pilotlight.roles import doctor

    settings = load_settings(
        {"data_dir": data_dir, "isolation": isolation, "allow_missing": allow_missing}
    )
    findings = doctor.report(settings)
    evidence = None
    if findings and not quick and not _hopeless(findings):
        from pilotlight.cli.proving import gather

        with progress("starting a sandbox") as step:
            evidence = gather(doctor.allowed_for_proof(findings, settings), step)
    found = _Report(settings, findings, evidence)
    if as_json:
        say_json(found.content())
    else:
        found.show()
    for line in found.conclusion():
        note(line)
    if not found.is_given:
        raise SystemExit(1)


def _hopeless(findings: tuple[Finding, ...]) -> bool:
    """A platform would not even start: this is no Linux, or no architecture that we know."""
    return any(f.name in {"linux", "architecture"} and not f.ok for f in findings)


class _Report:
    """What was found, and how it is shown.

    Args:
        settings: what is asked for.
        findings: what was seen from outside.
        evidence: what was proved inside; None where nothing was started.
    """

    def __init__(
        self, settings: Settings, findings: tuple[Finding, ...], evidence: Evidence | None
    ) -> None:
        from pilotlight.roles import doctor

        self._settings = settings
        self._findings = findings
        self._evidence = evidence
        self._proofs = _proofs(findings, evidence)
        self._faults = doctor.faults(findings, self._proofs, settings)
        self._failure = evidence.failure if evidence else ""
        nothing = ("everything: nothing was started",)
        self._not_tested = nothing if evidence is None else doctor.NOT_TESTED
        self._notes = doctor.notes()

    @property
    def is_given(self) -> bool:
        """The configured isolation can be given."""
        return not self._faults and not self._failure

    def content(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "isolation": self._settings.isolation,
            "given": self.is_given,
            "proved": self._evidence is not None and not self._failure,
            "failure": self._failure or None,
            "open": self._faults.open,
            "missing": self._faults.missing,
            "allow_missing": sorted(self._settings.allow_missing),
            "host": [
                {"name": f.name, "ok": f.ok, "detail": f.detail, "remedy": f.remedy}
                for f in self._findings
            ],
            "probes": [
                {"name": p.name, "verdict": p.verdict, "detail": p.detail, "remedy": p.remedy}
                for p in self._proofs
            ],
            "cold_start": self._evidence.start if self._evidence else None,
            "not_tested": self._not_tested,
            "notes": self._notes,
        }

    def show(self) -> None:
        """Tables, then what to do, what is special here, and what no probe shows."""
        rows = [(f.name, "ok" if f.ok else "missing", f.detail) for f in self._findings]
        _table("THE HOST", rows)
        _table("IN A SANDBOX", [(p.name, str(p.verdict), p.detail) for p in self._proofs])
        remedies = {f.name: f.remedy for f in self._findings if not f.ok and f.remedy}
        remedies |= {p.name: p.remedy for p in self._proofs if p.remedy}
        _list("What to do:", [f"{name}: {remedy}" for name, remedy in remedies.items()])
        _list("About this host:", self._notes)
        _list("Not tested:", self._not_tested)

    def conclusion(self) -> list[str]:
        """What it all means, in one or two lines."""
        if self._settings.isolation == "process":
            rights = "functions run as processes of this user, with all its rights"
            remedy = "Try: pilotlight doctor --isolation container"
            return [f"isolation process: {rights}: nothing is closed. {remedy}"]
        lines = [f"the proof is not complete: {self._failure}"] if self._failure else []
        if self._faults.open:
            lines.append(f"OPEN: {', '.join(self._faults.open)}")
        if self._faults.missing:
            lines.append(f"missing, so `pilotlight up` refuses: {', '.join(self._faults.missing)}")
        return lines or [self._success()]

    def _success(self) -> str:
        agreed = ", ".join(sorted(self._settings.allow_missing))
        without = f", without: {agreed} (you allowed that)" if agreed else ""
        how = "looks possible (not proved)" if self._evidence is None else "is given"
        return f"isolation {self._settings.isolation} {how}{without}"


def _proofs(findings: tuple[Finding, ...], evidence: Evidence | None) -> tuple[Proof, ...]:
    from pilotlight.roles import doctor

    if evidence is None:
        return ()
    proofs = (
        *doctor.judge(evidence.answers, evidence.ended),
        *doctor.limits(evidence.answers, evidence.ended),
    )
    lacking = doctor.missing_memory(findings)
    return (*proofs, lacking) if lacking and proofs else proofs


def _table(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    if rows:
        say_table((title, "", ""), rows)
        say("")


def _list(title: str, lines: Sequence[str]) -> None:
    if lines:
        say(title)
        for line in lines:
            say(f"  - {line}")
