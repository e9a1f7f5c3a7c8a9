"""Conditions of policy statements: operators, keys, and when they are met.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pilotlight.wire.iam.patterns import arn_matches, matches

KEYS: Final = frozenset(
    {
        "aws:PrincipalAccount",
        "aws:PrincipalArn",
        "aws:PrincipalOrgID",
        "aws:PrincipalType",
        "aws:RequestedRegion",
        "aws:SourceAccount",
        "aws:SourceArn",
        "aws:userid",
        "aws:username",
        "lambda:EventSourceToken",
        "lambda:FunctionArn",
        "lambda:FunctionUrlAuthType",
        "lambda:InvokedViaFunctionUrl",
        "iam:PassedToService",
        "sts:ExternalId",
        "sts:RoleSessionName",
    }
)
"""Keys that have values here."""

_KNOWN_KEYS: Final = frozenset(key.lower() for key in KEYS)


def _same(wanted: str, value: str) -> bool:
    return wanted == value


def _same_letters(wanted: str, value: str) -> bool:
    return wanted.casefold() == value.casefold()


@dataclass(frozen=True, slots=True)
class _Operator:
    """How a value is compared, and whether the comparison must fail for all wanted values."""

    compare: Callable[[str, str], bool]
    is_negative: bool = False


_OPERATORS: Final[Mapping[str, _Operator]] = MappingProxyType(
    {
        "ArnEquals": _Operator(arn_matches),
        "ArnLike": _Operator(arn_matches),
        "ArnNotEquals": _Operator(arn_matches, is_negative=True),
        "ArnNotLike": _Operator(arn_matches, is_negative=True),
        "Bool": _Operator(_same_letters),
        "StringEquals": _Operator(_same),
        "StringEqualsIgnoreCase": _Operator(_same_letters),
        "StringLike": _Operator(matches),
        "StringNotEquals": _Operator(_same, is_negative=True),
        "StringNotEqualsIgnoreCase": _Operator(_same_letters, is_negative=True),
        "StringNotLike": _Operator(matches, is_negative=True),
    }
)
_NULL: Final = "Null"
_IF_EXISTS: Final = "IfExists"
_ANY: Final = "ForAnyValue:"
_ALL: Final = "ForAllValues:"


@dataclass(frozen=True, slots=True)
class Condition:
    """One key under one operator.

    Attributes:
        operator: name without prefix and suffix.
        prefix: ``ForAnyValue:``, ``ForAllValues:`` or "".
        key: in lower case.
        wanted: values, one of which has to fit (none of them for a negative operator).
    """

    operator: str
    prefix: str
    if_exists: bool
    key: str
    wanted: tuple[str, ...]

    @property
    def is_understood(self) -> bool:
        """Whether this release can tell if it is met."""
        if self.operator == _NULL:
            is_known = not self.prefix and not self.if_exists
        else:
            is_known = self.operator in _OPERATORS
        return is_known and self.key in _KNOWN_KEYS

    def is_met(self, context: Mapping[str, str]) -> bool:
        """Whether the values of a request meet it; it must be understood."""
        value = context.get(self.key)
        if self.operator == _NULL:
            return any((value is None) == (wanted.lower() == "true") for wanted in self.wanted)
        operator = _OPERATORS[self.operator]
        if value is None:
            absent = self.if_exists or self.prefix == _ALL
            return absent or (operator.is_negative and self.prefix != _ANY)
        return any(operator.compare(wanted, value) for wanted in self.wanted) != (
            operator.is_negative
        )


def condition(operator: str, key: str, wanted: tuple[str, ...]) -> Condition:
    """Take an operator's name apart; any name is accepted, see `Condition.is_understood`."""
    prefix = next((known for known in (_ANY, _ALL) if operator.startswith(known)), "")
    name = operator.removeprefix(prefix)
    return Condition(
        operator=name.removesuffix(_IF_EXISTS),
        prefix=prefix,
        if_exists=name.endswith(_IF_EXISTS),
        key=key.lower(),
        wanted=wanted,
    )
