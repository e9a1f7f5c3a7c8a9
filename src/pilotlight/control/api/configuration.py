"""A function's configuration as the API shows it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from pilotlight.control.registry.references import Scope
from pilotlight.model.function import FunctionState, FunctionVersion, LogFormat, Logging
from pilotlight.ports.sealing import SealBroken, Sealer
from pilotlight.wire.variables import opened

LIST_OMITS = frozenset(
    {
        "RuntimeVersionConfig",
        "State",
        "StateReason",
        "StateReasonCode",
        "LastUpdateStatus",
        "LastUpdateStatusReason",
        "LastUpdateStatusReasonCode",
    }
)
"""Members that lists leave out; see "ListFunctions" in the API reference."""


def last_modified(wall_s: float) -> str:
    """``LastModified`` of a function, for example ``2026-01-31T09:05:07.123+0000``."""
    moment = datetime.fromtimestamp(wall_s, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}+0000"


def url_time(wall_s: float) -> str:
    """Times of a function URL, for example ``2026-01-31T09:05:07.123456Z``."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def runtime_version_arn(runtime: str, region: str) -> str:
    """A stable ARN for the runtime version; the service's own ids are not published."""
    digest = hashlib.sha256(runtime.encode()).hexdigest()
    return f"arn:aws:lambda:{region}::runtime:{digest}"


def render_logging(logging: Logging) -> dict[str, Any]:
    """``LoggingConfig``; levels exist only for JSON."""
    rendered: dict[str, Any] = {
        "LogFormat": logging.log_format.value,
        "LogGroup": logging.log_group,
    }
    if logging.log_format is LogFormat.JSON:
        rendered["ApplicationLogLevel"] = logging.application_level or "INFO"
        rendered["SystemLogLevel"] = logging.system_level or "INFO"
    return rendered


def _states(version: FunctionVersion) -> dict[str, Any]:
    states: dict[str, Any] = {
        "State": version.state.value,
        "StateReason": version.state_reason,
        "StateReasonCode": version.state_reason_code,
        "LastUpdateStatusReason": version.last_update_reason,
        "LastUpdateStatusReasonCode": version.last_update_reason_code,
    }
    if version.state is not FunctionState.PENDING:
        states["LastUpdateStatus"] = version.last_update_status.value
    return {name: value for name, value in states.items() if value is not None}


def _environment(version: FunctionVersion, sealer: Sealer) -> dict[str, Any] | None:
    """``EnvironmentResponse``; an error where the variables cannot be decrypted."""
    try:
        variables = opened(version, sealer)
    except SealBroken as broken:
        return {"Error": {"ErrorCode": broken.code, "Message": str(broken)}}
    return None if variables is None else {"Variables": dict(variables)}


def render_version(
    version: FunctionVersion, scope: Scope, sealer: Sealer, *, qualifier: str | None = None
) -> dict[str, Any]:
    """``FunctionConfiguration`` of a version; its ARN has the qualifier the caller used."""
    shown: dict[str, Any] = {
        "FunctionName": version.name,
        "FunctionArn": scope.function_arn(version.name, qualifier),
        "Runtime": version.runtime,
        "Role": version.role,
        "Handler": version.handler,
        "CodeSize": version.code.size_bytes,
        "Description": version.description,
        "Timeout": version.timeout_s,
        "MemorySize": version.memory_mib,
        "LastModified": version.last_modified,
        "CodeSha256": version.code.sha256,
        "Version": version.version,
        "RevisionId": version.revision_id,
        "PackageType": version.package_type,
        "Architectures": [version.architecture],
        "EphemeralStorage": {"Size": version.ephemeral_mib},
        "LoggingConfig": render_logging(version.logging),
        **_states(version),
        **version.passive,
    }
    environment = _environment(version, sealer)
    if environment is not None:
        shown["Environment"] = environment
    if version.layers:
        shown["Layers"] = [
            {"Arn": layer.arn, "CodeSize": layer.code.size_bytes} for layer in version.layers
        ]
    if version.runtime is not None:
        shown["RuntimeVersionConfig"] = {
            "RuntimeVersionArn": runtime_version_arn(version.runtime, scope.region)
        }
    return {name: value for name, value in shown.items() if value is not None}


def render_listed(
    version: FunctionVersion, scope: Scope, sealer: Sealer, *, qualifier: str | None = None
) -> dict[str, Any]:
    """The shorter form that lists have."""
    shown = render_version(version, scope, sealer, qualifier=qualifier)
    return {name: value for name, value in shown.items() if name not in LIST_OMITS}
