"""Code signing configurations.

Packages carry no signatures that could be checked here, so every package counts as unsigned: with
``Warn`` it is deployed, with ``Enforce`` it is refused, as the service refuses unsigned code.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-codesigning.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pilotlight.control.api.configuration import last_modified
from pilotlight.control.api.functions import latest, reference_of, unqualified
from pilotlight.control.api.markers import decode_marker, encode_marker
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import tags
from pilotlight.control.registry.references import function_not_found
from pilotlight.control.registry.signing import configuration_not_found, signing_id
from pilotlight.model.errors import ApiError
from pilotlight.wire import records
from pilotlight.wire.records import CodeSigningRecord, FunctionRecord

_LIST_MAX = 50
_WARN = "Warn"


def _arn(call: Call, identity: str) -> str:
    return f"arn:aws:lambda:{call.scope.region}:{call.scope.account}:code-signing-config:{identity}"


def _render(call: Call, record: CodeSigningRecord) -> dict[str, Any]:
    return {
        "CodeSigningConfigId": record.id,
        "CodeSigningConfigArn": _arn(call, record.id),
        "Description": record.description,
        "AllowedPublishers": {"SigningProfileVersionArns": list(record.publishers)},
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": record.untrusted},
        "LastModified": record.modified,
    }


def _untrusted(params: Mapping[str, Any], otherwise: str) -> str:
    policies = params.get("CodeSigningPolicies") or {}
    return str(policies.get("UntrustedArtifactOnDeployment", otherwise))


async def create_code_signing_config(services: Services, call: Call) -> dict[str, Any]:
    """CreateCodeSigningConfig."""
    params = call.params
    digest = hashlib.sha256(services.ids.uuid().encode()).hexdigest()
    record = CodeSigningRecord(
        id=f"csc-{digest[:17]}",
        publishers=tuple(params["AllowedPublishers"]["SigningProfileVersionArns"]),
        untrusted=_untrusted(params, _WARN),
        modified=last_modified(services.clock.wall()),
        description=params.get("Description", ""),
        tags=tags.merged({}, params.get("Tags") or {}),
    )
    await services.signing.create(call.scope.account, record.id, record)
    return {"CodeSigningConfig": _render(call, record)}


def _named(call: Call) -> tuple[str, ApiError]:
    """Id of the configuration that a call is about, and what to say when there is none."""
    arn = call.params["CodeSigningConfigArn"]
    absent = ApiError(
        "ResourceNotFoundException",
        f"The Lambda code signing configuration {arn} can not be found.",
    )
    identity = signing_id(arn, call.scope)
    if identity is None:
        raise absent
    return identity, absent


async def get_code_signing_config(services: Services, call: Call) -> dict[str, Any]:
    """GetCodeSigningConfig."""
    identity, absent = _named(call)
    record = await services.signing.get(call.scope.account, identity)
    if record is None:
        raise absent
    return {"CodeSigningConfig": _render(call, record)}


async def update_code_signing_config(services: Services, call: Call) -> dict[str, Any]:
    """UpdateCodeSigningConfig: members that are not given stay."""
    (identity, absent), params = _named(call), call.params
    modified = last_modified(services.clock.wall())

    def rule(old: CodeSigningRecord) -> CodeSigningRecord:
        publishers = old.publishers
        if "AllowedPublishers" in params:
            publishers = tuple(params["AllowedPublishers"]["SigningProfileVersionArns"])
        return records.replaced(
            old,
            publishers=publishers,
            untrusted=_untrusted(params, old.untrusted),
            description=params.get("Description", old.description),
            modified=modified,
        )

    written = await services.signing.change(call.scope.account, identity, rule)
    if written is None:
        raise absent
    return {"CodeSigningConfig": _render(call, written)}


async def delete_code_signing_config(services: Services, call: Call) -> dict[str, Any]:
    """DeleteCodeSigningConfig; one that functions use stays."""
    identity, absent = _named(call)
    users = await _users(services, call, identity)
    if users:
        raise ApiError(
            "ResourceConflictException",
            f"The code signing configuration is used by {len(users)} functions, "
            f"{users[0]} among them: take it from them first.",
        )
    if await services.signing.change(call.scope.account, identity, lambda _: None) is None:
        raise absent
    return {}


async def list_code_signing_configs(services: Services, call: Call) -> dict[str, Any]:
    """ListCodeSigningConfigs by id."""
    limit = min(call.params.get("MaxItems", _LIST_MAX), _LIST_MAX)
    after = decode_marker(call.params.get("Marker"))
    found = await services.signing.page(call.scope.account, after=after, limit=limit + 1)
    answer: dict[str, Any] = {
        "CodeSigningConfigs": [_render(call, record) for record in found[:limit]]
    }
    if len(found) > limit:
        answer["NextMarker"] = encode_marker(found[limit - 1].id)
    return answer


async def _users(services: Services, call: Call, identity: str) -> list[str]:
    stored = await services.functions.everything(call.scope.account)
    return [record.current.name for record in stored if record.code_signing == identity]


async def list_functions_by_code_signing_config(services: Services, call: Call) -> dict[str, Any]:
    """ListFunctionsByCodeSigningConfig by name."""
    identity, absent = _named(call)
    if await services.signing.get(call.scope.account, identity) is None:
        raise absent
    limit = min(call.params.get("MaxItems", _LIST_MAX), _LIST_MAX)
    after = decode_marker(call.params.get("Marker"))
    names = [name for name in await _users(services, call, identity) if name > after]
    answer: dict[str, Any] = {
        "FunctionArns": [call.scope.function_arn(name) for name in names[:limit]]
    }
    if len(names) > limit:
        answer["NextMarker"] = encode_marker(names[limit - 1])
    return answer


async def put_function_code_signing_config(services: Services, call: Call) -> dict[str, Any]:
    """PutFunctionCodeSigningConfig: it is asked at the next deployment."""
    reference, arn = unqualified(reference_of(call)), call.params["CodeSigningConfigArn"]
    identity = signing_id(arn, call.scope)
    if identity is None or await services.signing.get(call.scope.account, identity) is None:
        raise configuration_not_found(arn)
    await services.functions.change(
        call.scope.account,
        reference.name,
        lambda record: records.replaced(record, code_signing=identity),
        absent=function_not_found(reference.arn),
    )
    return {"CodeSigningConfigArn": arn, "FunctionName": reference.name}


async def get_function_code_signing_config(services: Services, call: Call) -> dict[str, Any]:
    """GetFunctionCodeSigningConfig; empty where there is none."""
    reference = unqualified(reference_of(call))
    record = await latest(services, reference)
    if record.code_signing is None:
        return {}
    return {
        "CodeSigningConfigArn": _arn(call, record.code_signing),
        "FunctionName": reference.name,
    }


async def delete_function_code_signing_config(services: Services, call: Call) -> dict[str, Any]:
    """DeleteFunctionCodeSigningConfig; none is no error."""
    reference = unqualified(reference_of(call))

    def rule(record: FunctionRecord) -> FunctionRecord:
        return records.replaced(record, code_signing=None)

    absent = function_not_found(reference.arn)
    await services.functions.change(call.scope.account, reference.name, rule, absent=absent)
    return {}
