"""Records of the registry: their shapes and how they become bytes.

Control plane (writes) and data plane (reads the change feed) share this file and nothing else of
one another. A record is JSON with a schema number. A reader takes older schemas and unknown
members; it refuses a newer schema, because acting on half-understood records is worse than waiting
for the upgrade.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from pilotlight.model.errors import PlatformError
from pilotlight.model.function import Code, FunctionUrl, FunctionVersion

SCHEMA: Final = 1
"""Newest schema this code writes and understands."""

FUNCTION: Final = "function"
"""Kind of a `FunctionRecord`; its key is the function's name."""
VERSION: Final = "version"
"""Kind of a `VersionRecord`; its key is ``name:number``."""
LAYER: Final = "layer"
"""Kind of a `LayerRecord`; its key is the layer's name."""
LAYER_VERSION: Final = "layer-version"
"""Kind of a `LayerVersionRecord`; its key is `layer_version_key`."""
EVENT_SOURCE_MAPPING: Final = "event-source-mapping"
"""Kind of an `EventSourceMappingRecord`; its key is the mapping's UUID."""
CODE_SIGNING: Final = "code-signing-config"
"""Kind of a `CodeSigningRecord`; its key is the configuration's id."""
LOG_GROUP: Final = "log-group"
"""Kind of a `LogGroupRecord`; its key is the group's name."""
URL: Final = "url"
"""Kind of a `UrlRecord`; its key is the URL's id."""

UNQUALIFIED: Final = ""
"""Key of the function itself in maps that have one entry for each qualifier."""


class UnknownSchema(PlatformError):
    """A record was written by a newer release than the one that reads it."""

    code = "UnknownRecordSchema"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Resource policy of a function or of one of its qualifiers.

    ``statements`` are in the order they were added, as the API renders them.
    """

    statements: tuple[Mapping[str, Any], ...]
    revision_id: str


class PendingChange(msgspec.Struct, frozen=True, kw_only=True):
    """A creation or update that is not finished. ``id`` is fresh for each.

    ``publishes`` is the number of the version that was published by the same call, if any.
    """

    id: str
    kind: str
    started_wall_s: float
    publishes: str | None = None


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """A movable name of one or two versions of a function.

    Attributes:
        version: number of the version it means, or ``$LATEST``.
        weights: share of the invocations, 0 to 1, that other versions get, by their numbers.
    """

    version: str
    revision_id: str
    description: str = ""
    weights: Mapping[str, float] = {}


class EventInvokeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How asynchronous invocations of a qualifier are treated; None is not set.

    Attributes:
        last_modified_s: seconds since the epoch.
    """

    retries: int | None = None
    age_s: int | None = None
    on_success: str | None = None
    on_failure: str | None = None
    last_modified_s: float


class Provisioned(msgspec.Struct, frozen=True, kw_only=True):
    """Environments that are to be kept ready for a version or an alias."""

    requested: int
    modified_wall_s: float


