"""Event source mappings.

Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pilotlight.control.api.functions import reference_of
from pilotlight.control.api.limits import invalid
from pilotlight.control.api.markers import decode_marker, encode_marker
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import Reference, aliases, mappings, parse_reference, sources, tags
from pilotlight.control.registry.references import resource_not_found
from pilotlight.model.errors import ApiError
from pilotlight.wire.records import EventSourceMappingRecord, replaced

_LIST_MAX = 100


def mapping_arn(call: Call, uuid: str) -> str:
    """ARN of a mapping."""
    return f"arn:aws:lambda:{call.scope.region}:{call.scope.account}:event-source-mapping:{uuid}"


def _render(call: Call, record: EventSourceMappingRecord) -> dict[str, Any]:
    return {
        "UUID": record.uuid,
        "EventSourceMappingArn": mapping_arn(call, record.uuid),
        "FunctionArn": call.scope.function_arn(record.function, record.qualifier),
        "LastModified": record.modified_wall_s,
        "State": record.state,
        "StateTransitionReason": sources.KINDS[record.source].reason,
        **record.settings,
    }


def _json(value: object) -> object:
    """A parameter as a JSON value: times become seconds since the epoch."""
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, dict):
        return {name: _json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_json(item) for item in value]
    return value


async def _function(services: Services, call: Call) -> Reference:
    """The function or qualifier that a call names.

    Raises:
        ApiError: InvalidParameterValueException, there is none.
    """
    reference = reference_of(call)
    record = await services.functions.get(call.scope.account, reference.name)
    if record is None or aliases.version_of(record, reference.qualifier) is None:
        raise invalid("Function does not exist")
    return reference


async def create_event_source_mapping(services: Services, call: Call) -> dict[str, Any]:
    """CreateEventSourceMapping."""
    params = {name: _json(value) for name, value in call.params.items()}
    source = sources.kind_of(params)
    kind = sources.KINDS[source]
    sources.check_creation(kind, params)
    reference = await _function(services, call)
    new_tags = tags.merged({}, call.params.get("Tags") or {})
    is_enabled = call.params.get("Enabled", True)
    record = EventSourceMappingRecord(
        account=call.scope.account,
        region=call.scope.region,
        uuid=services.ids.uuid(),
        function=reference.name,
        qualifier=reference.qualifier,
        source=source,
        settings=sources.settings_of(kind, params),
        state="Creating" if is_enabled else mappings.DISABLED,
        goal=mappings.ENABLED if is_enabled else None,
        change=services.ids.uuid(),
        modified_wall_s=services.clock.wall(),
        tags=new_tags,
    )
    async with services.mapping_names:
        await _refuse_second(services, call, record)
        await services.mappings.create(call.scope.account, record.uuid, record)
    services.mapping_transitions.announce(record)
    return _render(call, record)


async def _refuse_second(services: Services, call: Call, record: EventSourceMappingRecord) -> None:
    """Refuse a second mapping of one source to one function.

    Raises:
        ApiError: ResourceConflictException.
    """
    arn = record.settings.get("EventSourceArn")
    for known in await services.mappings.everything(call.scope.account):
        is_same = (known.function, known.qualifier) == (record.function, record.qualifier)
        if arn is None or known.settings.get("EventSourceArn") != arn or not is_same:
            continue
        if known.settings.get("Topics") != record.settings.get("Topics"):
            continue
        if known.settings.get("Queues") != record.settings.get("Queues"):
            continue
        named = f'(" {arn} ") and function (" {record.function} ")'
        if record.source in ("sqs", "sqs-fifo"):
            text = f"An event source mapping with SQS arn {named} already exists."
        else:
            text = f"The event source arn {named} provided mapping already exists."
        raise ApiError(
            "ResourceConflictException",
            f"{text} Please update or delete the existing mapping with UUID {known.uuid}",
        )


async def get_event_source_mapping(services: Services, call: Call) -> dict[str, Any]:
    """GetEventSourceMapping."""
    record = await services.mappings.get(call.scope.account, call.params["UUID"])
    if record is None:
        raise resource_not_found()
    return _render(call, record)


async def update_event_source_mapping(services: Services, call: Call) -> dict[str, Any]:
    """UpdateEventSourceMapping: members that are not given stay."""
    params = {name: _json(value) for name, value in call.params.items()}
    reference = await _function(services, call) if "FunctionName" in params else None
    change, wall_s = services.ids.uuid(), services.clock.wall()

    def rule(record: EventSourceMappingRecord) -> EventSourceMappingRecord:
        mappings.check_steady(record, "update")
        kind = sources.KINDS[record.source]
        sources.check_change(kind, params, record.settings)
        wanted = call.params.get("Enabled")
        goal = record.state
        state = "Updating"
        if wanted is not None and (wanted is True) != (record.state == mappings.ENABLED):
            goal = mappings.ENABLED if wanted else mappings.DISABLED
            state = "Enabling" if wanted else "Disabling"
        changed = replaced(
            record,
            settings=sources.changed_settings(record.settings, params),
            function=record.function if reference is None else reference.name,
            qualifier=record.qualifier if reference is None else reference.qualifier,
        )
        return mappings.started(changed, state=state, goal=goal, change=change, wall_s=wall_s)

    written = await services.mappings.change(call.scope.account, call.params["UUID"], rule)
    if written is None:
        raise resource_not_found()
    services.mapping_transitions.announce(written)
    return _render(call, written)


async def delete_event_source_mapping(services: Services, call: Call) -> dict[str, Any]:
    """DeleteEventSourceMapping: shown as Deleting for a moment, then gone."""
    change, wall_s = services.ids.uuid(), services.clock.wall()

    def rule(record: EventSourceMappingRecord) -> EventSourceMappingRecord:
        if record.goal == mappings.REMOVED or record.state == "Updating":
            mappings.check_steady(record, "delete")
        return mappings.started(
            record, state="Deleting", goal=mappings.REMOVED, change=change, wall_s=wall_s
        )

    written = await services.mappings.change(call.scope.account, call.params["UUID"], rule)
    if written is None:
        raise resource_not_found()
    services.mapping_transitions.announce(written)
    return _render(call, written)


async def list_event_source_mappings(services: Services, call: Call) -> dict[str, Any]:
    """ListEventSourceMappings, of a function, of a source, or all."""
    params = call.params
    limit = min(params.get("MaxItems", _LIST_MAX), _LIST_MAX)
    after = decode_marker(params.get("Marker"))
    reference = None
    if "FunctionName" in params:
        reference = parse_reference(params["FunctionName"], None, call.scope)
    found = [
        record
        for record in await services.mappings.everything(call.scope.account)
        if record.uuid > after and _is_listed(record, params.get("EventSourceArn"), reference)
    ]
    answer: dict[str, Any] = {
        "EventSourceMappings": [_render(call, record) for record in found[:limit]]
    }
    if len(found) > limit:
        answer["NextMarker"] = encode_marker(found[limit - 1].uuid)
    return answer


def _is_listed(
    record: EventSourceMappingRecord, source: str | None, function: Reference | None
) -> bool:
    if source is not None and record.settings.get("EventSourceArn") != source:
        return False
    if function is None:
        return True
    return (record.function, record.qualifier) == (function.name, function.qualifier)
