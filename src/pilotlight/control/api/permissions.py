"""Resource policies of functions, their versions and their aliases.

A policy that admits anybody to the function's URL is written into the URL's own record by the same
commit, because that record is all the data plane looks at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pilotlight.control.api.functions import reference_of
from pilotlight.control.api.limits import invalid
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import Reference, aliases, policies, rules, versions
from pilotlight.control.registry.functions import Versions, Written
from pilotlight.control.registry.references import function_not_found, resource_not_found
from pilotlight.model.errors import ApiError
from pilotlight.model.function import LATEST
from pilotlight.wire.records import UNQUALIFIED, FunctionRecord, Policy


def _check_qualifier(record: FunctionRecord, reference: Reference) -> None:
    """Refuse what a policy cannot belong to.

    Raises:
        ApiError: InvalidParameterValueException or ResourceNotFoundException.
    """
    qualifier = reference.qualifier
    if qualifier == LATEST:
        raise invalid("We currently do not support adding policies for $LATEST.")
    if qualifier is None or aliases.is_known(record, qualifier):
        return
    if qualifier.isdecimal() or "$" in qualifier:
        raise function_not_found(reference.arn)
    raise aliases.alias_not_found(reference)


def _revision(record: FunctionRecord, known: Versions, qualifier: str | None) -> str:
    """Revision of what a policy belongs to: the function, a version or an alias."""
    if qualifier is None:
        return record.current.revision_id
    if qualifier in record.aliases:
        return record.aliases[qualifier].revision_id
    return known[qualifier].function.revision_id


def _with_policy(
    record: FunctionRecord,
    known: Versions,
    qualifier: str | None,
    policy: Policy | None,
    revision_id: str,
) -> Written:
    """The policy in place, and a new revision for what it belongs to."""
    if qualifier is None:
        touched = rules.touched(record, revision_id=revision_id)
        return Written(rules.with_policy(touched, UNQUALIFIED, policy))
    new = rules.with_policy(record, qualifier, policy)
    if qualifier in record.aliases:
        alias = msgspec.structs.replace(record.aliases[qualifier], revision_id=revision_id)
        return Written(aliases.with_alias(new, qualifier, alias))
    version = versions.touched(known[qualifier], revision_id=revision_id)
    return Written(new, {qualifier: version})


async def _change(
    services: Services, call: Call, change: Callable[[Policy | None, str], Policy | None]
) -> None:
    """Change the policy of a function or qualifier; the caller's ``RevisionId`` is checked.

    ``change`` makes the new policy, None for none, from the old one and the new revision.
    """
    reference, revision_id = reference_of(call), services.ids.uuid()
    qualifier = reference.qualifier

    def rule(record: FunctionRecord, known: Versions) -> Written:
        _check_qualifier(record, reference)
        if qualifier is not None and qualifier in record.published and qualifier not in known:
            raise function_not_found(reference.arn)
        old = record.policies.get(qualifier or UNQUALIFIED)
        wanted = call.params.get("RevisionId")
        policies.check_policy_revision(old, _revision(record, known, qualifier), wanted)
        return _with_policy(record, known, qualifier, change(old, revision_id), revision_id)

    await services.functions.change_versions(
        call.scope.account,
        reference.name,
        lambda record: (qualifier,) if qualifier and qualifier in record.published else (),
        rule,
        absent=function_not_found(reference.arn),
    )


def _compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _document(policy: Policy) -> str:
    return _compact(
        {"Version": "2012-10-17", "Id": "default", "Statement": list(policy.statements)}
    )


async def add_permission(services: Services, call: Call) -> dict[str, Any]:
    """AddPermission."""
    reference = reference_of(call)
    record = await services.functions.get(call.scope.account, reference.name)
    if record is None:
        raise function_not_found(reference.arn)
    _check_qualifier(record, reference)
    statement = policies.statement(call.params, reference.arn)

    def change(old: Policy | None, revision_id: str) -> Policy:
        policy = policies.added(old, statement, revision_id=revision_id)
        _check_size(policy)
        return policy

    await _change(services, call, change)
    return {"Statement": _compact(statement)}


def _check_size(policy: Policy) -> None:
    size = len(_document(policy).encode())
    if size > policies.POLICY_BYTES:
        raise ApiError(
            "PolicyLengthExceededException",
            f"The final policy size ({size}) is bigger than the limit ({policies.POLICY_BYTES}).",
        )


async def remove_permission(services: Services, call: Call) -> dict[str, Any]:
    """RemovePermission."""
    reference = reference_of(call)
    if await services.functions.get(call.scope.account, reference.name) is None:
        raise ApiError("ResourceNotFoundException", f"No policy found for: {reference.arn}")

    def change(old: Policy | None, revision_id: str) -> Policy | None:
        if old is None:
            raise ApiError(
                "ResourceNotFoundException", "No policy is associated with the given resource."
            )
        return policies.removed(old, call.params["StatementId"], revision_id=revision_id)

    await _change(services, call, change)
    return {}


async def get_policy(services: Services, call: Call) -> dict[str, Any]:
    """GetPolicy."""
    reference = reference_of(call)
    record = await services.functions.get(call.scope.account, reference.name)
    known: Mapping[str, Policy] = record.policies if record is not None else {}
    policy = known.get(UNQUALIFIED if reference.qualifier is None else reference.qualifier)
    if policy is None:
        raise resource_not_found()
    return {"Policy": _document(policy), "RevisionId": policy.revision_id}
