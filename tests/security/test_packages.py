"""Files of a package that Python would run by itself are not run when it is made ready."""

from __future__ import annotations

import importlib.util
import marshal
import sys
from pathlib import Path

import pytest

from pilotlight.dataplane.codecache import open_code_cache
from pilotlight.model.ids import Digest, RuntimeName

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
CODE = Digest("cd" * 32)
RAN = "open('ran', 'w').close()\n"
NAMES = (
    "sitecustomize.py", "usercustomize.py", "compileall.py", "py_compile.py", "struct.py", "json.py",
    "encodings/__init__.py", "encodings/utf_8.py", "__main__.py", "__init__.py", "app.py",
)  # fmt: skip


async def unpack(code: Digest, folder: Path) -> None:
    del code
    hostile(folder)


def hostile(folder: Path) -> None:
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(RAN)
    (folder / "evil.pth").write_text("import os; open('ran', 'w').close()\n")
    pyc = Path(importlib.util.cache_from_source(str(folder / "struct.py")))
    pyc.parent.mkdir()
    compiled = marshal.dumps(compile(RAN, "struct.py", "exec"))
    pyc.write_bytes(importlib.util.MAGIC_NUMBER + bytes(12) + compiled)


async def test_compiling_runs_nothing_of_the_package(tmp_path: Path) -> None:
    cache = await open_code_cache(
        tmp_path / "code", unpack, lambda _: Path(sys.executable), capacity_bytes=1 << 30
    )
    tree = await cache.ensure(CODE, RuntimeName("python3.11"))
    assert not (tree / "ran").exists()
    assert list(tree.glob("__pycache__/app.*.pyc")), "was compiled"
