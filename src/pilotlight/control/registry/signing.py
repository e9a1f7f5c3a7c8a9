"""Code signing: which configuration a function has, and what it refuses."""

from __future__ import annotations

import re

from pilotlight.control.registry.collection import Collection
from pilotlight.control.registry.references import Scope
from pilotlight.model.errors import ApiError
from pilotlight.ports.registry import RegistryStore
from pilotlight.wire import records
from pilotlight.wire.records import CodeSigningRecord

_ARN = re.compile(
    r"arn:aws[a-zA-Z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12})"
    r":code-signing-config:(?P<id>csc-[a-z0-9]{17})"
)


def signing(store: RegistryStore) -> Collection[CodeSigningRecord]:
    """The code signing configurations of all accounts."""
    return Collection(store, records.CODE_SIGNING, CodeSigningRecord)


def signing_id(arn: str, scope: Scope) -> str | None:
    """Id of a configuration of the caller's account and region, None for any other text."""
    match = _ARN.fullmatch(arn)
    if match is None or (match["region"], match["account"]) != (scope.region, scope.account):
        return None
    return match["id"]


def configuration_not_found(arn: str) -> ApiError:
    """The service's answer where a function is to have a configuration that does not exist."""
    return ApiError(
        "CodeSigningConfigNotFoundException",
        "The code signing configuration cannot be found. Check that the provided code signing "
        f"configuration is not deleted: {arn}.",
    )


def check_unsigned(configuration: CodeSigningRecord | None) -> None:
    """Refuse an unsigned package where signatures are demanded.

    Raises:
        ApiError: CodeVerificationFailedException.
    """
    if configuration is not None and configuration.untrusted == "Enforce":
        raise ApiError(
            "CodeVerificationFailedException",
            "The package has no valid signature of an allowed publisher, and the code signing "
            f"configuration {configuration.id} says Enforce: nothing was deployed.",
        )
