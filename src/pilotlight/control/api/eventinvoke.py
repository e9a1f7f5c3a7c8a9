"""How asynchronous invocations are treated: retries, maximum age, destinations.

Source: https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionEventInvokeConfig.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pilotlight.control.api.functions import reference_of
from pilotlight.control.api.markers import decode_marker, encode_marker
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import Reference, aliases, eventconfigs, rules
from pilotlight.model.errors import ApiError
from pilotlight.model.function import LATEST
from pilotlight.wire.records import EventInvokeConfig, FunctionRecord

_LIST_MAX = 50


def _key(reference: Reference) -> str:
    return reference.qualifier or LATEST


def _no_function() -> ApiError:
    return ApiError("ResourceNotFoundException", "The function doesn't exist.")


def _no_config(reference: Reference) -> ApiError:
    arn = reference.scope.function_arn(reference.name, _key(reference))
    return ApiError(
        "ResourceNotFoundException", f"The function {arn} doesn't have an EventInvokeConfig"
    )


def _render(call: Call, name: str, key: str, config: EventInvokeConfig) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "LastModified": config.last_modified_s,
        "FunctionArn": call.scope.function_arn(name, key),
        "DestinationConfig": {
            "OnSuccess": {"Destination": config.on_success} if config.on_success else {},
            "OnFailure": {"Destination": config.on_failure} if config.on_failure else {},
        },
    }
    if config.retries is not None:
        shown["MaximumRetryAttempts"] = config.retries
    if config.age_s is not None:
        shown["MaximumEventAgeInSeconds"] = config.age_s
    return shown


async def _check(services: Services, call: Call, reference: Reference) -> None:
    """Refuse what belongs to no function, or names a destination that cannot be.

    Raises:
        ApiError: InvalidParameterValueException or ResourceNotFoundException.
    """
    eventconfigs.check_given(call.params)
    record = await services.functions.get(call.scope.account, reference.name)
    if record is None or not aliases.is_known(record, _key(reference)):
        raise _no_function()
    if call.operation == "UpdateFunctionEventInvokeConfig":
        _existing(record, reference)
    for arn, name in eventconfigs.checked_functions(call.params, reference):
        if await services.functions.get(call.scope.account, name) is None:
            raise eventconfigs.unknown_destination(arn)


def _existing(record: FunctionRecord, reference: Reference) -> EventInvokeConfig:
    config = record.event_configs.get(_key(reference))
    if config is None:
        raise _no_config(reference)
    return config


async def put_function_event_invoke_config(services: Services, call: Call) -> dict[str, Any]:
    """PutFunctionEventInvokeConfig: what is not given is reset."""
    reference = reference_of(call)
    await _check(services, call, reference)
    config = eventconfigs.made(call.params, now_s=services.clock.wall())
    return await _change(services, call, reference, lambda _: config)


async def update_function_event_invoke_config(services: Services, call: Call) -> dict[str, Any]:
    """UpdateFunctionEventInvokeConfig: what is not given stays."""
    reference = reference_of(call)
    await _check(services, call, reference)
    now_s = services.clock.wall()

    def changed(record: FunctionRecord) -> EventInvokeConfig:
        return eventconfigs.changed(_existing(record, reference), call.params, now_s=now_s)

    return await _change(services, call, reference, changed)


async def _change(
    services: Services,
    call: Call,
    reference: Reference,
    make: Callable[[FunctionRecord], EventInvokeConfig],
) -> dict[str, Any]:
    key = _key(reference)

    def rule(record: FunctionRecord) -> FunctionRecord:
        if not aliases.is_known(record, key):
            raise _no_function()
        return rules.with_event_config(record, key, make(record))

    written = await services.functions.change(
        call.scope.account, reference.name, rule, absent=_no_function()
    )
    assert written is not None  # noqa: S101  the rule never removes
    return _render(call, reference.name, key, written.event_configs[key])


async def get_function_event_invoke_config(services: Services, call: Call) -> dict[str, Any]:
    """GetFunctionEventInvokeConfig."""
    reference = reference_of(call)
    record = await services.functions.get(call.scope.account, reference.name)
    if record is None:
        raise _no_config(reference)
    return _render(call, reference.name, _key(reference), _existing(record, reference))


async def delete_function_event_invoke_config(services: Services, call: Call) -> dict[str, Any]:
    """DeleteFunctionEventInvokeConfig."""
    reference = reference_of(call)

    def rule(record: FunctionRecord) -> FunctionRecord:
        _existing(record, reference)
        return rules.with_event_config(record, _key(reference), None)

    await services.functions.change(
        call.scope.account, reference.name, rule, absent=_no_config(reference)
    )
    return {}


async def list_function_event_invoke_configs(services: Services, call: Call) -> dict[str, Any]:
    """ListFunctionEventInvokeConfigs: of a function and its versions and aliases, by name."""
    reference, params = reference_of(call), call.params
    record = await services.functions.get(call.scope.account, reference.name)
    if record is None:
        raise _no_function()
    limit = min(params.get("MaxItems", _LIST_MAX), _LIST_MAX)
    after = decode_marker(params.get("Marker"))
    keys = [key for key in sorted(record.event_configs) if key > after]
    shown = keys[:limit]
    answer: dict[str, Any] = {
        "FunctionEventInvokeConfigs": [
            _render(call, reference.name, key, record.event_configs[key]) for key in shown
        ]
    }
    if len(keys) > limit:
        answer["NextMarker"] = encode_marker(shown[-1])
    return answer
