"""docs/state-machines.md says what the tables say."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_document_is_fresh() -> None:
    spec = importlib.util.spec_from_file_location(
        "generate_state_machines", ROOT / "scripts" / "generate_state_machines.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "docs" / "state-machines.md").read_text(encoding="utf-8")
    assert written == module.render(), "run scripts/generate_state_machines.py"
