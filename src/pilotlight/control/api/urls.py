"""Function URLs: public HTTP addresses of functions.

Source: https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pilotlight.control.api.configuration import url_time
from pilotlight.control.api.functions import reference_of
from pilotlight.control.api.limits import invalid
from pilotlight.control.api.markers import decode_marker, encode_marker
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import Reference, rules
from pilotlight.control.registry.references import resource_not_found
from pilotlight.model.errors import ApiError
from pilotlight.model.function import LATEST, FunctionUrl
from pilotlight.model.ids import AccountId
from pilotlight.wire.records import UNQUALIFIED, FunctionRecord

_URL_ID_LENGTH = 32
_LIST_MAX = 50


def _no_function() -> ApiError:
    return ApiError("ResourceNotFoundException", "Function does not exist")


def _reference(call: Call) -> Reference:
    """The function or alias a URL belongs to.

    Raises:
        ApiError: InvalidParameterValueException, ``$LATEST`` in the function's name.
    """
    reference = reference_of(call)
    if reference.qualifier == LATEST:
        raise invalid("A function URL belongs to a function or an alias, not to $LATEST.")
    return reference


def _check_alias(record: FunctionRecord, reference: Reference) -> None:
    """Refuse a qualifier that is no alias of the function.

    Raises:
        ApiError: ResourceNotFoundException.
    """
    if reference.qualifier is not None and reference.qualifier not in record.aliases:
        raise _no_function()


def _key(reference: Reference) -> str:
    return reference.qualifier or UNQUALIFIED


def _render(services: Services, url: FunctionUrl, call: Call) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "FunctionUrl": services.url_of(url.url_id, url.region),
        "FunctionArn": call.scope.function_arn(url.function, url.qualifier),
        "AuthType": url.auth_type,
        "CreationTime": url.created,
        "LastModifiedTime": url.last_modified,
        "InvokeMode": url.invoke_mode,
    }
    if url.cors is not None:
        shown["Cors"] = dict(url.cors)
    return shown


async def create_function_url_config(services: Services, call: Call) -> dict[str, Any]:
    """CreateFunctionUrlConfig."""
    reference, params = _reference(call), call.params
    now = url_time(services.clock.wall())
    url = FunctionUrl(
        url_id=services.ids.token(_URL_ID_LENGTH),
        account=AccountId(call.scope.account),
        region=call.scope.region,
        function=reference.name,
        qualifier=reference.qualifier,
        auth_type=params["AuthType"],
        invoke_mode=params.get("InvokeMode", "BUFFERED"),
        cors=params.get("Cors"),
        created=now,
        last_modified=now,
    )

    def rule(record: FunctionRecord) -> FunctionRecord:
        _check_alias(record, reference)
        if _key(reference) in record.urls:
            raise ApiError(
                "ResourceConflictException",
                f"Failed to create function url config for [functionArn = {reference.arn}]. "
                "Error message:  FunctionUrlConfig exists for this Lambda function",
            )
        return rules.with_url(record, _key(reference), url)

    await services.functions.change(call.scope.account, reference.name, rule, absent=_no_function())
    shown = _render(services, url, call)
    del shown["LastModifiedTime"]
    if "InvokeMode" not in params:
        del shown["InvokeMode"]
    return shown


def _existing(record: FunctionRecord, reference: Reference) -> FunctionUrl:
    url = record.urls.get(_key(reference))
    if url is None:
        raise resource_not_found()
    return url


async def get_function_url_config(services: Services, call: Call) -> dict[str, Any]:
    """GetFunctionUrlConfig."""
    reference = _reference(call)
    record = await services.functions.get(call.scope.account, reference.name)
    if record is None:
        raise resource_not_found()
    return _render(services, _existing(record, reference), call)


def _changed(old: FunctionUrl, params: Mapping[str, Any], now: str) -> FunctionUrl:
    return replace(
        old,
        auth_type=params.get("AuthType", old.auth_type),
        invoke_mode=params.get("InvokeMode", old.invoke_mode),
        cors=params.get("Cors", old.cors) or None,
        last_modified=now,
    )


async def update_function_url_config(services: Services, call: Call) -> dict[str, Any]:
    """UpdateFunctionUrlConfig: members that are not given stay."""
    reference = _reference(call)
    now = url_time(services.clock.wall())

    def rule(record: FunctionRecord) -> FunctionRecord:
        _check_alias(record, reference)
        changed = _changed(_existing(record, reference), call.params, now)
        return rules.with_url(record, _key(reference), changed)

    written = await services.functions.change(
        call.scope.account, reference.name, rule, absent=_no_function()
    )
    assert written is not None  # noqa: S101  the rule never removes
    return _render(services, _existing(written, reference), call)


async def delete_function_url_config(services: Services, call: Call) -> dict[str, Any]:
    """DeleteFunctionUrlConfig."""
    reference = _reference(call)

    def rule(record: FunctionRecord) -> FunctionRecord:
        _existing(record, reference)
        return rules.with_url(record, _key(reference), None)

    await services.functions.change(
        call.scope.account, reference.name, rule, absent=resource_not_found()
    )
    return {}


async def list_function_url_configs(services: Services, call: Call) -> dict[str, Any]:
    """ListFunctionUrlConfigs: the URLs of a function and its aliases."""
    reference = reference_of(call)
    record = await services.functions.get(call.scope.account, reference.name)
    if record is None:
        raise _no_function()
    limit = min(call.params.get("MaxItems", _LIST_MAX), _LIST_MAX)
    after = decode_marker(call.params.get("Marker"))
    keys = sorted(key for key in record.urls if f"={key}" > after)
    shown = [_render(services, record.urls[key], call) for key in keys[:limit]]
    answer: dict[str, Any] = {"FunctionUrlConfigs": shown}
    if len(keys) > limit:
        answer["NextMarker"] = encode_marker(f"={keys[limit - 1]}")
    return answer
