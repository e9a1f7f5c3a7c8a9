"""The generated tables: current, cheap, and complete."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pilotlight.wire.lambda_api import validate
from pilotlight.wire.lambda_model import model, overrides
from pilotlight.wire.lambda_model.errors import ERRORS
from pilotlight.wire.lambda_model.operations import OPERATIONS
from pilotlight.wire.lambda_model.shapes import LISTS, MAPS, SCALARS, STRUCTURES

SCRIPT = Path(__file__).resolve().parents[3] / "scripts/generate_lambda_api.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=15
    )


def test_generated_modules_are_what_the_script_makes() -> None:
    result = run(str(SCRIPT), "--check")
    assert result.returncode == 0, result.stderr


def test_check_reports_stale_modules_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "errors.py").write_text("old")
    result = run(str(SCRIPT), "--check", "--target", str(tmp_path))
    assert result.returncode == 1
    assert "errors.py" in result.stderr
    assert (tmp_path / "errors.py").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["errors.py"]


def test_the_wire_needs_no_botocore() -> None:
    code = (
        "import sys, pilotlight.wire.lambda_api, pilotlight.wire.sigv4;"
        "sys.exit(any(name.startswith(('botocore', 'boto3')) for name in sys.modules))"
    )
    result = run("-c", code)
    assert result.returncode == 0, result.stderr


def test_all_operations_of_the_service_are_there() -> None:
    assert len(OPERATIONS) >= 91
    assert {"CreateFunction", "Invoke", "CreateFunctionUrlConfig"} <= OPERATIONS.keys()


@pytest.mark.parametrize("name", sorted(STRUCTURES | LISTS | MAPS | SCALARS))
def test_every_shape_can_be_built_and_refers_to_shapes(name: str) -> None:
    shape = model.shape(name)
    assert shape.name == name
    referred: list[str] = []
    if isinstance(shape, model.Structure):
        referred = [member.shape for member in shape.members]
    elif isinstance(shape, model.ListShape):
        referred = [shape.member]
    elif isinstance(shape, model.MapShape):
        referred = [shape.key, shape.value]
    assert [model.shape(each).name for each in referred] == referred


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_every_error_can_be_built(name: str) -> None:
    error = model.error(name)
    assert error is not None
    assert 400 <= error.status < 600
    assert error.sender_fault == (error.status < 500)


def test_overrides_name_what_the_model_has() -> None:
    assert overrides.STATUS.keys() <= OPERATIONS.keys()
    assert overrides.PATTERN.keys() | overrides.MAXIMUM.keys() <= SCALARS.keys()
    for name, values in overrides.ENUM_ORDER.items():
        assert sorted(values) == sorted(SCALARS[name][4])
    for structure, member in overrides.UNCHECKED:
        assert member in {row.name for row in model.structure(structure).members}


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_empty_request_is_valid_or_names_what_is_missing(name: str) -> None:
    required = [m for m in model.structure(model.operation(name).input).members if m.required]
    if not required:
        validate(name, {})
        return
    with pytest.raises(Exception, match="Member must not be null") as caught:
        validate(name, {})
    assert str(caught.value).count("Value null at ") == len(required)
