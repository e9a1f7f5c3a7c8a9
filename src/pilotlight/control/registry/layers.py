"""Layers: their references, their records in a store, and the rules for those that use them.

Source: https://docs.aws.amazon.com/lambda/latest/dg/chapter-layers.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pilotlight.control.registry.collection import Collection
from pilotlight.control.registry.references import Scope
from pilotlight.model.errors import ApiError, RevisionConflict
from pilotlight.model.function import Code, Layer
from pilotlight.model.limits import UNZIPPED_BYTES
from pilotlight.ports.registry import Put, RegistryStore
from pilotlight.wire import records
from pilotlight.wire.records import LayerRecord, LayerVersionRecord, Policy

PER_FUNCTION: Final = 5
"""Layers that one function may have."""
_ATTEMPTS: Final = 8
_REFERENCE = re.compile(
    r"(?:arn:aws[a-zA-Z-]*:lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):layer:)?"
    r"(?P<name>[a-zA-Z0-9-_]+)(?::(?P<number>[0-9]{1,12}))?"
)


@dataclass(frozen=True, slots=True)
class LayerReference:
    """A layer, or a version of it, in an account. ``number`` is None where none is named."""

    account: str
    region: str
    name: str
    number: int | None = None

    @property
    def layer_arn(self) -> str:
        """ARN of the layer."""
        return f"arn:aws:lambda:{self.region}:{self.account}:layer:{self.name}"

    @property
    def arn(self) -> str:
        """ARN of the version, of the layer where none is named."""
        return self.layer_arn if self.number is None else f"{self.layer_arn}:{self.number}"


def parse_layer(text: str, scope: Scope, number: int | None = None) -> LayerReference:
    """A layer by its name or ARN, with a version in the ARN or beside it.

    Raises:
        ApiError: InvalidParameterValueException.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise ApiError("InvalidParameterValueException", f"Invalid layer: {text[:200]}")
    if number is None and match["number"] is not None:
        number = int(match["number"])
    if number is not None and number < 1:
        raise ApiError("InvalidParameterValueException", "Layer Version Cannot be less than 1")
    return LayerReference(
        match["account"] or scope.account, match["region"] or scope.region, match["name"], number
    )


class Layers:
    """The layers of all accounts. Holds no state of its own."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store
        self._layers = Collection(store, records.LAYER, LayerRecord)
        self.versions = Collection(store, records.LAYER_VERSION, LayerVersionRecord)

    async def get(self, reference: LayerReference) -> LayerVersionRecord | None:
        """One version now."""
        key = records.layer_version_key(reference.name, reference.number or 0)
        return await self.versions.get(reference.account, key)

    async def publish(self, account: str, version: LayerVersionRecord) -> LayerVersionRecord:
        """Write a version with the next number of its layer, whatever number it has.

        Raises:
            ApiError: ResourceConflictException after too many lost races.
        """
        for _ in range(_ATTEMPTS):
            stored = await self._store.get(records.LAYER, account, version.name)
            layer = LayerRecord(name=version.name)
            if stored is not None:
                layer = records.decode(LayerRecord, stored.body)
            number = layer.next_version
            numbered = records.replaced(version, number=number)
            counted = records.replaced(layer, next_version=number + 1)
            key = records.layer_version_key(version.name, number)
            changes = (
                Put(
                    records.LAYER,
                    account,
                    version.name,
                    records.encode(counted),
                    if_revision=0 if stored is None else stored.revision,
                ),
                Put(records.LAYER_VERSION, account, key, records.encode(numbered), if_revision=0),
            )
            try:
                await self._store.commit(changes)
            except RevisionConflict:
                continue
            return numbered
        raise ApiError(
            "ResourceConflictException",
            f"The layer {version.name} is being published by too many callers: try again.",
        )

    async def delete(self, reference: LayerReference) -> None:
        """Remove a version; absent is no error. Functions that use it are not affected."""
        key = records.layer_version_key(reference.name, reference.number or 0)
        await self.versions.change(reference.account, key, lambda _: None)

    async def names(self, account: str, *, after: str, limit: int) -> tuple[str, ...]:
        """Names of layers, also of those that have no version any more."""
        found = await self._layers.page(account, after=after, limit=limit)
        return tuple(layer.name for layer in found)

    async def of_layer(self, account: str, name: str) -> tuple[LayerVersionRecord, ...]:
        """All versions of a layer, the newest first."""
        found = await self.versions.everything(account, prefix=f"{name}:")
        return tuple(reversed(found))

    async def used(self, arns: Sequence[str], scope: Scope) -> tuple[Layer, ...]:
        """The layers a function asks for, in their order.

        Raises:
            ApiError: InvalidParameterValueException or AccessDeniedException, with the service's
                text for the first rule that is broken.
        """
        if len(arns) > PER_FUNCTION:
            raise _invalid(f"Cannot reference more than {PER_FUNCTION} layers.")
        found: list[Layer] = []
        seen: dict[str, str] = {}
        for arn in arns:
            reference = parse_layer(arn, scope)
            if reference.region != scope.region:
                raise _invalid(
                    "Layers are not in the same region as the function. "
                    f"Layers are expected to be in region {scope.region}."
                )
            version = await self.get(reference) if reference.number else None
            if reference.account != scope.account and not admits(version, scope.account):
                raise ApiError(
                    "AccessDeniedException",
                    f"User: arn:aws:iam::{scope.account}:root is not authorized to perform: "
                    f"lambda:GetLayerVersion on resource: {arn} because no resource-based policy "
                    "allows the lambda:GetLayerVersion action",
                )
            if version is None:
                raise _invalid(f"Layer version {arn} does not exist.")
            former = seen.setdefault(reference.layer_arn, arn)
            if former is not arn:
                raise _invalid(
                    "Two different versions of the same layer are not allowed to be referenced in "
                    f"the same function. {arn} and {former}."
                )
            found.append(Layer(arn=reference.arn, code=version.code))
        return tuple(found)


def admits(version: LayerVersionRecord | None, account: str) -> bool:
    """Whether a version's policy lets another account use it.

    A condition on an organization admits nobody: there are none here.
    """
    if version is None or version.policy is None:
        return False
    return any(_admits(statement, account) for statement in version.policy.statements)


def _admits(statement: Mapping[str, object], account: str) -> bool:
    if statement.get("Condition"):
        return False
    principal = statement["Principal"]
    if isinstance(principal, Mapping):
        principal = principal.get("AWS")
    return principal in ("*", f"arn:aws:iam::{account}:root")


def check_size(code: Code, layers: Sequence[Layer]) -> None:
    """Check the size of a function with its layers, unpacked.

    Raises:
        ApiError: InvalidParameterValueException.
    """
    size = code.unzipped_bytes + sum(layer.code.unzipped_bytes for layer in layers)
    if layers and size > UNZIPPED_BYTES:
        raise _invalid(
            "Function code combined with layers exceeds the maximum allowed size of "
            f"{UNZIPPED_BYTES} bytes. The actual size is {size} bytes."
        )


def check_revision(policy: Policy | None, wanted: str | None) -> None:
    """Compare the caller's ``RevisionId``, where one was given.

    Raises:
        ApiError: PreconditionFailedException.
    """
    if wanted and (policy is None or wanted != policy.revision_id):
        raise ApiError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetLayerPolicy API to retrieve the latest Revision Id",
        )


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValueException", message)
