"""Updates of a function's code and configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pilotlight.control.api import settings
from pilotlight.control.api.configuration import last_modified, render_version
from pilotlight.control.api.functions import (
    accept_code,
    check_account_code,
    package_of,
    reference_of,
    unqualified,
)
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import Reference, layers, rules, signing, versions
from pilotlight.control.registry.functions import Versions, Written
from pilotlight.control.registry.references import function_not_found
from pilotlight.model.function import Code, FunctionVersion
from pilotlight.wire.records import FunctionRecord
from pilotlight.wire.variables import sealed

Change = Callable[[FunctionVersion, str, str], FunctionVersion]
"""From the old configuration, a new revision id and the time to the new configuration."""


def _check(record: FunctionRecord, reference: Reference, call: Call) -> None:
    rules.check_updatable(record, reference)
    rules.check_revision(record, call.params.get("RevisionId"))


async def _existing(services: Services, reference: Reference, call: Call) -> FunctionRecord:
    """Refuse early what the commit would refuse; nothing is stored for a refused call."""
    record = await services.functions.get(reference.scope.account, reference.name)
    if record is None:
        raise function_not_found(reference.arn)
    _check(record, reference, call)
    return record


async def _update(services: Services, call: Call, reference: Reference, change: Change) -> Written:
    """Start an update; with ``Publish`` also publish what it makes, unless that exists already."""
    wall_s = services.clock.wall()
    revision_id, change_id = services.ids.uuid(), services.ids.uuid()
    version_revision = services.ids.uuid()

    def rule(record: FunctionRecord, known: Versions) -> Written:
        _check(record, reference, call)
        version = change(record.current, revision_id, last_modified(wall_s))
        new = rules.updated(record, version, change_id=change_id, wall_s=wall_s)
        last = next(iter(known.values()), None)
        if not call.params.get("Publish"):
            return Written(new)
        if last is not None and versions.is_unchanged(new, last):
            return Written(new, {last.function.version: last})
        return versions.published(
            new, description=None, revision_id=version_revision, latest_revision=revision_id
        )

    absent = function_not_found(reference.arn)
    written = await services.functions.change_versions(
        reference.scope.account, reference.name, versions.newest, rule, absent=absent
    )
    assert written is not None  # noqa: S101  the rule always writes
    services.transitions.announce(reference.scope.account, reference.name)
    return written


async def update_function_configuration(services: Services, call: Call) -> dict[str, Any]:
    """UpdateFunctionConfiguration: members that are not given stay."""
    reference = unqualified(reference_of(call))
    settings.check_configuration(call.params)
    await _existing(services, reference, call)

    async with services.guard.naming():
        wanted = call.params.get("Layers")
        used = None if wanted is None else await services.layers.used(wanted, call.scope)

        def change(old: FunctionVersion, revision_id: str, modified: str) -> FunctionVersion:
            chosen = old.layers if used is None else used
            layers.check_size(old.code, chosen)
            changed = settings.changed_version(
                replace(old, layers=chosen), call.params, revision_id=revision_id, modified=modified
            )
            return sealed(changed, services.sealer, old)

        written = await _update(services, call, reference, change)
    return render_version(written.record.current, call.scope, services.sealer)


async def update_function_code(services: Services, call: Call) -> dict[str, Any]:
    """UpdateFunctionCode; with ``DryRun`` all is checked and nothing is changed."""
    reference = unqualified(reference_of(call))
    package = await package_of(services, call.scope, call.params)
    record = await _existing(services, reference, call)
    if record.code_signing is not None:
        signing.check_unsigned(await services.signing.get(call.scope.account, record.code_signing))
    async with services.guard.naming():
        code = await accept_code(services, package)
        await check_account_code(services, call.scope.account, code)
        if call.params.get("DryRun"):
            current = record.current
            shown = _with_code(current, call, code, current.revision_id, current.last_modified)
            return render_version(shown, call.scope, services.sealer)

        def change(old: FunctionVersion, revision_id: str, modified: str) -> FunctionVersion:
            layers.check_size(code, old.layers)
            return _with_code(old, call, code, revision_id, modified)

        written = await _update(services, call, reference, change)
    published = next(iter(written.versions.values()), None)
    if published is None:
        return render_version(written.record.current, call.scope, services.sealer)
    return render_version(
        published.function, call.scope, services.sealer, qualifier=published.function.version
    )


def _with_code(
    old: FunctionVersion, call: Call, code: Code, revision_id: str, modified: str
) -> FunctionVersion:
    return replace(
        old,
        code=code,
        architecture=(call.params.get("Architectures") or [old.architecture])[0],
        revision_id=revision_id,
        last_modified=modified,
    )
