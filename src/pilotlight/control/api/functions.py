"""Creation, reading, listing and deletion of functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pilotlight.control.api import settings
from pilotlight.control.api.configuration import last_modified, render_listed, render_version
from pilotlight.control.api.limits import check_package, invalid
from pilotlight.control.api.markers import decode_marker, encode_marker
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import (
    Reference,
    aliases,
    layers,
    parse_reference,
    rules,
    signing,
    tags,
    versions,
)
from pilotlight.control.registry.functions import Written, already_exists
from pilotlight.control.registry.references import Scope, check_new_name, function_not_found
from pilotlight.model.errors import ApiError, PackageRejected, PlatformError
from pilotlight.model.function import LATEST, Code, FunctionVersion
from pilotlight.wire.records import FunctionRecord, replaced
from pilotlight.wire.variables import sealed

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


@dataclass(frozen=True, slots=True)
class Target:
    """What a reference means: a function, and the version of it that the API shows."""

    record: FunctionRecord
    version: FunctionVersion


async def target(services: Services, reference: Reference) -> Target:
    """The function and version behind a reference; behind an alias its first version.

    Raises:
        ApiError: ResourceNotFoundException, no such function, version or alias.
    """
    account, name = reference.scope.account, reference.name
    record = await services.functions.get(account, name)
    number = None if record is None else aliases.version_of(record, reference.qualifier)
    if record is None or number is None:
        raise function_not_found(reference.arn)
    if number == LATEST:
        return Target(record, record.current)
    published = await services.functions.version(account, name, number)
    if published is None:
        raise function_not_found(reference.arn)
    return Target(record, published.function)


async def latest(services: Services, reference: Reference) -> FunctionRecord:
    """The record behind a reference to ``$LATEST``.

    Raises:
        ApiError: ResourceNotFoundException, also for versions and aliases.
    """
    record = await services.functions.get(reference.scope.account, reference.name)
    if record is None or not reference.is_latest:
        raise function_not_found(reference.arn)
    return record


async def _signing(services: Services, arn: str | None, scope: Scope) -> str | None:
    """Id of the code signing configuration of a new function, which is unsigned.

    Raises:
        ApiError: CodeSigningConfigNotFoundException or CodeVerificationFailedException.
    """
    if not arn:
        return None
    identity = signing.signing_id(arn, scope)
    known = None if identity is None else await services.signing.get(scope.account, identity)
    if known is None:
        raise signing.configuration_not_found(arn)
    signing.check_unsigned(known)
    return identity


async def package_of(services: Services, scope: Scope, source: Mapping[str, Any]) -> bytes:
    """The package that a call brings along, or that it says where to find.

    Raises:
        ApiError: InvalidParameterValueException or RequestTooLargeException.
    """
    bucket, key = source.get("S3Bucket"), source.get("S3Key")
    if not bucket and not key:
        return check_package(source.get("ZipFile"), source)
    if not bucket or not key or source.get("ZipFile"):
        raise invalid("Please provide either S3Bucket with S3Key, or ZipFile, for function code.")
    version = source.get("S3ObjectVersion")
    try:
        return await services.staged.package(scope.account, bucket, key, version)
    except PlatformError as error:
        raise invalid(
            f"Error occurred while GetObject. S3 Error Code: {error.code}. "
            f"S3 Error Message: {error}"
        ) from error


async def accept_code(services: Services, package: bytes) -> Code:
    """Check and store a package; the caller holds the upload guard.

    Raises:
        ApiError: InvalidParameterValueException with the reason.
    """
    try:
        accepted = await services.intake.accept(package)
    except PackageRejected as rejected:
        raise invalid(_BAD_ZIP if rejected.reason == "corrupt" else str(rejected)) from rejected
    return replace(accepted.code, unzipped_bytes=accepted.unzipped_bytes)


async def create_function(services: Services, call: Call) -> dict[str, Any]:
    """CreateFunction."""
    params, scope = call.params, call.scope
    reference = unqualified(reference_of(call))
    check_new_name(reference.name)
    settings.check_creation(params)
    settings.check_configuration(params)
    new_tags = tags.merged({}, params.get("Tags") or {})
    signing_id = await _signing(services, params.get("CodeSigningConfigArn"), scope)
    package = await package_of(services, scope, params["Code"])
    if await services.functions.get(scope.account, reference.name) is not None:
        raise already_exists(reference.name)
    async with services.guard.naming():
        used = await services.layers.used(params.get("Layers") or (), scope)
        code = await accept_code(services, package)
        layers.check_size(code, used)
        await check_account_code(services, scope.account, code)
        wall_s = services.clock.wall()
        version = settings.new_version(
            params,
            account=scope.account,
            region=scope.region,
            name=reference.name,
            code=code,
            layers=used,
            isolation=tags.isolation_of(new_tags),
            revision_id=services.ids.uuid(),
            modified=last_modified(wall_s),
        )
        version = sealed(version, services.sealer)
        record = rules.created(version, new_tags, change_id=services.ids.uuid(), wall_s=wall_s)
        record = replaced(record, code_signing=signing_id)
        created = Written(record)
        if params.get("Publish"):
            created = versions.published(
                record,
                description=None,
                revision_id=services.ids.uuid(),
                latest_revision=record.current.revision_id,
            )
        await services.functions.create(scope.account, created.record, created.versions)
    services.transitions.announce(scope.account, reference.name)
    first = created.versions.get(versions.FIRST)
    return render_version(
        created.record.current if first is None else first.function, scope, services.sealer
    )


async def check_account_code(services: Services, account: str, code: Code) -> None:
    """Check the account's code storage before a package is added.

    Raises:
        ApiError: CodeStorageExceededException.
    """
    limit = (await services.config.get(account)).config.total_code_bytes
    stored = await services.usage.of(account)
    if stored.code_bytes + code.size_bytes > limit:
        raise ApiError(
            "CodeStorageExceededException", "Code storage limit exceeded for this account."
        )


async def get_function(services: Services, call: Call) -> dict[str, Any]:
    """GetFunction."""
    reference = reference_of(call)
    found = await target(services, reference)
    answer: dict[str, Any] = {
        "Configuration": render_version(
            found.version, call.scope, services.sealer, qualifier=reference.qualifier
        ),
        "Code": {
            "RepositoryType": "S3",
            "Location": call.code_link(found.version.code.package),
        },
    }
    if found.record.reserved is not None:
        answer["Concurrency"] = {"ReservedConcurrentExecutions": found.record.reserved}
    if found.record.tags:
        answer["Tags"] = dict(found.record.tags)
    return answer


async def get_function_configuration(services: Services, call: Call) -> dict[str, Any]:
    """GetFunctionConfiguration."""
    reference = reference_of(call)
    found = await target(services, reference)
    return render_version(found.version, call.scope, services.sealer, qualifier=reference.qualifier)


async def list_functions(services: Services, call: Call) -> dict[str, Any]:
    """ListFunctions; with ``FunctionVersion=ALL`` every version is an item of its own."""
    if call.params.get("FunctionVersion") == "ALL":
        return await _list_with_versions(services, call)
    limit = min(call.params.get("MaxItems", LIST_DEFAULT), LIST_DEFAULT)
    after = decode_marker(call.params.get("Marker"))
    found = await services.functions.page(call.scope.account, after=after, limit=limit + 1)
    shown = found[:limit]
    answer: dict[str, Any] = {
        "Functions": [
            render_listed(record.current, call.scope, services.sealer) for record in shown
        ]
    }
    if len(found) > limit:
        answer["NextMarker"] = encode_marker(shown[-1].current.name)
    return answer


async def _list_with_versions(services: Services, call: Call) -> dict[str, Any]:
    """Functions by name, each with ``$LATEST`` and then its versions in their order.

    A marker is a name and the number to go on after; the number is empty after ``$LATEST``.
    """
    account = call.scope.account
    limit = min(call.params.get("MaxItems", LIST_DEFAULT), LIST_DEFAULT)
    begun, _, number = decode_marker(call.params.get("Marker")).partition(":")
    items: list[tuple[FunctionRecord, str]] = []
    first = await services.functions.get(account, begun) if begun else None
    if first is not None:
        items.extend((first, later) for later in first.published if int(later) > int(number or 0))
    while len(items) <= limit:
        found = await services.functions.page(account, after=begun, limit=limit + 1)
        for record in found:
            items.append((record, ""))
            items.extend((record, published) for published in record.published)
        if len(found) <= limit:
            break
        begun = found[-1].current.name
    shown = items[:limit]
    answer: dict[str, Any] = {
        "Functions": [
            render_listed(version, call.scope, services.sealer, qualifier=version.version)
            for record, published in shown
            if (version := await _numbered(services, record, published)) is not None
        ]
    }
    if len(items) > limit:
        last, published = shown[-1]
        answer["NextMarker"] = encode_marker(f"{last.current.name}:{published}")
    return answer


async def _numbered(
    services: Services, record: FunctionRecord, number: str
) -> FunctionVersion | None:
    """One version; None when it was removed in between."""
    current = record.current
    if not number:
        return current
    published = await services.functions.version(current.account, current.name, number)
    return None if published is None else published.function


async def delete_function(services: Services, call: Call) -> dict[str, Any]:
    """DeleteFunction, with all that belongs to it; with a qualifier one published version."""
    reference = reference_of(call)
    if reference.qualifier == LATEST:
        raise invalid("$LATEST version cannot be deleted without deleting the function.")
    number = reference.qualifier
    if number is not None and not number.isdecimal():
        raise invalid("Deletion of aliases is not currently supported.")

    def rule(record: FunctionRecord) -> FunctionRecord | None:
        return None if number is None else versions.without(record, number)

    await services.functions.change(
        call.scope.account, reference.name, rule, absent=function_not_found(reference.arn)
    )
    return {"StatusCode": 204}
