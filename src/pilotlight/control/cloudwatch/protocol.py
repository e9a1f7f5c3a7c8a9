"""The JSON protocol of CloudWatch Logs, as far as log clients and deployment tools need it.

``aws logs tail``, ``filter-log-events``, ``get-log-events``, ``describe-*``, groups with retention
and tags. Functions write their logs themselves, so nothing else can be put here.

Source: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from pilotlight.control.cloudwatch.events import Window, events
from pilotlight.control.cloudwatch.filters import predicate
from pilotlight.control.cloudwatch.groups import Group, LogGroups, name_of
from pilotlight.control.gateway.bodies import ByteBudget, read_body
from pilotlight.control.gateway.exchange import Exchange
from pilotlight.control.gateway.metered import MeteredAuthenticator
from pilotlight.control.gateway.note import current_note
from pilotlight.model.errors import ApiError, PlatformError
from pilotlight.ports.auth import Caller
from pilotlight.ports.telemetry import LogReader, StoredLine, StreamFacts
from pilotlight.wire.lambda_api import HttpAnswer

SERVICE: Final = "logs"
_TARGET = "Logs_20140328."
_TYPE = b"application/x-amz-json-1.1"
_BODY_BYTES = 64 * 1024
_EVENTS_MAX = 10_000
_ANSWER_BYTES = 1024 * 1024
_SCANNED_MAX = 50_000
"""Events looked at for one FilterLogEvents; the answer's token goes on from there."""
_ITEMS_MAX = 50
_STREAMS_ASKED_MAX = 100
_ID_DIGITS = 56
_TOKEN = re.compile(r"(?P<way>[fb])/(?P<id>\d{1,56})/s")

Params = Mapping[str, Any]


