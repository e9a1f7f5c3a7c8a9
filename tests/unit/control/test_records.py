"""Records keep their meaning from release to release."""

from __future__ import annotations

import json

import msgspec
import pytest

from pilotlight.model.function import FunctionUrl
from pilotlight.model.ids import AccountId
from pilotlight.wire import records
from pilotlight.wire.records import UrlRecord, VersionRecord

URL = UrlRecord(
    url=FunctionUrl("u" * 32, AccountId("0" * 12), "us-east-1", "f", None, "NONE", cors={"a": [1]})
)


def test_a_record_comes_back_as_it_went() -> None:
    assert records.decode(UrlRecord, records.encode(URL)) == URL


def test_unknown_members_are_ignored() -> None:
    body = json.loads(records.encode(URL)) | {"later": 1}
    assert records.decode(UrlRecord, json.dumps(body).encode()) == URL


def test_a_newer_schema_is_refused_by_name() -> None:
    body = json.dumps({"schema": records.SCHEMA + 1, "function": {}}).encode()
    with pytest.raises(records.UnknownSchema, match="upgrade this process"):
        records.decode(VersionRecord, body)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"schema":1}', b"\xff"])
def test_damaged_bytes_are_an_error(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        records.decode(VersionRecord, body)
