"""Resource policies of functions.

A policy that admits anybody to the function's URL is written into the URL's own record by the same
commit, because that record is all the data plane looks at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pilotlight.control.api.functions import reference_of
from pilotlight.control.api.limits import invalid
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import Reference, policies, rules
from pilotlight.control.registry.references import function_not_found, resource_not_found
from pilotlight.model.errors import ApiError
from pilotlight.model.function import LATEST
from pilotlight.wire.records import UNQUALIFIED, FunctionRecord, Policy


def _no_alias(reference: Reference) -> ApiError:
    return ApiError("ResourceNotFoundException", f"Cannot find alias arn: {reference.arn}")


def _check_qualifier(reference: Reference) -> None:
    """Refuse what a policy cannot belong to; there are no versions and aliases.

    Raises:
        ApiError: InvalidParameterValueException or ResourceNotFoundException.
    """
    qualifier = reference.qualifier
    if qualifier == LATEST:
        raise invalid("We currently do not support adding policies for $LATEST.")
    if qualifier is None:
        return
    if qualifier.isdecimal() or "$" in qualifier:
        raise function_not_found(reference.arn)
    raise _no_alias(reference)


def _compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def _document(policy: Policy) -> str:
    return _compact(
        {"Version": "2012-10-17", "Id": "default", "Statement": list(policy.statements)}
    )


async def add_permission(services: Services, call: Call) -> dict[str, Any]:
    """AddPermission."""
    reference = reference_of(call)
    if await services.functions.get(call.scope.account, reference.name) is None:
        raise function_not_found(reference.arn)
    _check_qualifier(reference)
    statement = policies.statement(call.params, reference.arn)
    revision_id = services.ids.uuid()

    def rule(record: FunctionRecord) -> FunctionRecord:
        old = record.policies.get(UNQUALIFIED)
        wanted = call.params.get("RevisionId")
        policies.check_policy_revision(old, record.current.revision_id, wanted)
        policy = policies.added(old, statement, revision_id=revision_id)
        _check_size(policy)
        return rules.with_policy(
            rules.touched(record, revision_id=revision_id), UNQUALIFIED, policy
        )

    absent = function_not_found(reference.arn)
    await services.functions.change(call.scope.account, reference.name, rule, absent=absent)
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
    absent = ApiError("ResourceNotFoundException", f"No policy found for: {reference.arn}")
    if await services.functions.get(call.scope.account, reference.name) is None:
        raise absent
    _check_qualifier(reference)
    revision_id = services.ids.uuid()

    def rule(record: FunctionRecord) -> FunctionRecord:
        old = record.policies.get(UNQUALIFIED)
        if old is None:
            raise ApiError(
                "ResourceNotFoundException", "No policy is associated with the given resource."
            )
        wanted = call.params.get("RevisionId")
        policies.check_policy_revision(old, record.current.revision_id, wanted)
        policy = policies.removed(old, call.params["StatementId"], revision_id=revision_id)
        return rules.with_policy(
            rules.touched(record, revision_id=revision_id), UNQUALIFIED, policy
        )

    await services.functions.change(call.scope.account, reference.name, rule, absent=absent)
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
