"""Names of functions as the Lambda API's callers write them.

Source: the pattern of ``NamespacedFunctionName`` in the service's model, and "Name formats" at
https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilotlight.model.errors import ApiError

_PATTERN_TEXT = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?"
    r"((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
    r"([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
_NAME = re.compile(
    r"(?:arn:aws[a-zA-Z-]*:lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9\-_.]+)(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9\-_]+))?"
)
_QUALIFIER = re.compile(r"\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9\-_$]+")
_NAME_MAX = 64
_ARN_MAX = 256
_QUALIFIER_MAX = 128


@dataclass(frozen=True, slots=True)
class FunctionName:
    """A name taken apart; what the caller did not write is None."""

    name: str
    region: str | None = None
    account: str | None = None
    qualifier: str | None = None


def parse_function_name(text: str) -> FunctionName:
    """Take a name, a partial or a full ARN apart.

    Raises:
        ApiError: ValidationException, with the service's text.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise ApiError(
            "ValidationException",
            _violation(
                text, "functionName", f"satisfy regular expression pattern: {_PATTERN_TEXT}"
            ),
            status=400,
        )
    if len(text) > _ARN_MAX:
        raise ApiError(
            "ValidationException",
            _violation(text, "functionName", f"have length less than or equal to {_ARN_MAX}"),
            status=400,
        )
    if len(match["name"]) > _NAME_MAX:
        raise ApiError(
            "InvalidParameterValueException",
            _violation(
                match["name"], "functionName", f"have length less than or equal to {_NAME_MAX}"
            ),
        )
    return FunctionName(match["name"], match["region"], match["account"], match["qualifier"])


def check_qualifier(text: str) -> str:
    """Return the qualifier.

    Raises:
        ApiError: ValidationException, with the service's text.
    """
    if _QUALIFIER.fullmatch(text) is None:
        pattern = r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"
        raise ApiError(
            "ValidationException",
            _violation(text, "qualifier", f"satisfy regular expression pattern: {pattern}"),
            status=400,
        )
    if len(text) > _QUALIFIER_MAX:
        raise ApiError(
            "ValidationException",
            _violation(text, "qualifier", f"have length less than or equal to {_QUALIFIER_MAX}"),
            status=400,
        )
    return text


def enum_violation(text: str, member: str, values: str) -> ApiError:
    """The error of a value outside an enumeration, with the service's text."""
    return ApiError(
        "ValidationException",
        _violation(text, member, f"satisfy enum value set: [{values}]"),
        status=400,
    )


def _violation(value: str, member: str, constraint: str) -> str:
    return (
        f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy"
        f" constraint: Member must {constraint}"
    )
