"""``pilotlight doctor``: what this host can isolate, and what to do about what it cannot."""

from __future__ import annotations

from pathlib import Path

import click

from pilotlight.cli.options import data_dir_option, json_option
from pilotlight.cli.output import note, say, say_json, say_table


@click.command()
@data_dir_option
@json_option
def command(*, data_dir: Path | None, as_json: bool) -> None:
    """Prove with probes what this host can and cannot isolate; exit 1 if anything is missing."""
    from pilotlight.config import load_settings
    from pilotlight.roles import doctor

    settings = load_settings({"data_dir": data_dir})
    findings = doctor.report(settings)
    if as_json:
        say_json(
            [{"name": f.name, "ok": f.ok, "detail": f.detail, "remedy": f.remedy} for f in findings]
        )
    else:
        say_table(
            ("CHECK", "RESULT", "DETAIL"),
            [(f.name, "ok" if f.ok else "MISSING", f.detail) for f in findings],
        )
        for finding in findings:
            if not finding.ok and finding.remedy:
                say(f"\n{finding.name}: {finding.remedy}")
    missing = [finding.name for finding in findings if not finding.ok]
    if missing:
        note(f"missing: {', '.join(missing)}")
        raise SystemExit(1)
