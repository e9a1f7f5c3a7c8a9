"""How a function's runtime is updated, what stops its recursion, and how it scales.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-update.html and
https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
"""

from __future__ import annotations

from typing import Any

from pilotlight.control.api.functions import latest, reference_of, target, unqualified
from pilotlight.control.api.limits import invalid
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import Reference, aliases
from pilotlight.control.registry.references import function_not_found
from pilotlight.model.function import LATEST
from pilotlight.wire import records
from pilotlight.wire.records import FunctionRecord, RuntimeManagement

_DEFAULT = RuntimeManagement(update_on="Auto")


def _render(
    call: Call, reference: Reference, version: str, known: RuntimeManagement
) -> dict[str, Any]:
    shown = {
        "UpdateRuntimeOn": known.update_on,
        "FunctionArn": call.scope.function_arn(reference.name, version),
        "RuntimeVersionArn": known.version_arn,
    }
    return {name: value for name, value in shown.items() if value is not None}


async def put_runtime_management_config(services: Services, call: Call) -> dict[str, Any]:
    """PutRuntimeManagementConfig. It is stored: runtimes here are the host's, updated by its owner."""
    reference, params = reference_of(call), call.params
    mode, arn = params["UpdateRuntimeOn"], params.get("RuntimeVersionArn")
    if mode == "Manual" and not arn:
        raise invalid("RuntimeVersionArn is required when UpdateRuntimeOn is Manual.")
    if mode != "Manual" and arn:
        raise invalid("RuntimeVersionArn is allowed only when UpdateRuntimeOn is Manual.")
    wanted = RuntimeManagement(update_on=mode, version_arn=arn)
    version = (await target(services, reference)).version.version

    def rule(record: FunctionRecord) -> FunctionRecord:
        if aliases.version_of(record, version) is None:
            raise function_not_found(reference.arn)
        known = {**record.runtime_management, version: wanted}
        return records.replaced(record, runtime_management=known)

    absent = function_not_found(reference.arn)
    await services.functions.change(call.scope.account, reference.name, rule, absent=absent)
    return _render(call, reference, version, wanted)


async def get_runtime_management_config(services: Services, call: Call) -> dict[str, Any]:
    """GetRuntimeManagementConfig."""
    reference = reference_of(call)
    found = await target(services, reference)
    version = found.version.version
    known = found.record.runtime_management.get(version, _DEFAULT)
    return _render(call, reference, version, known)


async def put_function_recursion_config(services: Services, call: Call) -> dict[str, Any]:
    """PutFunctionRecursionConfig."""
    reference = unqualified(reference_of(call))
    wanted = call.params["RecursiveLoop"]
    await services.functions.change(
        call.scope.account,
        reference.name,
        lambda record: records.replaced(record, recursive_loop=wanted),
        absent=function_not_found(reference.arn),
    )
    return {"RecursiveLoop": wanted}


async def get_function_recursion_config(services: Services, call: Call) -> dict[str, Any]:
    """GetFunctionRecursionConfig: ``Terminate`` unless another was put."""
    record = await latest(services, unqualified(reference_of(call)))
    return {"RecursiveLoop": record.recursive_loop or "Terminate"}


def _published(call: Call) -> tuple[Reference, str]:
    reference = Reference(call.scope, reference_of(call).name, call.params["Qualifier"])
    return reference, call.params["Qualifier"]


async def put_function_scaling_config(services: Services, call: Call) -> dict[str, Any]:
    """PutFunctionScalingConfig. It is stored: it is about functions on capacity providers."""
    reference, qualifier = _published(call)
    wanted: dict[str, int] = call.params.get("FunctionScalingConfig") or {}
    least, most = wanted.get("MinExecutionEnvironments"), wanted.get("MaxExecutionEnvironments")
    if least is not None and most is not None and least > most:
        raise invalid("MinExecutionEnvironments must not be greater than MaxExecutionEnvironments.")

    def rule(record: FunctionRecord) -> FunctionRecord:
        _check(record, reference, qualifier)
        rest = {key: value for key, value in record.scaling.items() if key != qualifier}
        return records.replaced(record, scaling={**rest, qualifier: wanted} if wanted else rest)

    absent = function_not_found(reference.arn)
    written = await services.functions.change(
        call.scope.account, reference.name, rule, absent=absent
    )
    assert written is not None  # noqa: S101  the rule never removes
    return {"FunctionState": written.current.state.value}


def _check(record: FunctionRecord, reference: Reference, qualifier: str) -> None:
    if qualifier != f"{LATEST}.PUBLISHED" and aliases.version_of(record, qualifier) is None:
        raise function_not_found(reference.arn)


async def get_function_scaling_config(services: Services, call: Call) -> dict[str, Any]:
    """GetFunctionScalingConfig."""
    reference, qualifier = _published(call)
    record = await services.functions.get(call.scope.account, reference.name)
    if record is None:
        raise function_not_found(reference.arn)
    _check(record, reference, qualifier)
    shown: dict[str, Any] = {"FunctionArn": reference.arn}
    known = record.scaling.get(qualifier)
    if known is not None:
        shown["AppliedFunctionScalingConfig"] = dict(known)
        shown["RequestedFunctionScalingConfig"] = dict(known)
    return shown
