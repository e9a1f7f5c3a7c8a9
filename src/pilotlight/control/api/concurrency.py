"""Concurrency that is reserved for a function, and environments that are kept ready.

Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-concurrency.html
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pilotlight.control.api.functions import LIST_DEFAULT, latest, reference_of, unqualified
from pilotlight.control.api.limits import invalid
from pilotlight.control.api.markers import decode_marker, encode_marker
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import Reference, aliases
from pilotlight.control.registry.references import function_not_found
from pilotlight.control.registry.usage import provisioned_of, reserved_of
from pilotlight.model.errors import ApiError
from pilotlight.model.function import LATEST
from pilotlight.wire import records
from pilotlight.wire.records import FunctionRecord, Provisioned

_UNRESERVED_MIN = 100
"""Concurrency that the functions of an account always share."""


def unreserved_min(limit: int) -> int:
    """What must stay shared: the service's number, or a tenth of an account that has less."""
    return min(_UNRESERVED_MIN, limit // 10)


def _beyond(message: str) -> ApiError:
    """More than the account has; unlike its kin this answer has no ``Type``."""
    return ApiError("InvalidParameterValueException", message, Type=None)


async def put_function_concurrency(services: Services, call: Call) -> dict[str, Any]:
    """PutFunctionConcurrency."""
    reference = unqualified(reference_of(call))
    wanted: int = call.params["ReservedConcurrentExecutions"]
    limit = (await services.config.get(call.scope.account)).config.concurrent_executions
    least = unreserved_min(limit)
    async with services.usage.deciding():
        used = (await services.usage.of(call.scope.account)).reserved

        def rule(record: FunctionRecord) -> FunctionRecord:
            if limit - (used - reserved_of(record)) - wanted < least:
                raise _beyond(
                    "Specified ReservedConcurrentExecutions for function decreases account's "
                    f"UnreservedConcurrentExecution below its minimum value of [{least}]."
                )
            provisioned = provisioned_of(record)
            if wanted < provisioned:
                raise invalid(
                    f"ReservedConcurrentExecutions  {wanted} should not be lower than function's "
                    f"total provisioned concurrency [{provisioned}]."
                )
            return records.replaced(record, reserved=wanted)

        absent = function_not_found(reference.arn)
        await services.functions.change(call.scope.account, reference.name, rule, absent=absent)
    return {"ReservedConcurrentExecutions": wanted}


async def get_function_concurrency(services: Services, call: Call) -> dict[str, Any]:
    """GetFunctionConcurrency; empty where nothing is reserved."""
    record = await latest(services, unqualified(reference_of(call)))
    return {} if record.reserved is None else {"ReservedConcurrentExecutions": record.reserved}


async def delete_function_concurrency(services: Services, call: Call) -> dict[str, Any]:
    """DeleteFunctionConcurrency; nothing reserved is no error."""
    reference = unqualified(reference_of(call))
    await services.functions.change(
        call.scope.account,
        reference.name,
        lambda record: records.replaced(record, reserved=None),
        absent=function_not_found(reference.arn),
    )
    return {}


def _qualified(call: Call) -> tuple[Reference, str]:
    """A version or an alias.

    Raises:
        ApiError: InvalidParameterValueException.
    """
    reference = reference_of(call)
    if reference.qualifier is None or reference.qualifier == LATEST:
        raise invalid("The function resource provided must be an alias or a published version.")
    return reference, reference.qualifier


def _check_known(record: FunctionRecord, reference: Reference, qualifier: str) -> None:
    if aliases.is_known(record, qualifier):
        return
    if qualifier.isdecimal():
        raise function_not_found(reference.arn)
    raise aliases.alias_not_found(reference)


def _check_one_of_both(record: FunctionRecord, qualifier: str) -> None:
    """Refuse a version and an alias of it, each with environments of its own.

    Raises:
        ApiError: ResourceConflictException.
    """
    alias = record.aliases.get(qualifier)
    if alias is not None:
        if alias.version in record.provisioned:
            raise ApiError(
                "ResourceConflictException",
                "Alias can't be used for Provisioned Concurrency configuration on an already "
                "Provisioned version",
            )
        return
    if any(
        name in record.provisioned and qualifier == known.version
        for name, known in record.aliases.items()
    ):
        raise ApiError(
            "ResourceConflictException", "Version is pointed by a Provisioned Concurrency alias"
        )


def _check_room(record: FunctionRecord, qualifier: str, wanted: int, free: int, least: int) -> None:
    """Compare with what the function has reserved, or else with what the account shares.

    ``free`` is what the account shares without this function.
    """
    former = record.provisioned.get(qualifier)
    others = provisioned_of(record) - (former.requested if former else 0)
    total = others + wanted
    if record.reserved is not None:
        if total > record.reserved:
            raise invalid(
                "Requested Provisioned Concurrency should not be greater than the "
                "reservedConcurrentExecution for function"
            )
        return
    if total > free:
        raise _beyond(
            "Specified ConcurrentExecutions for function is greater than account's unreserved "
            f"concurrency [{free}]."
        )
    if free - total < least:
        raise _beyond(
            "Specified ConcurrentExecutions for function decreases account's "
            f"UnreservedConcurrentExecution below its minimum value of [{least}]."
        )


async def put_provisioned_concurrency_config(services: Services, call: Call) -> dict[str, Any]:
    """PutProvisionedConcurrencyConfig: environments are started beside the answer."""
    reference = reference_of(call)
    if reference.qualifier == LATEST:
        raise invalid(
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
        )
    reference, qualifier = _qualified(call)
    wanted: int = call.params["ProvisionedConcurrentExecutions"]
    limit = (await services.config.get(call.scope.account)).config.concurrent_executions
    provisioned = Provisioned(requested=wanted, modified_wall_s=services.clock.wall())
    async with services.usage.deciding():
        used = (await services.usage.of(call.scope.account)).reserved

        def rule(record: FunctionRecord) -> FunctionRecord:
            _check_known(record, reference, qualifier)
            _check_one_of_both(record, qualifier)
            free = limit - (used - reserved_of(record))
            _check_room(record, qualifier, wanted, free, unreserved_min(limit))
            known = {**record.provisioned, qualifier: provisioned}
            return records.replaced(record, provisioned=known)

        absent = function_not_found(reference.arn)
        await services.functions.change(call.scope.account, reference.name, rule, absent=absent)
    return {
        "RequestedProvisionedConcurrentExecutions": wanted,
        "AllocatedProvisionedConcurrentExecutions": 0,
        "AvailableProvisionedConcurrentExecutions": 0,
        "Status": "IN_PROGRESS",
        "LastModified": _time(provisioned),
    }


def _time(provisioned: Provisioned) -> str:
    moment = datetime.fromtimestamp(provisioned.modified_wall_s, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S+0000")


def _render(
    services: Services, record: FunctionRecord, qualifier: str, provisioned: Provisioned
) -> dict[str, Any]:
    alias = record.aliases.get(qualifier)
    version = qualifier if alias is None else alias.version
    kept = services.kept(record.current.account, record.current.name, version)
    allocated = min(kept.allocated, provisioned.requested)
    shown = {
        "RequestedProvisionedConcurrentExecutions": provisioned.requested,
        "AllocatedProvisionedConcurrentExecutions": allocated,
        "AvailableProvisionedConcurrentExecutions": min(kept.available, allocated),
        "Status": "READY" if allocated == provisioned.requested else "IN_PROGRESS",
        "LastModified": _time(provisioned),
    }
    if kept.failure is not None and allocated < provisioned.requested:
        shown |= {"Status": "FAILED", "StatusReason": kept.failure}
    return shown


async def get_provisioned_concurrency_config(services: Services, call: Call) -> dict[str, Any]:
    """GetProvisionedConcurrencyConfig: what is ready at this moment."""
    reference, qualifier = _qualified(call)
    record = await services.functions.get(call.scope.account, reference.name)
    if record is None:
        raise function_not_found(reference.arn)
    _check_known(record, reference, qualifier)
    provisioned = record.provisioned.get(qualifier)
    if provisioned is None:
        raise _none()
    return _render(services, record, qualifier, provisioned)


def _none() -> ApiError:
    return ApiError(
        "ProvisionedConcurrencyConfigNotFoundException",
        "No Provisioned Concurrency Config found for this function",
    )


async def list_provisioned_concurrency_configs(services: Services, call: Call) -> dict[str, Any]:
    """ListProvisionedConcurrencyConfigs by qualifier."""
    reference = unqualified(reference_of(call))
    record = await latest(services, reference)
    limit = min(call.params.get("MaxItems", LIST_DEFAULT), LIST_DEFAULT)
    after = decode_marker(call.params.get("Marker"))
    names = sorted(name for name in record.provisioned if name > after)
    answer: dict[str, Any] = {
        "ProvisionedConcurrencyConfigs": [
            {
                "FunctionArn": call.scope.function_arn(reference.name, name),
                **_render(services, record, name, record.provisioned[name]),
            }
            for name in names[:limit]
        ]
    }
    if len(names) > limit:
        answer["NextMarker"] = encode_marker(names[limit - 1])
    return answer


async def delete_provisioned_concurrency_config(services: Services, call: Call) -> dict[str, Any]:
    """DeleteProvisionedConcurrencyConfig; none is no error."""
    reference, qualifier = _qualified(call)

    def rule(record: FunctionRecord) -> FunctionRecord:
        _check_known(record, reference, qualifier)
        rest = {name: known for name, known in record.provisioned.items() if name != qualifier}
        return records.replaced(record, provisioned=rest)

    absent = function_not_found(reference.arn)
    await services.functions.change(call.scope.account, reference.name, rule, absent=absent)
    return {}
