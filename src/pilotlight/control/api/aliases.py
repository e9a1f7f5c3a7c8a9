"""Aliases of functions."""

from __future__ import annotations

from typing import Any

from pilotlight.control.api.functions import LIST_DEFAULT, latest, reference_of, unqualified
from pilotlight.control.api.markers import decode_marker, encode_marker
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import Reference, aliases
from pilotlight.control.registry.references import function_not_found
from pilotlight.model.errors import ApiError
from pilotlight.wire.records import Alias, FunctionRecord


def _render(call: Call, reference: Reference, name: str, alias: Alias) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "AliasArn": call.scope.function_arn(reference.name, name),
        "Name": name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RevisionId": alias.revision_id,
    }
    if alias.weights:
        shown["RoutingConfig"] = {"AdditionalVersionWeights": dict(alias.weights)}
    return shown


def _named(call: Call) -> tuple[Reference, Reference]:
    """The function that a call names, and the alias."""
    reference = unqualified(reference_of(call))
    return reference, Reference(reference.scope, reference.name, call.params["Name"])


async def create_alias(services: Services, call: Call) -> dict[str, Any]:
    """CreateAlias."""
    (reference, named), params = _named(call), call.params
    name, version = params["Name"], params["FunctionVersion"]
    revision_id = services.ids.uuid()

    def rule(record: FunctionRecord) -> FunctionRecord:
        aliases.check_version(record, reference, version)
        if name in record.aliases:
            raise ApiError("ResourceConflictException", f"Alias already exists: {named.arn}")
        weights = aliases.checked_weights(record, reference, version, params.get("RoutingConfig"))
        alias = Alias(
            version=version,
            revision_id=revision_id,
            description=params.get("Description", ""),
            weights=weights,
        )
        return aliases.with_alias(record, name, alias)

    written = await services.functions.change(
        call.scope.account, reference.name, rule, absent=function_not_found(reference.arn)
    )
    assert written is not None  # noqa: S101  the rule never removes
    return _render(call, reference, name, written.aliases[name])


async def update_alias(services: Services, call: Call) -> dict[str, Any]:
    """UpdateAlias: members that are not given stay; each update makes a new revision."""
    (reference, named), params = _named(call), call.params
    name, revision_id = params["Name"], services.ids.uuid()
    absent = ApiError("ResourceNotFoundException", f"Alias not found: {named.arn}")

    def rule(record: FunctionRecord) -> FunctionRecord:
        old = record.aliases.get(name)
        if old is None:
            raise absent
        aliases.check_revision(old, params.get("RevisionId"))
        version = params.get("FunctionVersion", old.version)
        aliases.check_version(record, reference, version)
        routing = params.get("RoutingConfig")
        if routing is None:
            routing = {"AdditionalVersionWeights": old.weights}
        alias = Alias(
            version=version,
            revision_id=revision_id,
            description=params.get("Description", old.description),
            weights=aliases.checked_weights(record, reference, version, routing),
        )
        return aliases.with_alias(record, name, alias)

    written = await services.functions.change(
        call.scope.account, reference.name, rule, absent=absent
    )
    assert written is not None  # noqa: S101  the rule never removes
    return _render(call, reference, name, written.aliases[name])


async def get_alias(services: Services, call: Call) -> dict[str, Any]:
    """GetAlias."""
    reference, named = _named(call)
    record = await services.functions.get(call.scope.account, reference.name)
    alias = None if record is None else record.aliases.get(call.params["Name"])
    if alias is None:
        raise aliases.alias_not_found(named)
    return _render(call, reference, call.params["Name"], alias)


async def list_aliases(services: Services, call: Call) -> dict[str, Any]:
    """ListAliases by name; with ``FunctionVersion`` those that mean this version."""
    reference, params = unqualified(reference_of(call)), call.params
    record = await latest(services, reference)
    limit = min(params.get("MaxItems", LIST_DEFAULT), LIST_DEFAULT)
    after, version = decode_marker(params.get("Marker")), params.get("FunctionVersion")
    names = [
        name
        for name in sorted(record.aliases)
        if name > after and (version is None or _means(record.aliases[name], version))
    ]
    shown = names[:limit]
    answer: dict[str, Any] = {
        "Aliases": [_render(call, reference, name, record.aliases[name]) for name in shown]
    }
    if len(names) > limit:
        answer["NextMarker"] = encode_marker(shown[-1])
    return answer


def _means(alias: Alias, version: str) -> bool:
    return version == alias.version or version in alias.weights


async def delete_alias(services: Services, call: Call) -> dict[str, Any]:
    """DeleteAlias; deleting one that does not exist is no error."""
    reference, _ = _named(call)
    await services.functions.change(
        call.scope.account,
        reference.name,
        lambda record: aliases.without(record, call.params["Name"]),
        absent=function_not_found(reference.arn),
    )
    return {}
