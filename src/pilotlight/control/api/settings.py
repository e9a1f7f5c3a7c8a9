"""From parameters to a function's configuration: creation and partial update, as pure functions.

A parameter that is absent leaves its member alone; an empty one clears it where the API says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pilotlight.control.api import limits as rules
from pilotlight.control.api.limits import invalid
from pilotlight.model.function import (
    LATEST,
    Code,
    FunctionVersion,
    Isolation,
    Layer,
    LogFormat,
    Logging,
)
from pilotlight.model.ids import AccountId, RuntimeName

_UNSUPPORTED = ("CapacityProviderConfig", "DurableConfig", "RuntimeConfig", "AcceleratorConfig")
_CLEARED_BY_EMPTY = ("KMSKeyArn", "FileSystemConfigs")


def default_log_group(name: str) -> str:
    """Log group of a function that names none."""
    return f"/aws/lambda/{name}"


def check_configuration(params: Mapping[str, Any]) -> None:
    """Check the members that creation and update share.

    Raises:
        ApiError: with the service's text for the first rule that is broken.
    """
    rules.check_runtime(params.get("Runtime"))
    rules.check_environment((params.get("Environment") or {}).get("Variables"))
    for member in _UNSUPPORTED:
        if params.get(member):
            raise invalid(f"{member} is not supported here: leave it out.")


def check_creation(params: Mapping[str, Any]) -> None:
    """Check what only creation has.

    Raises:
        ApiError: with the service's text for the first rule that is broken.
    """
    if params.get("PackageType", "Zip") != "Zip":
        raise invalid("PackageType Image is not supported here: use Zip.")
    rules.check_zip_members(params)
    if params.get("TenancyConfig"):
        raise invalid("TenancyConfig is not supported here: leave it out.")


def new_version(
    params: Mapping[str, Any],
    *,
    account: str,
    region: str,
    name: str,
    code: Code,
    layers: tuple[Layer, ...],
    isolation: Isolation | None,
    revision_id: str,
    modified: str,
) -> FunctionVersion:
    """The configuration of a new function; the parameters were checked."""
    blank = FunctionVersion(
        account=AccountId(account),
        region=region,
        name=name,
        version=LATEST,
        runtime=None,
        handler=None,
        role=params["Role"],
        code=code,
        logging=Logging(default_log_group(name)),
        last_modified=modified,
        revision_id=revision_id,
        architecture=(params.get("Architectures") or ["x86_64"])[0],
        layers=layers,
        isolation=isolation,
        passive={
            "TracingConfig": {"Mode": "PassThrough"},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        },
    )
    return changed_version(blank, params, revision_id=revision_id, modified=modified)


def changed_version(
    version: FunctionVersion, params: Mapping[str, Any], *, revision_id: str, modified: str
) -> FunctionVersion:
    """The configuration after an update; the parameters were checked."""
    environment, seal = version.environment, version.sealed_environment
    if "Environment" in params:
        environment, seal = dict(params["Environment"].get("Variables") or {}), None
    return replace(
        version,
        revision_id=revision_id,
        last_modified=modified,
        role=params.get("Role", version.role),
        runtime=RuntimeName(params["Runtime"]) if "Runtime" in params else version.runtime,
        handler=params.get("Handler", version.handler),
        description=params.get("Description", version.description),
        timeout_s=params.get("Timeout", version.timeout_s),
        memory_mib=params.get("MemorySize", version.memory_mib),
        ephemeral_mib=params.get("EphemeralStorage", {}).get("Size", version.ephemeral_mib),
        environment=environment,
        sealed_environment=seal,
        logging=changed_logging(version.logging, params.get("LoggingConfig")),
        passive=_changed_passive(version.passive, params),
    )


def changed_logging(old: Logging, given: Mapping[str, Any] | None) -> Logging:
    """Logging after an update of some of its members; levels exist only for JSON.

    Raises:
        ApiError: InvalidParameterValueException, a level with the Text format.
    """
    if not given:
        return old
    log_format = LogFormat(given.get("LogFormat", old.log_format.value))
    group = given.get("LogGroup") or old.log_group
    application, system = given.get("ApplicationLogLevel"), given.get("SystemLogLevel")
    if log_format is LogFormat.TEXT:
        if application or system:
            raise invalid(
                "ApplicationLogLevel and SystemLogLevel need the LogFormat JSON: set it, or leave "
                "the levels out."
            )
        return Logging(group)
    return Logging(
        group,
        log_format,
        application or old.application_level or "INFO",
        system or old.system_level or "INFO",
    )


def _changed_passive(old: Mapping[str, object], params: Mapping[str, Any]) -> dict[str, object]:
    passive = dict(old)
    if "TracingConfig" in params:
        passive["TracingConfig"] = {"Mode": params["TracingConfig"].get("Mode", "PassThrough")}
    if "SnapStart" in params:
        applied = params["SnapStart"].get("ApplyOn", "None")
        passive["SnapStart"] = {"ApplyOn": applied, "OptimizationStatus": "Off"}
    if "VpcConfig" in params:
        passive["VpcConfig"] = _vpc(params["VpcConfig"])
    if "DeadLetterConfig" in params:
        target = params["DeadLetterConfig"].get("TargetArn")
        _put_or_clear(passive, "DeadLetterConfig", {"TargetArn": target} if target else None)
    for member in _CLEARED_BY_EMPTY:
        if member in params:
            _put_or_clear(passive, member, params[member])
    return passive


def _put_or_clear(passive: dict[str, object], member: str, value: object) -> None:
    if value:
        passive[member] = value
    else:
        passive.pop(member, None)


def _vpc(given: Mapping[str, Any]) -> dict[str, object]:
    """``VpcConfigResponse``; the VPC's id is derived, since no VPC is behind it here."""
    subnets = list(given.get("SubnetIds") or ())
    vpc_id = ""
    if subnets:
        vpc_id = "vpc-" + hashlib.sha256(",".join(subnets).encode()).hexdigest()[:17]
    return {
        "SubnetIds": subnets,
        "SecurityGroupIds": list(given.get("SecurityGroupIds") or ()),
        "VpcId": vpc_id,
        "Ipv6AllowedForDualStack": bool(given.get("Ipv6AllowedForDualStack", False)),
    }
