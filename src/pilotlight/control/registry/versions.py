"""Published versions: what may happen to their records, as pure functions.

A version's code and configuration never change; its state does while the call that published it is
finished, and its revision does when its policy changes. What the data plane runs keeps the revision
it had, because that names the execution environments.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import msgspec

from pilotlight.control.registry import rules
from pilotlight.control.registry.functions import Written
from pilotlight.control.registry.references import Reference
from pilotlight.model.errors import ApiError
from pilotlight.model.function import (
    LATEST,
    FunctionState,
    FunctionVersion,
    Isolation,
    UpdateStatus,
)
from pilotlight.wire.records import FunctionRecord, VersionRecord

FIRST: Final = "1"
"""Number of a function's first version."""


def newest(record: FunctionRecord) -> tuple[str, ...]:
    """Number of the version published last, where it still exists."""
    number = str(record.next_version - 1)
    return (number,) if number in record.published else ()


def every(record: FunctionRecord) -> tuple[str, ...]:
    """Numbers of all published versions."""
    return tuple(record.published)


def check_publishable(record: FunctionRecord, reference: Reference) -> None:
    """Refuse to publish what does not run.

    Raises:
        ApiError: ResourceConflictException.
    """
    rules.check_updatable(record, reference)
    current = record.current
    if current.state is FunctionState.FAILED:
        raise ApiError(
            "ResourceConflictException",
            "The operation cannot be performed at this time. "
            f"The function is currently in the following state: {current.state.value}",
        )
    if current.last_update_status is UpdateStatus.FAILED:
        raise ApiError(
            "ResourceConflictException",
            "The last update of the function failed: update its code or configuration again "
            f"before publishing a version of {reference.unqualified_arn}.",
        )


def check_code(record: FunctionRecord, wanted: str | None) -> None:
    """Compare the caller's ``CodeSha256``, where one was given.

    Raises:
        ApiError: InvalidParameterValueException.
    """
    current = record.current.code.sha256
    if wanted and wanted != current:
        raise ApiError(
            "InvalidParameterValueException",
            f"CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({current}). "
            "Please try again with the CodeSHA256 in $LATEST.",
        )


def is_unchanged(record: FunctionRecord, last: VersionRecord | None) -> bool:
    """Whether ``$LATEST`` is what was published last: then publishing makes no new version."""
    if last is None:
        return False
    return _content(record.current, record.current.description) == _content(
        last.function, last.latest_description
    )


def _content(version: FunctionVersion, description: str) -> FunctionVersion:
    """What makes one version differ from another, the rest made equal."""
    return replace(
        version,
        version=LATEST,
        description=description,
        last_modified="",
        revision_id="",
        isolation=None,
        passive=_passive(version.passive),
        state=FunctionState.ACTIVE,
        state_reason=None,
        state_reason_code=None,
        last_update_status=UpdateStatus.SUCCESSFUL,
        last_update_reason=None,
        last_update_reason_code=None,
    )


def _passive(passive: Mapping[str, object]) -> dict[str, object]:
    """The members with SnapStart as a published version shows it: its snapshot is there."""
    shown = dict(passive)
    snap_start = shown.get("SnapStart")
    if isinstance(snap_start, Mapping) and snap_start.get("ApplyOn") == "PublishedVersions":
        shown["SnapStart"] = {**snap_start, "OptimizationStatus": "On"}
    return shown


def published(
    record: FunctionRecord, *, description: str | None, revision_id: str, latest_revision: str
) -> Written:
    """The record with a new version of ``$LATEST``.

    While ``$LATEST`` is being created or updated, so is the version; the same steps finish both.

    Args:
        record: the function; the caller has checked that it may be published.
        description: of the version, None to take that of ``$LATEST``.
        revision_id: of the version.
        latest_revision: new revision of ``$LATEST``, which publishing changes.
    """
    number = str(record.next_version)
    current = record.current
    version = replace(
        current,
        version=number,
        revision_id=revision_id,
        description=current.description if description is None else description,
        passive=_passive(current.passive),
    )
    pending = record.pending
    if pending is not None:
        pending = msgspec.structs.replace(pending, publishes=number)
        version = replace(
            version,
            state=FunctionState.PENDING,
            state_reason=rules.CREATING,
            state_reason_code="Creating",
            last_update_status=UpdateStatus.SUCCESSFUL,
            last_update_reason=None,
            last_update_reason_code=None,
        )
    written = msgspec.structs.replace(
        record,
        current=replace(current, revision_id=latest_revision),
        pending=pending,
        published={**record.published, number: current.code.size_bytes},
        next_version=record.next_version + 1,
    )
    stored = VersionRecord(function=version, latest_description=current.description)
    return Written(written, {number: stored})


def pending(record: FunctionRecord) -> tuple[str, ...]:
    """Number of the version that the pending change publishes, if any."""
    change = record.pending
    return () if change is None or change.publishes is None else (change.publishes,)


def serve(version: VersionRecord, *, revision_id: str) -> VersionRecord:
    """Let the data plane run the version; see `rules.serve`."""
    return msgspec.structs.replace(version, serving=rules.finished(version.function, revision_id))


def settle(version: VersionRecord, *, revision_id: str) -> VersionRecord:
    """Show the version as finished; see `rules.settle`."""
    return msgspec.structs.replace(version, function=rules.finished(version.function, revision_id))


def fail(version: VersionRecord, *, reason: str, code: str, revision_id: str) -> VersionRecord:
    """Show that the version cannot run; see `rules.fail`."""
    failed = replace(
        version.function,
        revision_id=revision_id,
        state=FunctionState.FAILED,
        state_reason=reason,
        state_reason_code=code,
    )
    return msgspec.structs.replace(version, function=failed)


def touched(version: VersionRecord, *, revision_id: str) -> VersionRecord:
    """The version with a new revision for the API; execution environments are unaffected."""
    return msgspec.structs.replace(
        version,
        function=replace(version.function, revision_id=revision_id),
        serving=version.serving or version.function,
    )


def with_isolation(
    version: VersionRecord, isolation: Isolation | None, *, revision_id: str
) -> VersionRecord:
    """The version with another isolation; new environments get it, the old ones end."""
    served = version.serving or version.function
    return msgspec.structs.replace(
        version,
        function=replace(version.function, isolation=isolation),
        serving=replace(served, isolation=isolation, revision_id=revision_id),
    )


def without(record: FunctionRecord, number: str) -> FunctionRecord:
    """The record without a published version and what belongs to it.

    Raises:
        ApiError: ResourceConflictException, an alias means the version.
    """
    users = [
        name
        for name, alias in record.aliases.items()
        if number == alias.version or number in alias.weights
    ]
    if users:
        raise ApiError(
            "ResourceConflictException",
            "Unable to delete version because the following aliases reference it: "
            f"[{', '.join(sorted(users))}]",
        )
    rest = {key: size for key, size in record.published.items() if key != number}
    return msgspec.structs.replace(rules.without_qualifier(record, number), published=rest)


OfVersion = Callable[..., VersionRecord]
"""`serve`, `settle` or a `fail` with its reason: from a record and ``revision_id``."""
