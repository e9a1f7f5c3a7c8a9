"""Creation, reading, listing and deletion of functions."""

from __future__ import annotations

from typing import Any

from pilotlight.control.api import settings
from pilotlight.control.api.configuration import last_modified, render_listed, render_version
from pilotlight.control.api.limits import check_package, invalid
from pilotlight.control.api.markers import decode_marker, encode_marker
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import Reference, parse_reference, rules, tags
from pilotlight.control.registry.functions import already_exists
from pilotlight.control.registry.references import check_new_name, function_not_found
from pilotlight.model.errors import ApiError, PackageRejected
from pilotlight.model.function import LATEST, Code
from pilotlight.wire.records import FunctionRecord

LIST_DEFAULT = 50
"""Functions in a page; larger wishes are cut to it, as the service does."""

_ONLY_FUNCTIONS = (
    "This operation is permitted on Lambda functions only. Aliases and versions do not support "
    "this operation. Please specify either a function name or an unqualified function ARN."
)
_BAD_ZIP = "Could not unzip uploaded file. Please check your file, then try to upload again."


def reference_of(call: Call, member: str = "FunctionName") -> Reference:
    """The function a call names, with its qualifier."""
    return parse_reference(call.params[member], call.params.get("Qualifier"), call.scope)


def unqualified(reference: Reference) -> Reference:
    """Refuse a reference to a version or an alias.

    Raises:
        ApiError: InvalidParameterValueException.
    """
    if reference.qualifier is not None:
        raise invalid(_ONLY_FUNCTIONS)
    return reference


async def latest(services: Services, reference: Reference) -> FunctionRecord:
    """The record behind a reference to ``$LATEST``.

    Raises:
        ApiError: ResourceNotFoundException, also for versions and aliases: there are none.
    """
    record = await services.functions.get(reference.scope.account, reference.name)
    if record is None or not reference.is_latest:
        raise function_not_found(reference.arn)
    return record


def refuse_publish(call: Call) -> None:
    """Refuse to publish a version: it would be missing later without a word.

    Raises:
        ApiError: NotImplemented.
    """
    if call.params.get("Publish"):
        raise ApiError(
            "NotImplemented",
            f"{call.operation} with Publish is not implemented yet: call it without Publish and "
            "use $LATEST.",
            status=501,
        )


async def accept_code(services: Services, package: bytes) -> Code:
    """Check and store a package; the caller holds the upload guard.

    Raises:
        ApiError: InvalidParameterValueException with the reason.
    """
    try:
        accepted = await services.intake.accept(package)
    except PackageRejected as rejected:
        raise invalid(_BAD_ZIP if rejected.reason == "corrupt" else str(rejected)) from rejected
    return accepted.code


async def create_function(services: Services, call: Call) -> dict[str, Any]:
    """CreateFunction."""
    params, scope = call.params, call.scope
    reference = unqualified(reference_of(call))
    check_new_name(reference.name)
    settings.check_creation(params)
    settings.check_configuration(params)
    refuse_publish(call)
    new_tags = tags.merged({}, params.get("Tags") or {})
    package = check_package(params["Code"].get("ZipFile"), params["Code"])
    if await services.functions.get(scope.account, reference.name) is not None:
        raise already_exists(reference.name)
    async with services.guard.naming():
        code = await accept_code(services, package)
        await check_account_code(services, scope.account, code)
        wall_s = services.clock.wall()
        version = settings.new_version(
            params,
            account=scope.account,
            region=scope.region,
            name=reference.name,
            code=code,
            isolation=tags.isolation_of(new_tags),
            revision_id=services.ids.uuid(),
            modified=last_modified(wall_s),
        )
        record = rules.created(version, new_tags, change_id=services.ids.uuid(), wall_s=wall_s)
        await services.functions.create(scope.account, record)
    services.transitions.announce(scope.account, reference.name)
    return render_version(record.current, scope)


async def check_account_code(services: Services, account: str, code: Code) -> None:
    """Check the account's code storage before a package is added.

    Raises:
        ApiError: CodeStorageExceededException.
    """
    limit = (await services.config.get(account)).config.total_code_bytes
    stored = await services.functions.everything(account)
    if code_bytes(stored) + code.size_bytes > limit:
        raise ApiError(
            "CodeStorageExceededException", "Code storage limit exceeded for this account."
        )


def code_bytes(stored: tuple[FunctionRecord, ...]) -> int:
    """Code size of all functions, as the account's quota counts it."""
    return sum(record.current.code.size_bytes for record in stored)


async def get_function(services: Services, call: Call) -> dict[str, Any]:
    """GetFunction."""
    reference = reference_of(call)
    record = await latest(services, reference)
    answer: dict[str, Any] = {
        "Configuration": render_version(record.current, call.scope, qualifier=reference.qualifier),
        "Code": {
            "RepositoryType": "S3",
            "Location": call.code_link(record.current.code.package),
        },
    }
    if record.tags:
        answer["Tags"] = dict(record.tags)
    return answer


async def get_function_configuration(services: Services, call: Call) -> dict[str, Any]:
    """GetFunctionConfiguration."""
    reference = reference_of(call)
    record = await latest(services, reference)
    return render_version(record.current, call.scope, qualifier=reference.qualifier)


async def list_functions(services: Services, call: Call) -> dict[str, Any]:
    """ListFunctions; with ``FunctionVersion=ALL`` the ARNs are qualified."""
    limit = min(call.params.get("MaxItems", LIST_DEFAULT), LIST_DEFAULT)
    after = decode_marker(call.params.get("Marker"))
    found = await services.functions.page(call.scope.account, after=after, limit=limit + 1)
    qualifier = LATEST if call.params.get("FunctionVersion") == "ALL" else None
    shown = found[:limit]
    answer: dict[str, Any] = {
        "Functions": [
            render_listed(record.current, call.scope, qualifier=qualifier) for record in shown
        ]
    }
    if len(found) > limit:
        answer["NextMarker"] = encode_marker(shown[-1].current.name)
    return answer


async def delete_function(services: Services, call: Call) -> dict[str, Any]:
    """DeleteFunction, with its URLs, policies and tags."""
    reference = reference_of(call)
    if reference.qualifier == LATEST:
        raise invalid("$LATEST version cannot be deleted without deleting the function.")
    if reference.qualifier is not None:
        return await _delete_version(services, reference)
    await services.functions.change(
        call.scope.account,
        reference.name,
        lambda _: None,
        absent=function_not_found(reference.arn),
    )
    return {"StatusCode": 204}


async def _delete_version(services: Services, reference: Reference) -> dict[str, Any]:
    """Deleting a version that does not exist is no error; there are none."""
    record = await services.functions.get(reference.scope.account, reference.name)
    if record is None or not str(reference.qualifier).isdecimal():
        raise function_not_found(reference.arn)
    return {"StatusCode": 204}


async def get_function_concurrency(services: Services, call: Call) -> dict[str, Any]:
    """GetFunctionConcurrency: no function has reserved concurrency."""
    reference = unqualified(reference_of(call))
    await latest(services, reference)
    return {}


async def get_function_code_signing_config(services: Services, call: Call) -> dict[str, Any]:
    """GetFunctionCodeSigningConfig: no function has such a configuration."""
    reference = unqualified(reference_of(call))
    await latest(services, reference)
    return {}
