"""Differential tests: results, payloads and their errors equal those of ``awslambdaric``."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from awslambdaric.lambda_runtime_exception import FaultException
from awslambdaric.lambda_runtime_marshaller import LambdaMarshaller
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pilotlight_guest.python.faults import Fault
from pilotlight_guest.python.jsontext import Encoder, decode, encoder_for

fuzz = settings(deadline=None, max_examples=80)

Outcome = tuple[str, str] | bytes


class Point(NamedTuple):
    x: object
    y: object


class Colour(enum.IntEnum):
    RED = 1


class Name(enum.StrEnum):
    ONE = "one"


class OwnList(list[Any]):
    def __len__(self) -> int:
        return 3


class OwnFloat(float):
    def __repr__(self) -> str:
        return "own"


class OwnInt(int):
    def __repr__(self) -> str:
        return "own"


class OwnStr(str):
    def __str__(self) -> str:
        return "own"

    __slots__ = ()


class AsDict:
    def __init__(self, answer: object) -> None:
        self._answer = answer

    def _asdict(self) -> object:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.fixture(params=["python3.11", "python3.12"], scope="module")
def execution_env(request: pytest.FixtureRequest) -> Iterator[str]:
    before = os.environ.get("AWS_EXECUTION_ENV")
    os.environ["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{request.param}"
    yield f"AWS_Lambda_{request.param}"
    if before is None:
        del os.environ["AWS_EXECUTION_ENV"]
    else:
        os.environ["AWS_EXECUTION_ENV"] = before


def lambdas_result(marshaller: LambdaMarshaller, value: object) -> Outcome:
    try:
        result, _ = marshaller.marshal_response(value)
    except FaultException as fault:
        return fault.exception_type, fault.msg
    try:
        return result if isinstance(result, bytes) else result.encode()
    except UnicodeEncodeError:
        return "died", ""


def our_result(encoder: Encoder, value: object) -> Outcome:
    try:
        return encoder.result(value)
    except Fault as fault:
        return fault.kind, fault.message
    except UnicodeEncodeError:
        return "died", ""


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.text()
)
odd_scalars = (
    st.decimals()
    | st.binary()
    | st.complex_numbers()
    | st.datetimes()
    | st.uuids()
    | st.sampled_from([Colour.RED, Name.ONE, OwnInt(4), OwnFloat(1.5), OwnFloat("nan")])
    | st.sampled_from([OwnStr("text"), OwnList([1]), object, AsDict, ..., range(3)])
    | st.sampled_from([AsDict({"a": 1}), AsDict(5), AsDict(TypeError("x")), AsDict(KeyError("x"))])
    | st.sampled_from([decimal.Decimal("sNaN"), decimal.Decimal("1.10"), bytearray(b"x")])
    | st.frozensets(st.integers())
)
keys = st.text() | st.integers() | st.floats() | st.booleans() | st.none()
odd_keys = (
    keys
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.tuples(st.integers())
    | st.just(Colour.RED)
)


def containers(inner: st.SearchStrategy[Any], names: Any) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(names, inner)
        | st.builds(Point, inner, inner)
        | st.builds(collections.OrderedDict, st.dictionaries(names, inner))
        | st.builds(collections.Counter, st.lists(st.text()))
    )


plain_values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner))
any_values = st.recursive(
    scalars | odd_scalars, lambda inner: containers(inner, odd_keys), max_leaves=8
)


@fuzz
@given(plain_values)
def test_plain_results_are_written_alike(execution_env: str, value: object) -> None:
    assert our_result(encoder_for(execution_env), value) == lambdas_result(
        LambdaMarshaller(), value
    )


@fuzz
@given(any_values)
@example([Point(1, {"a": Point(2, decimal.Decimal("1.50"))})])
@example({b"key": b"value"})
@example({b"\xff": 1})
@example([b"\xff"])
@example(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
@example({(1,): 2})
@example({OwnStr("k"): OwnStr("v")})
@example("\ud800")
@example({"a": {"b": {1, 2}}})
def test_any_results_are_written_alike(execution_env: str, value: object) -> None:
    assert our_result(encoder_for(execution_env), value) == lambdas_result(
        LambdaMarshaller(), value
    )


def test_cycles_are_refused_alike(execution_env: str) -> None:
    ring: list[object] = []
    ring.append({"ring": ring})
    outcome = our_result(encoder_for(execution_env), ring)
    assert outcome == lambdas_result(LambdaMarshaller(), ring)
    assert outcome[0] == "Runtime.MarshalError"


@pytest.mark.parametrize("depth", [900, 100_000])
def test_deep_results_are_written_or_refused(execution_env: str, depth: int) -> None:
    value: object = 1
    for _ in range(depth):
        value = [value]
    ours = our_result(encoder_for(execution_env), value)
    lambdas = lambdas_result(LambdaMarshaller(), value)
    assert isinstance(ours, bytes) == isinstance(lambdas, bytes)
    while isinstance(value, list):  # unwound by hand: destroying it at once recurses
        value = value.pop()


def lambdas_event(payload: bytes) -> tuple[str, Any]:
    try:
        return "event", LambdaMarshaller().unmarshal_request(payload)
    except FaultException as fault:
        return fault.exception_type, fault.msg


def our_event(payload: bytes) -> tuple[str, Any]:
    try:
        return "event", decode(payload)
    except Fault as fault:
        return fault.kind, fault.message


@fuzz
@given(plain_values)
def test_payloads_are_read_alike(value: object) -> None:
    payload = json.dumps(value).encode()
    ours, lambdas = our_event(payload), lambdas_event(payload)
    assert repr(ours) == repr(lambdas)  # by text: NaN differs from itself


JSON_ALPHABET = st.sampled_from(list('{}[]:,"\\/ubtn0123456789-+.eE truefalsn\n\t\x00é\ufeff'))


@fuzz
@given(st.lists(JSON_ALPHABET, max_size=24).map("".join))
@example("")
@example(" ")
@example("[")
@example("[1,]")
@example("[1,  ]")
@example("[,]")
@example("{")
@example('{"a"')
@example('{"a":')
@example('{"a":1,}')
@example('{"a":1, ')
@example("{1: 2}")
@example("[1 2]")
@example("1 2")
@example("NaN")
@example("[-Infinity]")
@example("-")
@example("01")
@example("1.")
@example('"\\x"')
@example('"\\u12"')
@example('"\\ud800\\u"')
@example('"\\ud83d\\ude00"')
@example('"abc')
@example('"a\nb"')
@example("\ufeff{}")
@example("\xef\xbb\xbf[]")
@example("\n\n  [1,\n 2,,]")
@example("tru")
def test_broken_payloads_are_refused_alike(text: str) -> None:
    assert our_event(text.encode()) == lambdas_event(text.encode())


@fuzz
@given(plain_values, st.data())
def test_damaged_payloads_are_refused_alike(value: object, data: st.DataObject) -> None:
    text = json.dumps(value, allow_nan=True)
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 3))
    text = text[:at] + data.draw(JSON_ALPHABET) + text[at + cut :]
    assert repr(our_event(text.encode())) == repr(lambdas_event(text.encode()))


@fuzz
@given(st.binary(max_size=20))
@example(b"\xff{}")
def test_bytes_that_are_not_text_are_refused_alike(payload: bytes) -> None:
    assert repr(our_event(payload)) == repr(lambdas_event(payload))


def test_a_number_too_long_is_refused_alike() -> None:
    payload = b"9" * 5000
    assert our_event(payload) == lambdas_event(payload)
