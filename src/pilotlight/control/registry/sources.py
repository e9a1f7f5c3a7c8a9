"""Kinds of event sources: what a mapping of each may say and what it is when nothing is said.

One table. Sources: CreateEventSourceMapping in the API reference and
https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventsourcemapping.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from pilotlight.model.errors import ApiError
from pilotlight.model.patterns import is_pattern

USER: Final = "USER_INITIATED"
USER_OF_STREAM: Final = "User action"
UNPROCESSED: Final = "No records processed"

_ARN = re.compile(r"arn:[^:]*:(?P<service>[^:]*):[^:]*:[^:]*:(?P<resource>.+)")
_COMMON = frozenset(
    {
        "EventSourceArn", "FunctionName", "Enabled", "BatchSize", "FilterCriteria", "KMSKeyArn",
        "MetricsConfig", "MaximumBatchingWindowInSeconds", "Tags", "UUID",
    }
)  # fmt: skip
_STREAM = frozenset(
    {
        "ParallelizationFactor", "StartingPosition", "DestinationConfig",
        "MaximumRecordAgeInSeconds", "BisectBatchOnFunctionError", "MaximumRetryAttempts",
        "TumblingWindowInSeconds", "FunctionResponseTypes",
    }
)  # fmt: skip
_KAFKA = frozenset(
    {
        "Topics", "StartingPosition", "StartingPositionTimestamp", "DestinationConfig",
        "SourceAccessConfigurations", "ProvisionedPollerConfig", "LoggingConfig",
        "BisectBatchOnFunctionError", "MaximumRecordAgeInSeconds", "MaximumRetryAttempts",
        "FunctionResponseTypes",
    }
)  # fmt: skip
_STREAM_DEFAULTS: Mapping[str, object] = MappingProxyType(
    {
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1,
        "DestinationConfig": {"OnFailure": {}},
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "MaximumRetryAttempts": -1,
        "TumblingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
        "LastProcessingResult": UNPROCESSED,
    }
)


@dataclass(frozen=True, slots=True)
class SourceKind:
    """One kind of event sources.

    Attributes:
        batch: records in a batch when nothing is said.
        batch_max: most records in a batch.
        batch_without_window: most records where no batching window is given.
        allows: members of a request that have a meaning.
        requires: members that a creation must have.
        positions: values of ``StartingPosition``.
        defaults: what is shown where nothing was said.
        reason: ``StateTransitionReason``.
        window_max_s: longest batching window.
    """

    name: str
    batch: int = 100
    batch_max: int = 10_000
    batch_without_window: int = 10_000
    allows: frozenset[str] = _COMMON
    requires: tuple[str, ...] = ()
    positions: frozenset[str] = frozenset()
    defaults: Mapping[str, object] = field(default_factory=dict)
    reason: str = USER


SQS = SourceKind(
    "SQS",
    batch=10,
    batch_without_window=10,
    allows=_COMMON | {"ScalingConfig", "FunctionResponseTypes", "ProvisionedPollerConfig"},
    defaults={"MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": []},
)
SQS_FIFO = SourceKind(
    "SQS",
    batch=10,
    batch_max=10,
    batch_without_window=10,
    allows=SQS.allows - {"MaximumBatchingWindowInSeconds"},
    defaults=SQS.defaults,
)
KINESIS = SourceKind(
    "Kinesis",
    allows=_COMMON | _STREAM | {"StartingPositionTimestamp"},
    requires=("StartingPosition",),
    positions=frozenset({"LATEST", "TRIM_HORIZON", "AT_TIMESTAMP"}),
    defaults=_STREAM_DEFAULTS,
    reason=USER_OF_STREAM,
)
DYNAMODB = SourceKind(
    "DynamoDB",
    allows=_COMMON | _STREAM,
    requires=("StartingPosition",),
    positions=frozenset({"LATEST", "TRIM_HORIZON"}),
    defaults=_STREAM_DEFAULTS,
    reason=USER_OF_STREAM,
)
MSK = SourceKind(
    "MSK",
    allows=_COMMON | _KAFKA | {"AmazonManagedKafkaEventSourceConfig"},
    requires=("Topics", "StartingPosition"),
    positions=KINESIS.positions,
    defaults={"LastProcessingResult": UNPROCESSED},
)
KAFKA = SourceKind(
    "Kafka",
    allows=(_COMMON - {"EventSourceArn"})
    | _KAFKA
    | {"SelfManagedEventSource", "SelfManagedKafkaEventSourceConfig"},
    requires=("SourceAccessConfigurations", "Topics", "StartingPosition"),
    positions=KINESIS.positions,
    defaults={"LastProcessingResult": UNPROCESSED},
)
MQ = SourceKind(
    "MQ",
    allows=_COMMON | {"Queues", "SourceAccessConfigurations"},
    requires=("Queues", "SourceAccessConfigurations"),
    defaults={"MaximumBatchingWindowInSeconds": 0, "LastProcessingResult": UNPROCESSED},
)
DOCUMENTDB = SourceKind(
    "DocumentDB",
    allows=_COMMON
    | {
        "StartingPosition",
        "StartingPositionTimestamp",
        "SourceAccessConfigurations",
        "DocumentDBEventSourceConfig",
    },
    requires=("DocumentDBEventSourceConfig", "SourceAccessConfigurations", "StartingPosition"),
    positions=KINESIS.positions,
    defaults={"LastProcessingResult": UNPROCESSED},
)
KINDS: Mapping[str, SourceKind] = MappingProxyType(
    {
        "sqs": SQS,
        "sqs-fifo": SQS_FIFO,
        "kinesis": KINESIS,
        "dynamodb": DYNAMODB,
        "msk": MSK,
        "kafka": KAFKA,
        "mq": MQ,
        "documentdb": DOCUMENTDB,
    }
)


def kind_of(params: Mapping[str, Any]) -> str:
    """Name of the kind in `KINDS` that a creation means.

    Raises:
        ApiError: InvalidParameterValueException, it is none of them.
    """
    if "SelfManagedEventSource" in params:
        return "kafka"
    match = _ARN.fullmatch(str(params.get("EventSourceArn") or ""))
    if match is None:
        raise _invalid("Unrecognized event source.")
    service, resource = match["service"], match["resource"]
    if service == "sqs":
        return "sqs-fifo" if resource.endswith(".fifo") else "sqs"
    known = {
        "kinesis": ("kinesis", resource.startswith("stream/")),
        "dynamodb": ("dynamodb", resource.startswith("table/") and "/stream/" in resource),
        "kafka": ("msk", resource.startswith("cluster/")),
        "mq": ("mq", resource.startswith("broker:")),
        "rds": ("documentdb", resource.startswith("cluster:")),
    }
    name, fits = known.get(service, ("", False))
    if not fits:
        raise _invalid("Unrecognized event source.")
    return name


def check_creation(kind: SourceKind, params: Mapping[str, Any]) -> None:
    """Check the parameters of a creation.

    Raises:
        ApiError: with the service's text for the first rule that is broken.
    """
    check_change(kind, params, {})
    for member in kind.requires:
        if not params.get(member):
            shown = member[0].lower() + member[1:]
            if member == "StartingPosition":
                raise _invalid(
                    f"1 validation error detected: Value null at '{shown}' failed to satisfy "
                    "constraint: Member must not be null."
                )
            raise _invalid(f"Required '{shown}' parameter is missing.")
    position = params.get("StartingPosition")
    if position is not None and position not in kind.positions:
        raise _invalid(f"Unsupported starting position for arn type: {params['EventSourceArn']}")
    if position == "AT_TIMESTAMP" and "StartingPositionTimestamp" not in params:
        raise _invalid(
            "StartingPositionTimestamp is required when StartingPosition is AT_TIMESTAMP."
        )
    if position != "AT_TIMESTAMP" and "StartingPositionTimestamp" in params:
        raise _invalid(
            "StartingPositionTimestamp is allowed only when StartingPosition is AT_TIMESTAMP."
        )


def check_change(kind: SourceKind, params: Mapping[str, Any], former: Mapping[str, object]) -> None:
    """Check what creation and update share.

    Args:
        kind: of the source.
        params: of the call.
        former: what the mapping says now, by the API's names.

    Raises:
        ApiError: with the service's text for the first rule that is broken.
    """
    for member in params:
        if member not in kind.allows:
            raise _unsupported(member)
    if "OnSuccess" in (params.get("DestinationConfig") or {}):
        raise _unsupported("DestinationConfig")
    size = params.get("BatchSize", former.get("BatchSize", kind.batch))
    if size > kind.batch_max:
        raise _invalid(
            f"Maximum batch size is {kind.batch_max} for this kind of event source, not {size}."
        )
    window = params.get(
        "MaximumBatchingWindowInSeconds", former.get("MaximumBatchingWindowInSeconds", 0)
    )
    if size > kind.batch_without_window and not window:
        raise _invalid(
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is "
            f"greater than {kind.batch_without_window}"
        )
    for pattern in (params.get("FilterCriteria") or {}).get("Filters") or ():
        if not is_pattern(pattern.get("Pattern") or ""):
            raise _invalid("Invalid filter pattern definition.")


_KEPT_APART = frozenset({"FunctionName", "Enabled", "Tags", "UUID"})


def settings_of(kind: SourceKind, params: Mapping[str, Any]) -> dict[str, object]:
    """What a new mapping says, by the API's names."""
    given = {name: value for name, value in params.items() if name not in _KEPT_APART}
    return {"BatchSize": kind.batch, **kind.defaults, **given}


def changed_settings(former: Mapping[str, object], params: Mapping[str, Any]) -> dict[str, object]:
    """What a mapping says after an update; empty structures clear theirs."""
    given = {name: value for name, value in params.items() if name not in _KEPT_APART}
    changed = {**former, **given}
    return {
        name: value
        for name, value in changed.items()
        if name not in given or value != {} or (name in former and isinstance(former[name], list))
    }


def _unsupported(member: str) -> ApiError:
    return _invalid(f"Unsupported {member} parameter for given event source mapping type.")


def _invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValueException", message)
