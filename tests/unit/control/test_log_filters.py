"""Filter patterns of log events."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotlight.control.cloudwatch.filters import predicate
from pilotlight.model.errors import ApiError


@pytest.mark.parametrize(
    ("pattern", "event", "holds"),
    [
        ("ERROR", "an ERROR here", True),
        ("ERROR", "an error here", False),
        ("ERROR", "ERRORS", False),
        ("ERROR", "[ERROR] x", True),
        ("ERROR timeout", "ERROR: timeout", True),
        ("ERROR timeout", "ERROR only", False),
        ('"exit status"', "exit status 1", True),
        ('"exit status"', "status exit", False),
        ("ERROR -quiet", "ERROR quiet", False),
        ("ERROR -quiet", "ERROR loud", True),
        ("?ERROR ?WARN", "WARN x", True),
        ("?ERROR ?WARN", "INFO x", False),
        ("a.b", "see a.b now", True),
        ('"a \\"b\\" c"', 'see a "b" c', True),
    ],
)
def test_terms(pattern: str, event: str, *, holds: bool) -> None:
    decide = predicate(pattern)
    assert decide is not None
    assert decide(event) is holds


EVENT = {
    "level": "ERROR",
    "n": 5,
    "ok": True,
    "none": None,
    "list": [{"x": "first"}],
    "a": {"b": 1},
}


@pytest.mark.parametrize(
    ("pattern", "holds"),
    [
        ('{ $.level = "ERROR" }', True),
        ("{ $.level = ERROR }", True),
        ('{ $.level = "ERR*" }', True),
        ('{ $.level != "ERROR" }', False),
        ('{ $.level != "INFO" }', True),
        ('{ $.gone != "INFO" }', False),
        ("{ $.n > 4 }", True),
        ("{ $.n >= 6 }", False),
        ("{ $.n = 5.0 }", True),
        ("{ $.n < 6 && $.level = ERROR }", True),
        ("{ $.n > 6 || $.level = ERROR }", True),
        ("{ ($.n > 6 || $.n < 1) && $.level = ERROR }", False),
        ("{ $.ok IS TRUE }", True),
        ("{ $.none IS NULL }", True),
        ("{ $.gone NOT EXISTS }", True),
        ("{ $.level NOT EXISTS }", False),
        ('{ $.list[0].x = "first" }', True),
        ('{ $.list[1].x = "first" }', False),
        ("{ $.a.b = 1 }", True),
        ('{ $["a"].b = 1 }', True),
    ],
)
def test_properties(pattern: str, *, holds: bool) -> None:
    decide = predicate(pattern)
    assert decide is not None
    assert decide(json.dumps(EVENT)) is holds
    assert decide("no json") is False


@pytest.mark.parametrize(
    "pattern",
    ["[a, b]", "%regex%", "{ $.a }", "{ $.a = }", "{ a = 1 }", "{ $.a > x }", "{", '"open', "x" * 1025,
     "{ " + "(" * 50 + "$.a = 1" + ")" * 50 + " }"],
)  # fmt: skip
def test_what_is_not_understood_is_refused(pattern: str) -> None:
    with pytest.raises(ApiError):
        predicate(pattern)


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_pattern_breaks_it(pattern: str, event: str) -> None:
    try:
        decide = predicate(pattern)
    except ApiError:
        return
    assert decide is None or decide(event) in (True, False)
