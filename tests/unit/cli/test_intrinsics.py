"""Intrinsic functions of templates, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilotlight.cli.errors import CommandFailed
from pilotlight.cli.stacks.intrinsics import Values, in_order
from pilotlight.cli.stacks.reading import packed, read_template
from pilotlight.cli.stacks.stack import parameters_of

VALUES = Values(
    parameters={"Stage": "dev", "AWS::Region": "eu-west-1", "Names": ["a", "b"]},
    conditions={"IsDev": {"Fn::Equals": [{"Ref": "Stage"}, "dev"]}, "Not": {"Fn::Not": [{"Condition": "IsDev"}]}},
    mappings={"Sizes": {"dev": {"memory": 128}}},
    references={"Table": "table-1"},
    attributes={"Table": {"Arn": "arn:t"}},
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": "Stage"}, "dev"),
        ({"Ref": "Table"}, "table-1"),
        ({"Fn::GetAtt": ["Table", "Arn"]}, "arn:t"),
        ({"Fn::GetAtt": "Table.Arn"}, "arn:t"),
        ({"Fn::Sub": "${Stage}/${Table.Arn}/${!kept}"}, "dev/arn:t/${kept}"),
        ({"Fn::Sub": ["${x}-${Stage}", {"x": {"Ref": "Table"}}]}, "table-1-dev"),
        ({"Fn::Join": ["-", [{"Ref": "Stage"}, "x"]]}, "dev-x"),
        ({"Fn::Select": [1, {"Ref": "Names"}]}, "b"),
        ({"Fn::Split": ["/", "a/b"]}, ["a", "b"]),
        ({"Fn::If": ["IsDev", 1, 2]}, 1),
        ({"Fn::If": ["Not", 1, 2]}, 2),
        ({"Fn::And": [{"Condition": "IsDev"}, {"Condition": "Not"}]}, False),
        ({"Fn::Or": [{"Condition": "IsDev"}, {"Condition": "Not"}]}, True),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "Stage"}, "memory"]}, 128),
        ({"Fn::Base64": "x"}, "eA=="),
        ({"a": {"Ref": "AWS::NoValue"}, "b": [1, {"Ref": "AWS::NoValue"}]}, {"b": [1]}),
    ],
)
def test_functions_mean_what_they_say(value: object, expected: object) -> None:
    assert VALUES.resolve(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        {"Ref": "Unknown"},
        {"Fn::GetAtt": ["Table", "Name"]},
        {"Fn::Nothing": "x"},
        {"Fn::Select": [5, ["a"]]},
        {"Fn::If": ["Unknown", 1, 2]},
        {"Fn::FindInMap": ["Sizes", "x", "memory"]},
    ],
)
def test_what_cannot_be_resolved_is_told(value: object) -> None:
    with pytest.raises(CommandFailed):
        VALUES.resolve(value)


def test_resources_come_after_what_they_need() -> None:
    resources: dict[str, dict[str, Any]] = {
        "A": {"Properties": {"x": {"Fn::Sub": "${B.Arn}"}}},
        "B": {"DependsOn": "C"},
        "C": {"Properties": {"y": {"Ref": "Stage"}}},
    }
    assert in_order(resources) == ["C", "B", "A"]
    resources["C"]["Properties"]["y"] = {"Ref": "A"}
    with pytest.raises(CommandFailed, match="need one another: A, B, C"):
        in_order(resources)


def test_parameters_have_values_that_are_allowed() -> None:
    template = {
        "Parameters": {
            "Stage": {"Type": "String", "Default": "dev", "AllowedValues": ["dev", "prod"]},
            "Names": {"Type": "CommaDelimitedList", "Default": "a, b"},
            "Needed": {"Type": "String"},
        }
    }
    assert parameters_of(template, {"Needed": "x"}) == {
        "Stage": "dev", "Names": ["a", "b"], "Needed": "x",
    }  # fmt: skip
    for given in ({}, {"Needed": "x", "Stage": "other"}, {"Needed": "x", "More": "y"}):
        with pytest.raises(CommandFailed):
            parameters_of(template, given)


def test_short_forms_and_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(
        "AWSTemplateFormatVersion: 2010-09-09\nResources:\n  A:\n    Type: X\n"
        "    Properties: {a: !Ref B, b: !GetAtt B.Arn, c: !Sub '${B}', d: !If [C, 1, 2]}\n"
    )
    template = read_template(path)
    assert template["AWSTemplateFormatVersion"] == "2010-09-09"
    assert template["Resources"]["A"]["Properties"] == {
        "a": {"Ref": "B"},
        "b": {"Fn::GetAtt": ["B", "Arn"]},
        "c": {"Fn::Sub": "${B}"},
        "d": {"Fn::If": ["C", 1, 2]},
    }


@pytest.mark.parametrize(
    "text", ["", "- a", "Resources: x", "a: [", "!!python/object:os.system {}"]
)
def test_what_is_no_template_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(CommandFailed):
        read_template(path)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    template: dict[str, Any] = {
        "Resources": {"A": {"Type": "AWS::Lambda::Function", "Properties": {"Code": "none"}}}
    }
    with pytest.raises(CommandFailed, match="A names none"):
        packed(template, tmp_path, lambda _source, _resource: b"")