class RuntimeManagement(msgspec.Struct, frozen=True, kw_only=True):
    """When the runtime of a version is updated; the ARN is for ``Manual``."""

    update_on: str
    version_arn: str | None = None


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A record of any kind; ``schema`` is that of the release that wrote it."""

    schema: int = SCHEMA


class FunctionRecord(Stored, frozen=True, kw_only=True):
    """One function with all that one API call may have to change together.

    Attributes:
        current: ``$LATEST`` as the API shows it.
        serving: ``$LATEST`` as the data plane runs it; None until the creation finished. Differs
            from ``current`` while an update is in progress or after one failed. Its revision
            identifies execution environments, so tags and policies do not change it.
        pending: what the transition part still has to finish.
        policies: by qualifier, `UNQUALIFIED` for the function itself.
        urls: function URLs by qualifier, `UNQUALIFIED` for the function itself. Each has a
            `UrlRecord` of its own too, written by the same commit, for lookups by id.
        event_configs: treatment of asynchronous invocations, by version or alias, ``$LATEST`` for
            the function itself.
        aliases: by name.
        published: bytes of each published version's package, by the version's number, in order.
            Each has a `VersionRecord` of its own, written by the same commit.
        next_version: number of the version to be published next; none is given twice.
        code_signing: id of the code signing configuration, None for none.
        reserved: concurrency reserved for the function, which is its limit too; None for none.
        provisioned: by qualifier, a version or an alias.
        runtime_management: by version, ``$LATEST`` for the function itself.
        recursive_loop: what happens to recursive invocations, None for the default.
        scaling: ``FunctionScalingConfig`` by qualifier, as the API shows it.
    """

    current: FunctionVersion
    serving: FunctionVersion | None = None
    pending: PendingChange | None = None
    tags: Mapping[str, str] = {}
    policies: Mapping[str, Policy] = {}
    urls: Mapping[str, FunctionUrl] = {}
    event_configs: Mapping[str, EventInvokeConfig] = {}
    aliases: Mapping[str, Alias] = {}
    published: Mapping[str, int] = {}
    next_version: int = 1
    code_signing: str | None = None
    reserved: int | None = None
    provisioned: Mapping[str, Provisioned] = {}
    runtime_management: Mapping[str, RuntimeManagement] = {}
    recursive_loop: str | None = None
    scaling: Mapping[str, Mapping[str, int]] = {}


class VersionRecord(Stored, frozen=True, kw_only=True):
    """A published version: code and configuration never change, only its states.

    Attributes:
        function: the version as the API shows it.
        serving: the version as the data plane runs it, where that differs: a version published
            together with its function is served before it is shown as Active.
        latest_description: description of ``$LATEST`` when the version was published. The
            version's own may be another one, which is no difference between the two.
    """

    function: FunctionVersion
    serving: FunctionVersion | None = None
    latest_description: str = ""


class UrlRecord(Stored, frozen=True, kw_only=True):
    """A function URL."""

    url: FunctionUrl


class LayerRecord(Stored, frozen=True, kw_only=True):
    """A layer, which stays when its versions are deleted: none of its numbers is given twice."""

    name: str
    next_version: int = 1


class LayerVersionRecord(Stored, frozen=True, kw_only=True):
    """One version of a layer. ``runtimes`` and ``architectures`` are None where none were named."""

    account: str
    name: str
    number: int
    code: Code
    created: str
    description: str = ""
    license: str | None = None
    runtimes: tuple[str, ...] | None = None
    architectures: tuple[str, ...] | None = None
    policy: Policy | None = None


class EventSourceMappingRecord(Stored, frozen=True, kw_only=True):
    """An event source mapping.

    Attributes:
        function: the function's name; it may be gone.
        source: name of the source's kind.
        settings: what the mapping says, by the API's member names, as JSON values.
        state: as the API shows it.
        goal: the state that a change leads to, None when there is nothing to finish; ``""`` is
            removal.
        change: fresh for each change.
        modified_wall_s: seconds since the epoch.
    """

    account: str
    region: str
    uuid: str
    function: str
    qualifier: str | None
    source: str
    settings: Mapping[str, Any]
    state: str
    goal: str | None
    change: str
    modified_wall_s: float
    tags: Mapping[str, str] = {}


class CodeSigningRecord(Stored, frozen=True, kw_only=True):
    """A code signing configuration. ``untrusted`` is ``Warn`` or ``Enforce``."""

    id: str
    publishers: tuple[str, ...]
    untrusted: str
    modified: str
    description: str = ""
    tags: Mapping[str, str] = {}


class LogGroupRecord(Stored, frozen=True, kw_only=True):
    """What was said about a log group; groups that functions write to need no record.

    Attributes:
        is_made: it exists without lines too.
        created_wall_s: seconds since the epoch.
        hidden_before_s: lines up to here were deleted with a former group of this name.
        retention_days: how long lines are shown; None for as long as the store keeps them.
    """

    name: str
    is_made: bool
    created_wall_s: float
    hidden_before_s: float = 0.0
    retention_days: int | None = None
    tags: Mapping[str, str] = {}


R = TypeVar("R", bound=Stored)


class _Head(msgspec.Struct):
    schema: int


def replaced(record: R, **changes: Any) -> R:  # noqa: ANN401  members of the record's own types
    """A copy of a record with other values of some members."""
    return msgspec.structs.replace(record, **changes)


def encode(record: Stored) -> bytes:
    """Encode a record."""
    return msgspec.json.encode(record)


def decode(kind: type[R], body: bytes) -> R:
    """Decode a record.

    Raises:
        UnknownSchema: a newer release wrote it.
        msgspec.MsgspecError: the bytes are not such a record.
    """
    try:
        record = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        _check_schema(msgspec.json.decode(body, type=_Head).schema)
        raise
    _check_schema(record.schema)
    return record


def _check_schema(schema: int) -> None:
    if schema > SCHEMA:
        raise UnknownSchema(
            f"a record has schema {schema}, this release knows {SCHEMA}: upgrade this process"
        )


def layer_version_key(name: str, number: int) -> str:
    """Key of a layer version's record; keys of a layer sort as its numbers do."""
    return f"{name}:{number:012d}"


def qualified_key(name: str, qualifier: str) -> str:
    """Key of a version's record."""
    return f"{name}:{qualifier}"