class LogsProtocol:
    """A responder for requests whose signature names the service ``logs``."""

    def __init__(
        self, groups: LogGroups, logs: LogReader, authenticator: MeteredAuthenticator,
        budget: ByteBudget,
    ) -> None:  # fmt: skip
        self._groups = groups
        self._logs = logs
        self._authenticator = authenticator
        self._budget = budget
        self._operations: Mapping[str, Callable[[Caller, Params], Awaitable[dict[str, Any]]]]
        self._operations = MappingProxyType(
            {
                "CreateLogGroup": self._create_group,
                "DeleteLogGroup": self._delete_group,
                "DeleteRetentionPolicy": self._delete_retention,
                "DescribeLogGroups": self._describe_groups,
                "DescribeLogStreams": self._describe_streams,
                "FilterLogEvents": self._filter_events,
                "GetLogEvents": self._get_events,
                "ListTagsForResource": self._list_tags,
                "ListTagsLogGroup": self._list_tags,
                "PutRetentionPolicy": self._put_retention,
                "TagLogGroup": self._tag,
                "TagResource": self._tag,
                "UntagLogGroup": self._untag,
                "UntagResource": self._untag,
            }
        )

    async def respond(self, exchange: Exchange) -> HttpAnswer:
        """Answer one request; errors have the form of this protocol."""
        try:
            return _answer(exchange, 200, await self._run(exchange))
        except PlatformError as error:
            document = {"__type": error.code, "message": str(error)}
            status = error.http_status
            if isinstance(error, ApiError) and error.code in _CLIENT_FAULTS:
                status = 400
            return _answer(exchange, status, document)

    async def _run(self, exchange: Exchange) -> dict[str, Any]:
        target = exchange.header("x-amz-target") or ""
        name = target.removeprefix(_TARGET)
        current_note().operation = name[:64]
        pending = self._authenticator.begin(exchange.signed, services=frozenset({SERVICE}))
        operation = self._operations.get(name)
        if exchange.method != "POST" or not target.startswith(_TARGET) or operation is None:
            raise ApiError(
                "UnknownOperationException",
                f"This server has no operation {name[:64]!r} of CloudWatch Logs; it has: "
                + ", ".join(self._operations),
            )
        with self._budget.share(pending.access_key) as share:
            body = await read_body(
                exchange.receive,
                declared=exchange.declared_length(),
                most=_BODY_BYTES,
                operation=name,
                share=share,
            )
            caller = pending.finish(body.sha256)
            params = _params(body.data)
        named = params.get("logGroupName") or params.get("logGroupIdentifier")
        current_note().resource = str(named or "")[:512]
        return await operation(caller, params)

    async def _group(self, caller: Caller, params: Params) -> Group:
        text = params.get("logGroupIdentifier") or params.get("logGroupName")
        if text is None:
            raise _invalid("One of logGroupName and logGroupIdentifier is required.")
        return await self._groups.get(caller.account, name_of(text, caller.account))

    async def _create_group(self, caller: Caller, params: Params) -> dict[str, Any]:
        name = name_of(params.get("logGroupName"), caller.account)
        await self._groups.create(caller.account, name, _strings(params.get("tags") or {}))
        return {}

    async def _delete_group(self, caller: Caller, params: Params) -> dict[str, Any]:
        name = name_of(params.get("logGroupName"), caller.account)
        await self._groups.delete(caller.account, name)
        return {}

    async def _put_retention(self, caller: Caller, params: Params) -> dict[str, Any]:
        name = name_of(params.get("logGroupName"), caller.account)
        days = _whole(params, "retentionInDays", 1, 100_000)
        if days is None:
            raise _invalid("retentionInDays is required.")
        await self._groups.retain(caller.account, name, days)
        return {}

    async def _delete_retention(self, caller: Caller, params: Params) -> dict[str, Any]:
        name = name_of(params.get("logGroupName"), caller.account)
        await self._groups.retain(caller.account, name, None)
        return {}

    def _tagged(self, caller: Caller, params: Params) -> str:
        return name_of(params.get("resourceArn") or params.get("logGroupName"), caller.account)

    async def _list_tags(self, caller: Caller, params: Params) -> dict[str, Any]:
        name = self._tagged(caller, params)
        return {"tags": await self._groups.tags(caller.account, name)}

    async def _tag(self, caller: Caller, params: Params) -> dict[str, Any]:
        added = _strings(params.get("tags") or {})
        await self._groups.tag(caller.account, self._tagged(caller, params), added, ())
        return {}

    async def _untag(self, caller: Caller, params: Params) -> dict[str, Any]:
        keys = params.get("tagKeys") or params.get("tags") or []
        removed = [str(key) for key in keys]
        await self._groups.tag(caller.account, self._tagged(caller, params), {}, removed)
        return {}

    async def _describe_groups(self, caller: Caller, params: Params) -> dict[str, Any]:
        prefix, part = params.get("logGroupNamePrefix"), params.get("logGroupNamePattern")
        if prefix and part:
            raise _invalid("logGroupNamePrefix and logGroupNamePattern exclude each other.")
        after, limit = str(params.get("nextToken") or ""), _limit(params, _ITEMS_MAX)
        found = [
            group
            for group in await self._groups.all(caller.account)
            if group.name > after
            and group.name.startswith(str(prefix or ""))
            and str(part or "").lower() in group.name.lower()
        ]
        answer: dict[str, Any] = {
            "logGroups": [_shown_group(group, caller) for group in found[:limit]]
        }
        if len(found) > limit:
            answer["nextToken"] = found[limit - 1].name
        return answer

    async def _streams(self, caller: Caller, group: Group) -> list[StreamFacts]:
        found = await self._logs.streams(caller.account, group.name)
        return [stream for stream in found if stream.last_s >= group.shown_from_s]

    async def _describe_streams(self, caller: Caller, params: Params) -> dict[str, Any]:
        group = await self._group(caller, params)
        by_time = params.get("orderBy", "LogStreamName") == "LastEventTime"
        prefix, limit = str(params.get("logStreamNamePrefix") or ""), _limit(params, _ITEMS_MAX)
        if by_time and prefix:
            raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
        found = sorted(
            (s for s in await self._streams(caller, group) if s.stream.startswith(prefix)),
            key=lambda s: (s.last_s, s.stream) if by_time else (0.0, s.stream),
            reverse=bool(params.get("descending", False)),
        )
        begin = _offset(params.get("nextToken"))
        shown = found[begin : begin + limit]
        answer: dict[str, Any] = {
            "logStreams": [_shown_stream(stream, group, caller) for stream in shown]
        }
        if begin + limit < len(found):
            answer["nextToken"] = str(begin + limit)
        return answer

    async def _filter_events(self, caller: Caller, params: Params) -> dict[str, Any]:
        group = await self._group(caller, params)
        limit, holds = _limit(params, _EVENTS_MAX), predicate(params.get("filterPattern"))
        window = _window(params)
        token = params.get("nextToken")
        if token is not None:
            window = Window(window.start_s, window.end_s, after_id=_offset(token))
        found: list[StoredLine] = []
        scanned = size = 0
        streams = _chosen(await self._streams(caller, group), params)
        async for line in events(self._logs, caller.account, group, streams, window):
            if scanned == _SCANNED_MAX or len(found) == limit or size > _ANSWER_BYTES:
                break
            scanned, window = scanned + 1, Window(window.start_s, window.end_s, line.id)
            if holds is None or holds(line.line.text):
                found.append(line)
                size += len(line.line.text)
        else:
            return {"events": [_shown_event(line) for line in found], "searchedLogStreams": []}
        return {
            "events": [_shown_event(line) for line in found],
            "searchedLogStreams": [],
            "nextToken": str(window.after_id),
        }

    async def _get_events(self, caller: Caller, params: Params) -> dict[str, Any]:
        group = await self._group(caller, params)
        wanted = params.get("logStreamName")
        streams = [s for s in await self._streams(caller, group) if s.stream == wanted]
        if not streams:
            raise ApiError("ResourceNotFoundException", "The specified log stream does not exist.")
        limit, token = _limit(params, _EVENTS_MAX), params.get("nextToken")
        window, is_backward = _window(params), not params.get("startFromHead", False)
        if token is not None:
            match = _TOKEN.fullmatch(str(token))
            if match is None:
                raise _invalid("The specified nextToken is invalid.")
            is_backward, at = match["way"] == "b", int(match["id"])
            window = Window(
                window.start_s,
                window.end_s,
                after_id=0 if is_backward else at,
                before_id=at if is_backward else None,
            )
        found: list[StoredLine] = []
        size = 0
        async for line in events(
            self._logs, caller.account, group, streams, window, newest_first=is_backward
        ):
            if len(found) == limit or size > _ANSWER_BYTES:
                break
            found.append(line)
            size += len(line.line.text)
        found.sort(key=lambda line: line.id)
        first = found[0].id if found else (window.before_id or window.after_id)
        last = found[-1].id if found else (window.after_id or window.before_id or 0)
        return {
            "events": [_shown_event(line, is_filtered=False) for line in found],
            "nextForwardToken": f"f/{last:0{_ID_DIGITS}d}/s",
            "nextBackwardToken": f"b/{first:0{_ID_DIGITS}d}/s",
        }


