"""Layers, their versions and who may use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pilotlight.control.api.configuration import last_modified
from pilotlight.control.api.functions import (
    LIST_DEFAULT,
    accept_code,
    check_account_code,
    package_of,
)
from pilotlight.control.api.markers import decode_marker, encode_marker
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import layers, policies
from pilotlight.control.registry.layers import LayerReference, parse_layer
from pilotlight.control.registry.references import resource_not_found
from pilotlight.model.errors import ApiError
from pilotlight.wire import records
from pilotlight.wire.records import LayerVersionRecord, Policy


def _reference(call: Call, version: LayerVersionRecord) -> LayerReference:
    return LayerReference(version.account, call.scope.region, version.name, version.number)


def _render_listed(call: Call, version: LayerVersionRecord) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "LayerVersionArn": _reference(call, version).arn,
        "Version": version.number,
        "Description": version.description,
        "CreatedDate": version.created,
        "CompatibleRuntimes": None if version.runtimes is None else list(version.runtimes),
        "LicenseInfo": version.license,
        "CompatibleArchitectures": (
            None if version.architectures is None else list(version.architectures)
        ),
    }
    return {name: value for name, value in shown.items() if value is not None}


def _render(call: Call, version: LayerVersionRecord) -> dict[str, Any]:
    return {
        **_render_listed(call, version),
        "LayerArn": _reference(call, version).layer_arn,
        "Content": {
            "Location": call.code_link(version.code.package),
            "CodeSha256": version.code.sha256,
            "CodeSize": version.code.size_bytes,
        },
    }


async def publish_layer_version(services: Services, call: Call) -> dict[str, Any]:
    """PublishLayerVersion: every call makes a version, also of equal content."""
    params, account = call.params, call.scope.account
    name = parse_layer(params["LayerName"], call.scope).name
    content = params["Content"]
    package = await package_of(services, call.scope, content)
    async with services.guard.naming():
        code = await accept_code(services, package)
        await check_account_code(services, account, code)
        wanted = LayerVersionRecord(
            account=account,
            name=name,
            number=0,
            code=code,
            created=last_modified(services.clock.wall()),
            description=params.get("Description", ""),
            license=params.get("LicenseInfo"),
            runtimes=_names(call, "CompatibleRuntimes"),
            architectures=_names(call, "CompatibleArchitectures"),
        )
        version = await services.layers.publish(account, wanted)
    return _render(call, version)


def _names(call: Call, member: str) -> tuple[str, ...] | None:
    return tuple(call.params[member]) if member in call.params else None


async def _version(services: Services, call: Call, reference: LayerReference) -> LayerVersionRecord:
    """The version a call asks for, where the caller may see it.

    Raises:
        ApiError: ResourceNotFoundException; AccessDeniedException for that of another account.
    """
    version = await services.layers.get(reference)
    if reference.account != call.scope.account and not layers.admits(version, call.scope.account):
        raise ApiError(
            "AccessDeniedException",
            f"User: arn:aws:iam::{call.scope.account}:root is not authorized to perform: "
            f"lambda:GetLayerVersion on resource: {reference.arn} because no resource-based policy "
            "allows the lambda:GetLayerVersion action",
        )
    if version is None:
        raise resource_not_found()
    return version


async def get_layer_version(services: Services, call: Call) -> dict[str, Any]:
    """GetLayerVersion."""
    params = call.params
    reference = parse_layer(params["LayerName"], call.scope, params["VersionNumber"])
    return _render(call, await _version(services, call, reference))


async def get_layer_version_by_arn(services: Services, call: Call) -> dict[str, Any]:
    """GetLayerVersionByArn."""
    reference = parse_layer(call.params["Arn"], call.scope)
    return _render(call, await _version(services, call, reference))


async def delete_layer_version(services: Services, call: Call) -> dict[str, Any]:
    """DeleteLayerVersion; one that does not exist is no error."""
    await services.layers.delete(_own(call))
    return {}


def _own(call: Call) -> LayerReference:
    """A version of the caller's own account.

    Raises:
        ApiError: AccessDeniedException, it is of another account.
    """
    params = call.params
    reference = parse_layer(params["LayerName"], call.scope, params["VersionNumber"])
    if reference.account != call.scope.account:
        raise ApiError("AccessDeniedException", "", Message=None)
    return reference


def _matches(version: LayerVersionRecord, call: Call) -> bool:
    runtime, machine = (
        call.params.get("CompatibleRuntime"),
        call.params.get("CompatibleArchitecture"),
    )
    return (runtime is None or runtime in (version.runtimes or ())) and (
        machine is None or machine in (version.architectures or ())
    )


async def list_layer_versions(services: Services, call: Call) -> dict[str, Any]:
    """ListLayerVersions, the newest first."""
    reference = parse_layer(call.params["LayerName"], call.scope)
    limit = min(call.params.get("MaxItems", LIST_DEFAULT), LIST_DEFAULT)
    after = decode_marker(call.params.get("Marker"))
    found = [
        version
        for version in await services.layers.of_layer(call.scope.account, reference.name)
        if _matches(version, call) and (not after or f"{version.number:012d}" < after)
    ]
    answer: dict[str, Any] = {
        "LayerVersions": [_render_listed(call, version) for version in found[:limit]]
    }
    if len(found) > limit:
        answer["NextMarker"] = encode_marker(f"{found[limit - 1].number:012d}")
    return answer


async def list_layers(services: Services, call: Call) -> dict[str, Any]:
    """ListLayers by name, each with its newest version that matches."""
    limit = min(call.params.get("MaxItems", LIST_DEFAULT), LIST_DEFAULT)
    after = decode_marker(call.params.get("Marker"))
    shown: list[dict[str, Any]] = []
    while names := await services.layers.names(call.scope.account, after=after, limit=limit):
        for name in names:
            if len(shown) == limit:
                return {"Layers": shown, "NextMarker": encode_marker(after)}
            after = name
            versions = await services.layers.of_layer(call.scope.account, name)
            newest = next((known for known in versions if _matches(known, call)), None)
            if newest is not None:
                shown.append(
                    {
                        "LayerName": name,
                        "LayerArn": _reference(call, newest).layer_arn,
                        "LatestMatchingVersion": _render_listed(call, newest),
                    }
                )
    return {"Layers": shown}


def _compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _absent(reference: LayerReference) -> ApiError:
    return ApiError("ResourceNotFoundException", f"Layer version {reference.arn} does not exist.")


async def _change_policy(
    services: Services, call: Call, change: Callable[[Policy | None], Policy | None]
) -> LayerVersionRecord:
    reference = _own(call)

    def rule(version: LayerVersionRecord) -> LayerVersionRecord:
        policy = change(version.policy)
        return records.replaced(version, policy=policy)

    key = records.layer_version_key(reference.name, reference.number or 0)
    written = await services.layers.versions.change(reference.account, key, rule)
    if written is None:
        raise _absent(reference)
    return written


async def add_layer_version_permission(services: Services, call: Call) -> dict[str, Any]:
    """AddLayerVersionPermission."""
    given = {
        "StatementId": call.params["StatementId"],
        "Principal": call.params["Principal"],
        "Action": call.params["Action"],
        "PrincipalOrgID": call.params.get("OrganizationId"),
    }
    statement = policies.statement(given, _own(call).arn)
    revision_id = services.ids.uuid()

    def change(old: Policy | None) -> Policy:
        layers.check_revision(old, call.params.get("RevisionId"))
        return policies.added(old, statement, revision_id=revision_id)

    await _change_policy(services, call, change)
    return {"Statement": _compact(statement), "RevisionId": revision_id}


async def remove_layer_version_permission(services: Services, call: Call) -> dict[str, Any]:
    """RemoveLayerVersionPermission."""
    revision_id = services.ids.uuid()

    def change(old: Policy | None) -> Policy | None:
        layers.check_revision(old, call.params.get("RevisionId"))
        if old is None:
            raise _no_policy()
        return policies.removed(old, call.params["StatementId"], revision_id=revision_id)

    await _change_policy(services, call, change)
    return {}


def _no_policy() -> ApiError:
    return ApiError("ResourceNotFoundException", "No policy is associated with the given resource.")


async def get_layer_version_policy(services: Services, call: Call) -> dict[str, Any]:
    """GetLayerVersionPolicy."""
    reference = _own(call)
    version = await services.layers.get(reference)
    if version is None:
        raise _absent(reference)
    if version.policy is None:
        raise _no_policy()
    document = {
        "Version": "2012-10-17",
        "Id": "default",
        "Statement": list(version.policy.statements),
    }
    return {"Policy": _compact(document), "RevisionId": version.policy.revision_id}
