"""The harness of tests/integration/http, for the same listeners under attack."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_file = Path(__file__).parents[2] / "integration" / "http" / "conftest.py"
_spec = importlib.util.spec_from_file_location("http_harness", _file)
assert _spec is not None
assert _spec.loader is not None
_harness = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _harness
_spec.loader.exec_module(_harness)

anyio_backend = _harness.anyio_backend
kit = _harness.kit
api = _harness.api
urls = _harness.urls
