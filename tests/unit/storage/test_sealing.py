"""Seals open for their owner with their key, and for nobody else."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.model.errors import ConfigurationError
from pilotlight.ports.sealing import SealBroken
from pilotlight.storage.sealing import FileSealer, open_sealer
from pilotlight.testing.sealing import known_sealer

OWNER = "arn:aws:lambda:us-east-1:000000000000:function:f"


@given(st.binary(max_size=5000), st.text(max_size=50))
def test_what_is_sealed_opens_for_its_owner(plain: bytes, owner: str) -> None:
    sealer = known_sealer()
    token = sealer.seal(plain, owner)
    assert sealer.open(token, owner) == plain
    assert sealer.seal(plain, owner) != token
    with pytest.raises(SealBroken, match="belongs to another"):
        sealer.open(token, owner + "x")


@given(st.data())
def test_any_other_bit_breaks_it(data: st.DataObject) -> None:
    sealer = known_sealer()
    head, _, token = sealer.seal(b"value", OWNER).rpartition(":")
    raw = bytearray(base64.b64decode(token))
    at = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[at // 8] ^= 1 << at % 8
    with pytest.raises(SealBroken):
        sealer.open(f"{head}:{base64.b64encode(raw).decode()}", OWNER)


@pytest.mark.parametrize(
    "token", ["", "1", "1:test", "1:test:", "1:test:!", "1:test:AAAA", "x:y:z"]
)
def test_what_is_no_seal_is_an_error(token: str) -> None:
    with pytest.raises(SealBroken):
        known_sealer().open(token, OWNER)


def test_another_key_is_named() -> None:
    token = FileSealer({"k": bytes([1]) * 32}, "k", Path("f")).seal(b"v", OWNER)
    with pytest.raises(SealBroken, match="'k', which is not in keys of a test"):
        known_sealer().open(token, OWNER)


def test_keys_can_be_changed(tmp_path: Path) -> None:
    where = tmp_path / "keys.json"
    token = open_sealer(where).seal(b"v", OWNER)
    assert stat.S_IMODE(where.stat().st_mode) == 0o600
    document = json.loads(where.read_text())
    document["keys"]["new"] = base64.b64encode(bytes([7]) * 32).decode()
    document["current"] = "new"
    where.write_text(json.dumps(document))
    changed = open_sealer(where)
    assert changed.open(token, OWNER) == b"v"
    assert changed.seal(b"v", OWNER).startswith("1:new:")
    assert open_sealer(where).open(changed.seal(b"w", OWNER), OWNER) == b"w"


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"current": "a", "keys": {}}', '{"current": "a", "keys": {"a": "AAAA"}}'],
)
def test_a_damaged_file_is_told_and_never_replaced(tmp_path: Path, text: str) -> None:
    where = tmp_path / "keys.json"
    where.write_text(text)
    where.chmod(0o600)
    with pytest.raises(ConfigurationError, match="restore it from a backup"):
        open_sealer(where)
    assert where.read_text() == text


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    where = tmp_path / "keys.json"
    open_sealer(where)
    where.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        open_sealer(where)
