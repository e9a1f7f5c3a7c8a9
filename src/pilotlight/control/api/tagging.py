"""Tags of functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pilotlight.control.api.limits import invalid
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import Reference, parse_reference, rules, tags, versions
from pilotlight.control.registry.functions import Versions, Written
from pilotlight.control.registry.references import function_not_found
from pilotlight.model.errors import ApiError
from pilotlight.wire.records import FunctionRecord


def _function(call: Call) -> Reference:
    """The function that the ``Resource`` names.

    Raises:
        ApiError: ResourceNotFoundException for other kinds of resources (there are none),
            InvalidParameterValueException for versions and aliases.
    """
    resource = call.params["Resource"]
    if ":function:" not in resource:
        raise ApiError("ResourceNotFoundException", f"The resource does not exist: {resource}")
    reference = parse_reference(resource, None, call.scope)
    if reference.qualifier is not None:
        raise invalid(
            "Tags on function aliases and versions are not supported. "
            "Please specify a function ARN."
        )
    return reference


async def _change(
    services: Services, call: Call, change: Callable[[Mapping[str, str]], dict[str, str]]
) -> None:
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


async def tag_resource(services: Services, call: Call) -> dict[str, Any]:
    """TagResource."""
    given: Mapping[str, str] = call.params["Tags"]
    if not given:
        raise invalid("An error occurred and the request cannot be processed.")
    await _change(services, call, lambda old: tags.merged(old, given))
    return {}


async def untag_resource(services: Services, call: Call) -> dict[str, Any]:
    """UntagResource; unknown keys are no error."""
    await _change(services, call, lambda old: tags.without(old, call.params["TagKeys"]))
    return {}


async def list_tags(services: Services, call: Call) -> dict[str, Any]:
    """ListTags."""
    reference = _function(call)
    record = await services.functions.get(call.scope.account, reference.name)
    if record is None:
        raise function_not_found(reference.arn)
    return {"Tags": dict(record.tags)}