_CLIENT_FAULTS = frozenset(
    {
        "AccessDeniedException",
        "InvalidParameterException",
        "ResourceAlreadyExistsException",
        "ResourceNotFoundException",
        "UnknownOperationException",
    }
)
"""Codes that this protocol answers with 400, whatever their status is elsewhere."""


def _answer(exchange: Exchange, status: int, document: Mapping[str, object]) -> HttpAnswer:
    headers = [
        (b"x-amzn-RequestId", exchange.request_id.encode()),
        (b"Content-Type", _TYPE),
    ]
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return HttpAnswer(status, headers, body.encode("utf-8", "replace"))


def _params(body: bytes) -> Params:
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ApiError("SerializationException", "The body is not a JSON object.", status=400)
    return document


def _strings(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _invalid("tags must be an object.")
    return {str(name): str(item) for name, item in value.items()}


def _whole(params: Params, name: str, least: int, most: int) -> int | None:
    value = params.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _invalid(f"{name} must be a whole number from {least} to {most}.")
    return value


def _limit(params: Params, most: int) -> int:
    return _whole(params, "limit", 1, most) or most


def _offset(token: object) -> int:
    text = str(token or "0")
    if not text.isdecimal() or len(text) > _ID_DIGITS:
        raise _invalid("The specified nextToken is invalid.")
    return int(text)


def _window(params: Params) -> Window:
    """Times of a request are milliseconds; its end is inclusive for whole milliseconds."""
    start = _whole(params, "startTime", 0, 2**53)
    end = _whole(params, "endTime", 0, 2**53)
    return Window(
        None if start is None else start / 1000, None if end is None else (end + 1) / 1000
    )


def _chosen(streams: Sequence[StreamFacts], params: Params) -> list[StreamFacts]:
    names, prefix = params.get("logStreamNames"), params.get("logStreamNamePrefix")
    if names and prefix:
        raise _invalid("logStreamNames and logStreamNamePrefix exclude each other.")
    if names:
        if not isinstance(names, list) or len(names) > _STREAMS_ASKED_MAX:
            raise _invalid(f"logStreamNames is a list of at most {_STREAMS_ASKED_MAX} names.")
        wanted = set(map(str, names))
        return [stream for stream in streams if stream.stream in wanted]
    return [stream for stream in streams if stream.stream.startswith(str(prefix or ""))]


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _group_arn(group: Group, caller: Caller) -> str:
    return f"arn:aws:logs:{caller.region}:{caller.account}:log-group:{group.name}"


def _shown_group(group: Group, caller: Caller) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "logGroupName": group.name,
        "creationTime": _ms(group.created_s),
        "metricFilterCount": 0,
        "arn": f"{_group_arn(group, caller)}:*",
        "logGroupArn": _group_arn(group, caller),
        "logGroupClass": "STANDARD",
    }
    if group.retention_days is not None:
        shown["retentionInDays"] = group.retention_days
    return shown


def _shown_stream(stream: StreamFacts, group: Group, caller: Caller) -> dict[str, Any]:
    return {
        "logStreamName": stream.stream,
        "creationTime": _ms(stream.first_s),
        "firstEventTimestamp": _ms(stream.first_s),
        "lastEventTimestamp": _ms(stream.last_s),
        "lastIngestionTime": _ms(stream.last_s),
        "arn": f"{_group_arn(group, caller)}:log-stream:{stream.stream}",
        "storedBytes": 0,
    }


def _shown_event(stored: StoredLine, *, is_filtered: bool = True) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "timestamp": _ms(stored.line.wall_s),
        "message": stored.line.text + "\n",
        "ingestionTime": _ms(stored.line.wall_s),
    }
    if is_filtered:
        shown["logStreamName"] = stored.line.stream
        shown["eventId"] = f"{stored.id:0{_ID_DIGITS}d}"
    return shown


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)
