"""Who may use a layer, how large it may be, and what keeps its package."""

from __future__ import annotations

from typing import Any

import pytest

from pilotlight.control.registry import layers
from pilotlight.control.registry.collector import referenced
from pilotlight.control.registry.references import Scope
from pilotlight.model.errors import ApiError
from pilotlight.model.function import LATEST, Code, FunctionVersion, Layer, Logging
from pilotlight.model.ids import AccountId, Digest
from pilotlight.wire.records import FunctionRecord, LayerVersionRecord, Policy, VersionRecord

MINE, OTHER = "000000000000", "111111111111"
SCOPE = Scope(MINE, "us-east-1")


def code(size: int = 1, package: str = "a") -> Code:
    return Code("s", 1, Digest(package * 64), unzipped_bytes=size)


def layer(size: int = 1, package: str = "a") -> Layer:
    return Layer(arn="arn:aws:lambda:us-east-1:000000000000:layer:l:1", code=code(size, package))


def shared(**statement: Any) -> LayerVersionRecord:
    whole = {"Sid": "s", "Effect": "Allow", "Action": "lambda:GetLayerVersion", **statement}
    policy = Policy(statements=(whole,), revision_id="r")
    return LayerVersionRecord(
        account=MINE, name="l", number=1, code=code(), created="t", policy=policy
    )


def test_the_limit_of_size_is_of_a_function_with_its_layers() -> None:
    layers.check_size(code(262_144_000), ())
    layers.check_size(code(262_143_999), [layer(1)])
    with pytest.raises(ApiError, match="exceeds the maximum allowed size of 262144000 bytes"):
        layers.check_size(code(262_144_000), [layer(1)])


@pytest.mark.parametrize(
    ("statement", "admitted"),
    [
        ({"Principal": "*"}, True),
        ({"Principal": {"AWS": f"arn:aws:iam::{OTHER}:root"}}, True),
        ({"Principal": {"AWS": f"arn:aws:iam::{MINE}:root"}}, False),
        ({"Principal": {"Service": "s3.amazonaws.com"}}, False),
        ({"Principal": "*", "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o"}}}, False),
    ],
)
def test_another_account_needs_a_statement_that_admits_it(
    statement: dict[str, Any], *, admitted: bool
) -> None:
    assert layers.admits(shared(**statement), OTHER) is admitted
    assert not layers.admits(None, OTHER)


@pytest.mark.parametrize(
    ("text", "arn"),
    [
        ("l", "arn:aws:lambda:us-east-1:000000000000:layer:l"),
        ("l:3", "arn:aws:lambda:us-east-1:000000000000:layer:l:3"),
        (
            "arn:aws:lambda:eu-west-1:111111111111:layer:x_y:7",
            "arn:aws:lambda:eu-west-1:111111111111:layer:x_y:7",
        ),
    ],
)
def test_references_are_understood(text: str, arn: str) -> None:
    assert layers.parse_layer(text, SCOPE).arn == arn


@pytest.mark.parametrize("text", ["", "a b", "arn:aws:lambda:us-east-1:1:layer:l", "l:0", "../l"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ApiError):
        layers.parse_layer(text, SCOPE)


def test_a_package_stays_while_anything_runs_it() -> None:
    def version(number: str, package: str, *layered: Layer) -> FunctionVersion:
        return FunctionVersion(
            account=AccountId(MINE), region="us-east-1", name="f", version=number, runtime=None,
            handler=None, role="r", code=code(1, package), logging=Logging("/g"),
            last_modified="t", revision_id="r", layers=layered,
        )  # fmt: skip

    record = FunctionRecord(
        current=version(LATEST, "a"), serving=version(LATEST, "b", layer(1, "c"))
    )
    published = VersionRecord(function=version("1", "d", layer(1, "e")))
    kept = LayerVersionRecord(account=MINE, name="l", number=1, code=code(1, "f"), created="t")
    assert referenced([record], [published], [kept]) == {Digest(c * 64) for c in "abcdef"}
