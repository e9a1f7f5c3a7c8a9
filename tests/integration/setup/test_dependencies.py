"""What is declared is imported, what is imported is declared (decision D22)."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
INSTALLERS = {"hatchling", "editables"}
MODULES = {
    "prometheus-client": "prometheus_client",
    "aws-sam-translator": "samtranslator",
    "pyyaml": "yaml",
}
"""Packages whose module has another name."""


def declared(file: str) -> set[str]:
    lines = (TOP / "requirements" / file).read_text().splitlines()
    return {line.strip() for line in lines if line.strip() and line[0] not in "#-"}


def locked(file: str) -> dict[str, str]:
    text = (TOP / "requirements" / file).read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))


def imported() -> set[str]:
    """Modules outside the standard library that anything in ``src`` imports."""
    found = set[str]()
    for path in (TOP / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    roots = {name.partition(".")[0] for name in found}
    ours = {"pilotlight", "pilotlight_guest"}
    return roots - ours - set(sys.stdlib_module_names)


def test_what_is_declared_is_imported() -> None:
    wanted = {MODULES.get(name, name) for name in declared("runtime.in") - INSTALLERS}
    assert wanted - imported() == set()


def test_what_is_imported_is_declared() -> None:
    """The test kit may use what only tests have, and templates what is an extra."""
    known = {MODULES.get(name, name) for name in declared("runtime.in") | declared("dev.in")}
    assert imported() - known == set()


def test_the_package_asks_for_the_same() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    assert set(project["dependencies"]) == declared("runtime.in") - INSTALLERS


def test_both_locks_agree_and_hold_everything_with_hashes() -> None:
    runtime, dev = locked("runtime.lock"), locked("dev.lock")
    assert declared("runtime.in") <= set(runtime)
    assert runtime.items() <= dev.items()
    for name in ("runtime.lock", "dev.lock"):
        text = (TOP / "requirements" / name).read_text()
        assert "--index-url" not in text
        assert text.count("==") <= text.count("--hash=sha256:")


def test_every_dependency_has_its_reason() -> None:
    decision = (TOP / "docs/adr/0022-dependencies.md").read_text()
    rows = set(re.findall(r"^\| ([a-z-]+) \|", decision, re.MULTILINE)) - {"package"}
    assert rows == declared("runtime.in") - INSTALLERS
