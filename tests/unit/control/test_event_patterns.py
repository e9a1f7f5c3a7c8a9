"""Which texts are event patterns."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.model.patterns import is_pattern


@pytest.mark.parametrize(
    "pattern",
    [
        {"body": {"a": ["x", 1, None, True]}},
        {"a": [{"prefix": "x"}, {"suffix": "y"}]},
        {"a": [{"prefix": {"equals-ignore-case": "x"}}]},
        {"a": [{"anything-but": ["x", 1]}]},
        {"a": [{"anything-but": {"prefix": "x"}}]},
        {"a": [{"numeric": [">", 0, "<=", 5]}]},
        {"a": [{"numeric": ["=", 3.5]}]},
        {"a": [{"exists": False}]},
        {"a": [{"cidr": "10.0.0.0/24"}]},
        {"a": [{"wildcard": "a*b"}]},
        {"$or": [{"a": ["x"]}, {"b": ["y"]}]},
    ],
)
def test_patterns_are_known(pattern: object) -> None:
    assert is_pattern(json.dumps(pattern))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "{}",
        '{"a": "x"}',
        '{"a": []}',
        '{"a": [{"prefix": 1}]}',
        '{"a": [{"unknown": "x"}]}',
        '{"a": [{"prefix": "x", "suffix": "y"}]}',
        '{"a": [{"numeric": [">"]}]}',
        '{"a": [{"numeric": ["~", 1]}]}',
        '{"a": [{"exists": "yes"}]}',
        '{"a": [{"cidr": "10.0.0.0"}]}',
        '{"a": [{"wildcard": "a**b"}]}',
        '{"a": {}}',
        '{"$or": [{"a": ["x"]}]}',
        "{" * 100_000,
    ],
)
def test_other_texts_are_not(text: str) -> None:
    assert not is_pattern(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)


@given(JSON)
def test_nothing_breaks_it(document: object) -> None:
    assert is_pattern(json.dumps(document)) in (True, False)
