"""What may happen to a function's record, as pure functions from record to record.

The life of ``$LATEST`` has three commits, so that an interruption leaves it old or new:

1. the API call stores the new configuration as ``current`` with a `PendingChange`;
2. when the code is ready, `serve` makes it ``serving``: frontends that see it run it;
3. when every frontend has seen that, `settle` shows the function as Active and Successful.

`fail` replaces 2 and 3; the data plane then keeps what it served before.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from pilotlight.control.registry.policies import admits_anybody, admitted_callers
from pilotlight.control.registry.references import Reference
from pilotlight.model.errors import ApiError
from pilotlight.model.function import (
    FunctionState,
    FunctionUrl,
    FunctionVersion,
    Isolation,
    UpdateStatus,
)
from pilotlight.wire.records import EventInvokeConfig, FunctionRecord, PendingChange, Policy

CREATE = "create"
UPDATE = "update"
CREATING = "The function is being created."
"""Reason of a state that lasts until the code is ready."""


def created(
    version: FunctionVersion, tags: dict[str, str], *, change_id: str, wall_s: float
) -> FunctionRecord:
    """The record of a new function, which is Pending until its code is ready."""
    return FunctionRecord(
        current=replace(
            version,
            state=FunctionState.PENDING,
            state_reason=CREATING,
            state_reason_code="Creating",
        ),
        pending=PendingChange(id=change_id, kind=CREATE, started_wall_s=wall_s),
        tags=tags,
    )


def check_updatable(record: FunctionRecord, reference: Reference) -> None:
    """Refuse an update while the function is being created or updated.

    Raises:
        ApiError: ResourceConflictException.
    """
    current = record.current
    if current.state is FunctionState.PENDING:
        raise ApiError(
            "ResourceConflictException",
            "The operation cannot be performed at this time. "
            f"The function is currently in the following state: {current.state.value}",
        )
    if current.last_update_status is UpdateStatus.IN_PROGRESS:
        raise ApiError(
            "ResourceConflictException",
            "The operation cannot be performed at this time. "
            f"An update is in progress for resource: {reference.unqualified_arn}",
        )


def check_revision(record: FunctionRecord, wanted: str | None) -> None:
    """Compare the caller's ``RevisionId``, where one was given.

    Raises:
        ApiError: PreconditionFailedException.
    """
    if wanted and wanted != record.current.revision_id:
        raise ApiError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        )


def updated(
    record: FunctionRecord, version: FunctionVersion, *, change_id: str, wall_s: float
) -> FunctionRecord:
    """The record with ``version`` as its configuration, InProgress until it is served.

    The caller gave ``version`` a new revision and has checked that an update is allowed.
    """
    return msgspec.structs.replace(
        record,
        current=replace(
            version,
            last_update_status=UpdateStatus.IN_PROGRESS,
            last_update_reason=CREATING,
            last_update_reason_code="Creating",
        ),
        pending=PendingChange(id=change_id, kind=UPDATE, started_wall_s=wall_s),
    )


def finished(version: FunctionVersion, revision_id: str) -> FunctionVersion:
    """The version as Active and Successful."""
    return replace(
        version,
        revision_id=revision_id,
        state=FunctionState.ACTIVE,
        state_reason=None,
        state_reason_code=None,
        last_update_status=UpdateStatus.SUCCESSFUL,
        last_update_reason=None,
        last_update_reason_code=None,
    )


def is_pending(record: FunctionRecord, change_id: str) -> bool:
    """Whether this change is still the one to finish."""
    return record.pending is not None and record.pending.id == change_id


def serve(record: FunctionRecord, *, revision_id: str) -> FunctionRecord:
    """Let the data plane run ``current``; the revision names its execution environments."""
    return msgspec.structs.replace(record, serving=finished(record.current, revision_id))


def settle(record: FunctionRecord, *, revision_id: str) -> FunctionRecord:
    """Show the change as finished."""
    return msgspec.structs.replace(
        record, current=finished(record.current, revision_id), pending=None
    )


def fail(record: FunctionRecord, *, reason: str, code: str, revision_id: str) -> FunctionRecord:
    """Show the change as failed; what was served before goes on being served."""
    creating = record.pending is not None and record.pending.kind == CREATE
    if creating:
        current = replace(
            record.current,
            revision_id=revision_id,
            state=FunctionState.FAILED,
            state_reason=reason,
            state_reason_code=code,
        )
    else:
        current = replace(
            record.current,
            revision_id=revision_id,
            last_update_status=UpdateStatus.FAILED,
            last_update_reason=reason,
            last_update_reason_code=code,
        )
    return msgspec.structs.replace(record, current=current, pending=None)


def touched(record: FunctionRecord, *, revision_id: str) -> FunctionRecord:
    """The record with a new revision for the API; execution environments are unaffected."""
    return msgspec.structs.replace(record, current=replace(record.current, revision_id=revision_id))


def with_isolation(
    record: FunctionRecord, isolation: Isolation | None, *, revision_id: str
) -> FunctionRecord:
    """The record with another isolation; new environments get it, the old ones end."""
    if record.current.isolation == isolation:
        return record
    serving = record.serving
    if serving is not None:
        serving = replace(serving, isolation=isolation, revision_id=revision_id)
    return msgspec.structs.replace(
        record, current=replace(record.current, isolation=isolation), serving=serving
    )


def with_policy(record: FunctionRecord, qualifier: str, policy: Policy | None) -> FunctionRecord:
    """The record with another policy, and with what that means for the URL."""
    known = {key: value for key, value in record.policies.items() if key != qualifier}
    if policy is not None:
        known[qualifier] = policy
    urls = dict(record.urls)
    if qualifier in urls:
        urls[qualifier] = _with_admission(urls[qualifier], policy)
    return msgspec.structs.replace(record, policies=known, urls=urls)


def without_qualifier(record: FunctionRecord, qualifier: str) -> FunctionRecord:
    """The record without what belongs to a version or an alias that goes.

    A URL stays, as the service keeps it, but nobody is admitted to it any more.
    """
    kept = {key: value for key, value in record.provisioned.items() if key != qualifier}
    managed = {key: value for key, value in record.runtime_management.items() if key != qualifier}
    scaling = {key: value for key, value in record.scaling.items() if key != qualifier}
    rest = msgspec.structs.replace(
        record, provisioned=kept, runtime_management=managed, scaling=scaling
    )
    return with_event_config(with_policy(rest, qualifier, None), qualifier, None)


def with_event_config(
    record: FunctionRecord, qualifier: str, config: EventInvokeConfig | None
) -> FunctionRecord:
    """The record with another treatment of a qualifier's events, or with the default one."""
    configs = {key: value for key, value in record.event_configs.items() if key != qualifier}
    if config is not None:
        configs[qualifier] = config
    return msgspec.structs.replace(record, event_configs=configs)


def with_url(record: FunctionRecord, qualifier: str, url: FunctionUrl | None) -> FunctionRecord:
    """The record with another URL of a qualifier, or without one."""
    urls = {key: value for key, value in record.urls.items() if key != qualifier}
    if url is not None:
        urls[qualifier] = _with_admission(url, record.policies.get(qualifier))
    return msgspec.structs.replace(record, urls=urls)


def _with_admission(url: FunctionUrl, policy: Policy | None) -> FunctionUrl:
    """The URL with what its policy means for callers, which is all the data plane looks at."""
    return replace(url, is_public=admits_anybody(policy), callers=admitted_callers(policy))
