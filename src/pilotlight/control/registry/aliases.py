"""Aliases of a function: movable names of its versions, as pure functions.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-aliases.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pilotlight.control.registry import rules
from pilotlight.control.registry.references import Reference, function_not_found
from pilotlight.model.errors import ApiError
from pilotlight.model.function import LATEST
from pilotlight.wire.records import Alias, FunctionRecord

_WEIGHTS = "routingConfig.additionalVersionWeights"


def version_of(record: FunctionRecord, qualifier: str | None) -> str | None:
    """The version that a qualifier means, an alias its first one; None when there is none."""
    if qualifier is None or qualifier == LATEST:
        return LATEST
    if qualifier in record.published:
        return qualifier
    alias = record.aliases.get(qualifier)
    return None if alias is None else alias.version


def is_known(record: FunctionRecord, qualifier: str) -> bool:
    """Whether a function has a version or an alias of this name."""
    return version_of(record, qualifier) is not None


def alias_not_found(reference: Reference) -> ApiError:
    """The service's answer where only an alias may be named."""
    return ApiError("ResourceNotFoundException", f"Cannot find alias arn: {reference.arn}")


def checked_weights(
    record: FunctionRecord, reference: Reference, version: str, given: Mapping[str, Any] | None
) -> dict[str, float]:
    """The weights of a ``RoutingConfig``.

    Raises:
        ApiError: with the service's text for the first rule that is broken.
    """
    weights: Mapping[str, float] = (given or {}).get("AdditionalVersionWeights") or {}
    if len(weights) > 1:
        raise _invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
    for number, weight in weights.items():
        _check_weight(number, weight)
        if number == version:
            raise _invalid(
                f"Invalid function version {version}. Function version {version} is already "
                "included in routing configuration."
            )
        if LATEST in (version, number):
            raise _invalid("$LATEST is not supported for an alias pointing to more than 1 version")
        check_version(record, reference, number)
    return {number: float(weight) for number, weight in weights.items()}


def _check_weight(number: str, weight: float) -> None:
    shown = f"1 validation error detected: Value '{{{number}={weight}}}' at '{_WEIGHTS}' failed to satisfy constraint: "
    if not number.isdecimal() and number != LATEST:
        raise ApiError(
            "ValidationException",
            shown + "Map keys must satisfy constraint: [Member must have length less than or equal "
            "to 1024, Member must have length greater than or equal to 1, Member must satisfy "
            "regular expression pattern: [0-9]+, Member must not be null]",
        )
    if not 0.0 <= weight <= 1.0:
        raise ApiError(
            "ValidationException",
            shown + "Map value must satisfy constraint: [Member must have value less than or equal "
            "to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]",
        )


def check_version(record: FunctionRecord, reference: Reference, version: str) -> None:
    """Refuse a version that does not exist; ``$LATEST`` always does.

    Raises:
        ApiError: ResourceNotFoundException.
    """
    if version != LATEST and version not in record.published:
        raise function_not_found(reference.scope.function_arn(reference.name, version))


def check_revision(alias: Alias, wanted: str | None) -> None:
    """Compare the caller's ``RevisionId``, where one was given.

    Raises:
        ApiError: PreconditionFailedException.
    """
    if wanted and wanted != alias.revision_id:
        raise ApiError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        )


def with_alias(record: FunctionRecord, name: str, alias: Alias) -> FunctionRecord:
    """The record with a new or changed alias."""
    return msgspec.structs.replace(record, aliases={**record.aliases, name: alias})


def without(record: FunctionRecord, name: str) -> FunctionRecord:
    """The record without an alias and what belongs to it; its URL stays and admits nobody."""
    rest = {key: alias for key, alias in record.aliases.items() if key != name}
    return msgspec.structs.replace(rules.without_qualifier(record, name), aliases=rest)


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValueException", message)
