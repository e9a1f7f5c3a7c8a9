"""Tags of functions, event source mappings and code signing configurations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from pilotlight.control.api.limits import invalid
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import Reference, parse_reference, rules, tags, versions
from pilotlight.control.registry.collection import Collection
from pilotlight.control.registry.functions import Versions, Written
from pilotlight.control.registry.references import function_not_found
from pilotlight.model.errors import ApiError
from pilotlight.wire.records import (
    CodeSigningRecord,
    EventSourceMappingRecord,
    FunctionRecord,
    replaced,
)

Change = Callable[[Mapping[str, str]], dict[str, str]]
"""From the old tags to the new ones."""
Tagged = TypeVar("Tagged", EventSourceMappingRecord, CodeSigningRecord)


@dataclass(frozen=True, slots=True)
class Taggable:
    """How tags of one kind of resources are read and changed."""

    read: Callable[[Services, Call], Awaitable[Mapping[str, str]]]
    change: Callable[[Services, Call, Change], Awaitable[None]]


def _function(call: Call) -> Reference:
    """The function that the ``Resource`` names.

    Raises:
        ApiError: InvalidParameterValueException for versions and aliases.
    """
    reference = parse_reference(call.params["Resource"], None, call.scope)
    if reference.qualifier is not None:
        raise invalid(
            "Tags on function aliases and versions are not supported. "
            "Please specify a function ARN."
        )
    return reference


async def _read_function(services: Services, call: Call) -> Mapping[str, str]:
    reference = _function(call)
    record = await services.functions.get(call.scope.account, reference.name)
    if record is None:
        raise function_not_found(reference.arn)
    return record.tags


async def _change_function(services: Services, call: Call, change: Change) -> None:
    reference = _function(call)
    revision_id, environment_revision = services.ids.uuid(), services.ids.uuid()

    def rule(record: FunctionRecord, known: Versions) -> Written:
        new = change(record.tags)
        isolation = tags.isolation_of(new)
        touched = rules.touched(record, revision_id=revision_id)
        tagged = msgspec.structs.replace(
            rules.with_isolation(touched, isolation, revision_id=environment_revision), tags=new
        )
        return Written(
            tagged,
            {
                number: versions.with_isolation(
                    version, isolation, revision_id=environment_revision
                )
                for number, version in known.items()
                if version.function.isolation != isolation
            },
        )

    absent = function_not_found(reference.arn)
    await services.functions.change_versions(
        call.scope.account, reference.name, versions.every, rule, absent=absent
    )


def _of_collection(collection: Callable[[Services], Collection[Tagged]]) -> Taggable:
    """Tags of records whose key is the last part of their ARN."""

    def key(call: Call) -> tuple[str, ApiError]:
        resource: str = call.params["Resource"]
        _, _, _, region, account, _, name = resource.split(":", 6)
        absent = ApiError("ResourceNotFoundException", f"The resource does not exist: {resource}")
        if account != call.scope.account:
            raise ApiError("AccessDeniedException", "", Message=None)
        if region != call.scope.region:
            raise absent
        return name, absent

    async def read(services: Services, call: Call) -> Mapping[str, str]:
        name, absent = key(call)
        record = await collection(services).get(call.scope.account, name)
        if record is None:
            raise absent
        return record.tags

    async def change(services: Services, call: Call, change: Change) -> None:
        name, absent = key(call)

        def rule(record: Tagged) -> Tagged:
            return replaced(record, tags=change(record.tags))

        if await collection(services).change(call.scope.account, name, rule) is None:
            raise absent

    return Taggable(read, change)


_KINDS: Mapping[str, Taggable] = MappingProxyType(
    {
        "function": Taggable(_read_function, _change_function),
        "event-source-mapping": _of_collection(lambda services: services.mappings),
        "code-signing-config": _of_collection(lambda services: services.signing),
    }
)


def _kind(call: Call) -> Taggable:
    """What the ``Resource`` is; the model has checked that it is an ARN of this service.

    Raises:
        ApiError: ResourceNotFoundException, nothing of its kind can have tags here.
    """
    resource = call.params["Resource"]
    kind = _KINDS.get(resource.split(":")[5])
    if kind is None:
        raise ApiError("ResourceNotFoundException", f"The resource does not exist: {resource}")
    return kind


async def tag_resource(services: Services, call: Call) -> dict[str, Any]:
    """TagResource."""
    given: Mapping[str, str] = call.params["Tags"]
    if not given:
        raise invalid("An error occurred and the request cannot be processed.")
    await _kind(call).change(services, call, lambda old: tags.merged(old, given))
    return {}


async def untag_resource(services: Services, call: Call) -> dict[str, Any]:
    """UntagResource; unknown keys are no error."""
    await _kind(call).change(services, call, lambda old: tags.without(old, call.params["TagKeys"]))
    return {}


async def list_tags(services: Services, call: Call) -> dict[str, Any]:
    """ListTags."""
    return {"Tags": dict(await _kind(call).read(services, call))}
