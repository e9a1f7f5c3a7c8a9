"""Tags of a function, and the one tag that means something here.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-tags.html, decision D13.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pilotlight.model.errors import ApiError
from pilotlight.model.function import Isolation

TAGS_MAX = 50
ISOLATION_TAG = "pilotlight:isolation"
_KEY_MAX = 128
_VALUE_MAX = 256


def merged(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """The tags after TagResource or CreateFunction.

    Raises:
        ApiError: InvalidParameterValueException: too many, too long, or a reserved key.
    """
    result = {**old, **new}
    if len(result) > TAGS_MAX:
        raise ApiError(
            "InvalidParameterValueException", "Number of tags exceeds resource tag limit."
        )
    for key, value in new.items():
        _check(key, value)
    isolation_of(result)
    return result


def _check(key: str, value: str) -> None:
    if key.lower().startswith("aws:"):
        raise ApiError(
            "InvalidParameterValueException",
            "aws: prefixed tag key names are not allowed for external use.",
        )
    if not 1 <= len(key) <= _KEY_MAX or len(value) > _VALUE_MAX:
        raise ApiError(
            "InvalidParameterValueException",
            f"The tag '{key[:_KEY_MAX]}' is not valid: a key has 1 to {_KEY_MAX} characters, "
            f"a value at most {_VALUE_MAX}.",
        )


def without(old: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    """The tags after UntagResource; unknown keys are no error."""
    return {key: value for key, value in old.items() if key not in keys}


def isolation_of(tags: Mapping[str, str]) -> Isolation | None:
    """The isolation that the tags ask for, None for the account's default.

    Raises:
        ApiError: InvalidParameterValueException, no such isolation: it is never downgraded.
    """
    wanted = tags.get(ISOLATION_TAG)
    if wanted is None:
        return None
    try:
        return Isolation(wanted)
    except ValueError:
        known = ", ".join(isolation.value for isolation in Isolation)
        raise ApiError(
            "InvalidParameterValueException",
            f"The tag {ISOLATION_TAG} has the value '{wanted}'; it must be one of: {known}.",
        ) from None
