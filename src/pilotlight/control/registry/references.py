"""Function references: names, partial ARNs and full ARNs, with or without a qualifier.

Source of the forms: the ``FunctionName`` parameter in the API reference,
https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilotlight.model.errors import ApiError
from pilotlight.model.function import LATEST

NAME_MAX = 64

_REFERENCE = re.compile(
    r"(?:arn:(?P<partition>aws[a-zA-Z-]*):lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?"
    r"(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_]+)"
    r"(?::(?P<qualifier>\$LATEST|[a-zA-Z0-9-_]+))?"
)

_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?"
    r"(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?"
)


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a call happens: ARNs of its answer name this region and this account."""

    account: str
    region: str

    def function_arn(self, name: str, qualifier: str | None = None) -> str:
        """ARN of a function, or of one of its qualifiers."""
        arn = f"arn:aws:lambda:{self.region}:{self.account}:function:{name}"
        return arn if qualifier is None else f"{arn}:{qualifier}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A function of the caller's account. ``qualifier`` is as given, None when absent."""

    scope: Scope
    name: str
    qualifier: str | None

    @property
    def arn(self) -> str:
        """ARN as the caller meant it, qualifier included."""
        return self.scope.function_arn(self.name, self.qualifier)

    @property
    def unqualified_arn(self) -> str:
        """ARN of the function."""
        return self.scope.function_arn(self.name)

    @property
    def is_latest(self) -> bool:
        """Whether it means the function's mutable version."""
        return self.qualifier in (None, LATEST)


def parse_reference(text: str, qualifier: str | None, scope: Scope) -> Reference:
    """Resolve a reference inside the caller's account and region.

    Args:
        text: the ``FunctionName`` parameter.
        qualifier: the ``Qualifier`` parameter; None or "" when absent.
        scope: account and region of the call.

    Raises:
        ApiError: ValidationException (not a reference), InvalidParameterValueException (two
            different qualifiers), ResourceNotFoundException (other region),
            AccessDeniedException (other account).
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise ApiError(
            "ValidationException",
            f"1 validation error detected: Value '{text}' at 'functionName' failed to satisfy "
            f"constraint: Member must satisfy regular expression pattern: {_PATTERN}",
        )
    region, account = match["region"], match["account"]
    if region is not None and region != scope.region:
        raise ApiError(
            "ResourceNotFoundException",
            f"Functions from '{region}' are not reachable in this region ('{scope.region}')",
        )
    if account is not None and account != scope.account:
        raise ApiError("AccessDeniedException", "", Message=None)
    derived = match["qualifier"]
    if derived and qualifier and derived != qualifier:
        raise ApiError(
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        )
    return Reference(scope, match["name"], qualifier or derived)


def check_new_name(name: str) -> None:
    """Check the length of a new function's name.

    Raises:
        ApiError: InvalidParameterValueException.
    """
    if len(name) > NAME_MAX:
        raise ApiError(
            "InvalidParameterValueException",
            f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy "
            f"constraint: Member must have length less than or equal to {NAME_MAX}",
        )


def function_not_found(arn: str) -> ApiError:
    """The service's answer for a function, version or alias that does not exist."""
    return ApiError("ResourceNotFoundException", f"Function not found: {arn}")


def resource_not_found() -> ApiError:
    """The service's answer where it does not say which resource is missing."""
    return ApiError("ResourceNotFoundException", "The resource you requested does not exist.")
