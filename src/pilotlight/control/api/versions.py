"""Publishing and listing versions of a function."""

from __future__ import annotations

from typing import Any

from pilotlight.control.api.configuration import render_listed, render_version
from pilotlight.control.api.functions import LIST_DEFAULT, latest, reference_of, unqualified
from pilotlight.control.api.limits import invalid
from pilotlight.control.api.markers import decode_marker, encode_marker
from pilotlight.control.api.services import Call, Services
from pilotlight.control.registry import rules, versions
from pilotlight.control.registry.functions import Versions, Written
from pilotlight.control.registry.references import function_not_found
from pilotlight.model.function import LATEST
from pilotlight.wire.records import FunctionRecord, VersionRecord


async def publish_version(services: Services, call: Call) -> dict[str, Any]:
    """PublishVersion: idempotent while code and configuration are what was published last."""
    reference, params = unqualified(reference_of(call)), call.params
    if params.get("PublishTo"):
        raise invalid("PublishTo needs a capacity provider, and there are none here: leave it out.")
    revision_id, latest_revision = services.ids.uuid(), services.ids.uuid()
    shown: list[VersionRecord] = []

    def rule(record: FunctionRecord, known: Versions) -> Written | None:
        rules.check_revision(record, params.get("RevisionId"))
        versions.check_code(record, params.get("CodeSha256"))
        versions.check_publishable(record, reference)
        last = next(iter(known.values()), None)
        if last is not None and versions.is_unchanged(record, last):
            shown[:] = [last]
            return None
        written = versions.published(
            record,
            description=params.get("Description"),
            revision_id=revision_id,
            latest_revision=latest_revision,
        )
        shown[:] = written.versions.values()
        return written

    await services.functions.change_versions(
        reference.scope.account,
        reference.name,
        versions.newest,
        rule,
        absent=function_not_found(reference.arn),
    )
    version = shown[0].function
    return render_version(version, call.scope, services.sealer, qualifier=version.version)


async def list_versions_by_function(services: Services, call: Call) -> dict[str, Any]:
    """ListVersionsByFunction: ``$LATEST``, then the versions in their order."""
    reference = unqualified(reference_of(call))
    record = await latest(services, reference)
    limit = min(call.params.get("MaxItems", LIST_DEFAULT), LIST_DEFAULT)
    after = decode_marker(call.params.get("Marker"))
    numbers = [LATEST, *record.published]
    if after:
        numbers = [number for number in record.published if int(number) > _number(after)]
    shown = numbers[:limit]
    published = await services.functions.versions(
        call.scope.account, reference.name, (number for number in shown if number != LATEST)
    )
    items = [record.current] if LATEST in shown else []
    items.extend(version.function for version in published.values())
    answer: dict[str, Any] = {
        "Versions": [
            render_listed(version, call.scope, services.sealer, qualifier=version.version)
            for version in items
        ]
    }
    if len(numbers) > limit:
        answer["NextMarker"] = encode_marker(shown[-1])
    return answer


def _number(marker: str) -> int:
    """Number of the version that a page comes after; ``$LATEST`` comes before all.

    Raises:
        ApiError: InvalidParameterValueException, the marker is of another list.
    """
    if marker == LATEST:
        return 0
    if not marker.isdecimal():
        raise invalid(f"Invalid Marker: it is not of a list of versions: '{marker[:100]}'.")
    return int(marker)
