"""What a client command costs before it does anything: it loads no part of the server."""

from __future__ import annotations

import subprocess
import sys

import pytest

SERVER = {"asyncio", "uvloop", "sqlalchemy", "alembic", "starlette", "uvicorn", "msgspec", "obstore",
          "structlog", "httptools", "prometheus_client", "difflib", "zipfile"}  # fmt: skip
LOADED = "import sys, {module}; print('\\n'.join(sys.modules))"


@pytest.mark.parametrize(
    "module",
    [
        "pilotlight.cli.app, pilotlight.cli.invoke, pilotlight.cli.client",
        "pilotlight.cli.app, pilotlight.cli.logs, pilotlight.cli.client",
        "pilotlight.cli.app, pilotlight.cli.ls, pilotlight.cli.substitution",
        "pilotlight.cli.app, pilotlight.cli.describe, pilotlight.cli.delete, pilotlight.cli.env",
        "pilotlight.cli.app, pilotlight.cli.up, pilotlight.cli.doctor",
    ],
)
def test_client_commands_load_nothing_of_the_server(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & SERVER == set()
    assert "pilotlight.model.function" not in done.stdout.split()
