"""How resources of a template are made, changed and removed.

Each kind is three functions over the API; what a resource became is its id and its attributes.
Source of the properties: the resource types of AWS Lambda in the CloudFormation reference.
"""

from __future__ import annotations

import base64
import hashlib
import io
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from pilotlight.cli.calls import call
from pilotlight.cli.client import Client
from pilotlight.cli.errors import CommandFailed, ServerAnswer
from pilotlight.cli.stacks.reading import LOCAL_BUCKET
from pilotlight.kernel.system import SystemClock

_READY_WITHIN_S: Final = 120.0
_POLL_S: Final = 0.1
_GONE = "ResourceNotFoundException"
_TAKEN = "ResourceConflictException"


@dataclass(frozen=True, slots=True)
class Made:
    """A resource that exists: what ``Ref`` gives, and its attributes."""

    id: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the functions below work with.

    Attributes:
        client: of the server.
        stack: name of the stack.
        packages: local files by key.
        account: for ARNs of what is only named.
    """

    client: Client
    stack: str
    packages: Mapping[str, bytes]
    account: str

    def call(self, operation: str, **params: Any) -> dict[str, Any]:  # noqa: ANN401
        """Call an operation of the API."""
        return call(self.client, operation, **params)

    def name(self, logical: str) -> str:
        """Name of a resource that names none: the same at every deployment."""
        digest = hashlib.sha256(f"{self.stack}/{logical}".encode()).hexdigest()[:8]
        return f"{self.stack}-{logical}"[:55] + f"-{digest}"

    def content(self, code: Mapping[str, Any]) -> dict[str, Any]:
        """``Code`` or ``Content`` with local files in place.

        Raises:
            CommandFailed: the key is not of this machine.
        """
        if isinstance(code.get("ZipFile"), str):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr(zipfile.ZipInfo("index.py"), code["ZipFile"])
            return {"ZipFile": base64.b64encode(buffer.getvalue()).decode()}
        if code.get("S3Bucket") != LOCAL_BUCKET:
            return dict(code)
        return {"ZipFile": base64.b64encode(self.packages[code["S3Key"]]).decode()}


Create = Callable[[Deployment, str, Mapping[str, Any]], Made]
"""From the logical name and the properties."""
Update = Callable[[Deployment, str, Mapping[str, Any], Made], Made]
Delete = Callable[[Deployment, Made], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resources.

    Attributes:
        update: None where a change means another resource.
        replaces: properties whose change means another resource.
    """

    create: Create
    update: Update | None
    delete: Delete
    replaces: frozenset[str] = frozenset()


def wait_ready(deployment: Deployment, name: str) -> dict[str, Any]:
    """The configuration of a function once it is active and its update done.

    Raises:
        CommandFailed: it failed, or it takes too long.
    """
    clock = SystemClock()
    end = clock.monotonic() + _READY_WITHIN_S
    while True:
        shown = deployment.call("GetFunctionConfiguration", FunctionName=name)
        state, update = shown.get("State", "Active"), shown.get("LastUpdateStatus", "Successful")
        if "Failed" in (state, update):
            reason = shown.get("StateReason") or shown.get("LastUpdateStatusReason")
            raise CommandFailed(f"{name} failed: {reason or 'the server gave no reason'}")
        if state in ("Active", "Inactive") and update == "Successful":
            return shown
        if clock.monotonic() >= end:
            raise CommandFailed(f"{name} is still {state}/{update} after {_READY_WITHIN_S:g} s.")
        time.sleep(_POLL_S)


_APART = frozenset(
    {"Code", "FunctionName", "Tags", "ReservedConcurrentExecutions", "CodeSigningConfigArn",
     "RuntimeManagementConfig", "RecursiveLoop", "PackageType", "Architectures"}
)  # fmt: skip


def _tags(properties: Mapping[str, Any]) -> dict[str, str]:
    tags = properties.get("Tags") or []
    if isinstance(tags, dict):
        return {str(name): str(value) for name, value in tags.items()}
    return {str(tag["Key"]): str(tag["Value"]) for tag in tags}


def _configuration(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if name not in _APART}


def _create_function(deployment: Deployment, logical: str, properties: Mapping[str, Any]) -> Made:
    name = str(properties.get("FunctionName") or deployment.name(logical))
    deployment.call(
        "CreateFunction",
        FunctionName=name,
        Code=deployment.content(properties["Code"]),
        Tags=_tags(properties),
        Architectures=properties.get("Architectures"),
        CodeSigningConfigArn=properties.get("CodeSigningConfigArn"),
        **_configuration(properties),
    )
    return _rest_of_function(deployment, name, properties)


def _update_function(
    deployment: Deployment, logical: str, properties: Mapping[str, Any], made: Made
) -> Made:
    del logical
    code = deployment.content(properties["Code"])
    current = wait_ready(deployment, made.id)
    package = code.get("ZipFile")
    digest = ""
    if package is not None:
        sha256 = hashlib.sha256(base64.b64decode(package)).digest()
        digest = base64.b64encode(sha256).decode()
    if current["CodeSha256"] != digest:
        deployment.call(
            "UpdateFunctionCode",
            FunctionName=made.id,
            Architectures=properties.get("Architectures"),
            **code,
        )
        wait_ready(deployment, made.id)
    deployment.call(
        "UpdateFunctionConfiguration", FunctionName=made.id, **_configuration(properties)
    )
    return _rest_of_function(deployment, made.id, properties)


def _rest_of_function(deployment: Deployment, name: str, properties: Mapping[str, Any]) -> Made:
    shown = wait_ready(deployment, name)
    wanted = _tags(properties)
    arn = str(shown["FunctionArn"])
    current = deployment.call("GetFunction", FunctionName=name)
    have = current.get("Tags") or {}
    if wanted.items() - have.items():
        deployment.call("TagResource", Resource=arn, Tags=wanted)
    reserved = properties.get("ReservedConcurrentExecutions")
    if reserved is not None:
        deployment.call(
            "PutFunctionConcurrency", FunctionName=name, ReservedConcurrentExecutions=int(reserved)
        )
    elif "Concurrency" in current:
        deployment.call("DeleteFunctionConcurrency", FunctionName=name)
    return Made(name, {"Arn": arn})


def _delete_function(deployment: Deployment, made: Made) -> None:
    deployment.call("DeleteFunction", FunctionName=made.id)


def _create_version(deployment: Deployment, logical: str, properties: Mapping[str, Any]) -> Made:
    del logical
    wait_ready(deployment, str(properties["FunctionName"]))
    shown = deployment.call(
        "PublishVersion",
        FunctionName=properties["FunctionName"],
        Description=properties.get("Description"),
        CodeSha256=properties.get("CodeSha256"),
    )
    return Made(str(shown["FunctionArn"]), {"Version": str(shown["Version"])})


def _delete_version(deployment: Deployment, made: Made) -> None:
    deployment.call("DeleteFunction", FunctionName=made.id)


def _alias_settings(properties: Mapping[str, Any]) -> dict[str, Any]:
    weights = {
        str(entry["FunctionVersion"]): float(entry["FunctionWeight"])
        for entry in (properties.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or ()
    }
    return {
        "FunctionVersion": properties["FunctionVersion"],
        "Description": properties.get("Description", ""),
        "RoutingConfig": {"AdditionalVersionWeights": weights},
    }


def _create_alias(deployment: Deployment, logical: str, properties: Mapping[str, Any]) -> Made:
    del logical
    function, name = properties["FunctionName"], properties["Name"]
    shown = deployment.call(
        "CreateAlias", FunctionName=function, Name=name, **_alias_settings(properties)
    )
    return _provisioned(deployment, properties, Made(str(shown["AliasArn"])))


def _update_alias(
    deployment: Deployment, logical: str, properties: Mapping[str, Any], made: Made
) -> Made:
    del logical
    function, name = properties["FunctionName"], properties["Name"]
    deployment.call("UpdateAlias", FunctionName=function, Name=name, **_alias_settings(properties))
    return _provisioned(deployment, properties, made)


def _provisioned(deployment: Deployment, properties: Mapping[str, Any], made: Made) -> Made:
    wanted = properties.get("ProvisionedConcurrencyConfig") or {}
    named = {"FunctionName": properties["FunctionName"], "Qualifier": properties["Name"]}
    if wanted:
        count = int(wanted["ProvisionedConcurrentExecutions"])
        deployment.call(
            "PutProvisionedConcurrencyConfig", **named, ProvisionedConcurrentExecutions=count
        )
    else:
        deployment.call("DeleteProvisionedConcurrencyConfig", **named)
    return made


def _delete_alias(deployment: Deployment, made: Made) -> None:
    function, _, name = made.id.rpartition(":")
    deployment.call("DeleteAlias", FunctionName=function, Name=name)


def _create_layer(deployment: Deployment, logical: str, properties: Mapping[str, Any]) -> Made:
    shown = deployment.call(
        "PublishLayerVersion",
        LayerName=properties.get("LayerName") or deployment.name(logical),
        Content=deployment.content(properties["Content"]),
        **{
            name: properties.get(name)
            for name in (
                "Description",
                "CompatibleRuntimes",
                "CompatibleArchitectures",
                "LicenseInfo",
            )
        },
    )
    arn = str(shown["LayerVersionArn"])
    return Made(arn, {"LayerVersionArn": arn})


def _delete_layer(deployment: Deployment, made: Made) -> None:
    layer, _, number = made.id.rpartition(":")
    deployment.call("DeleteLayerVersion", LayerName=layer, VersionNumber=int(number))


def _create_permission(deployment: Deployment, logical: str, properties: Mapping[str, Any]) -> Made:
    statement = deployment.name(logical)
    given = {name: value for name, value in properties.items() if name != "FunctionName"}
    try:
        deployment.call(
            "AddPermission",
            FunctionName=properties["FunctionName"],
            StatementId=statement,
            **given,
        )
    except ServerAnswer as answer:
        if answer.error != _TAKEN:  # else an interrupted deployment has added it
            raise
    return Made(statement, {"FunctionName": str(properties["FunctionName"])})


def _delete_permission(deployment: Deployment, made: Made) -> None:
    deployment.call(
        "RemovePermission", FunctionName=made.attributes["FunctionName"], StatementId=made.id
    )


def _url_named(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "FunctionName": properties["TargetFunctionArn"],
        "Qualifier": properties.get("Qualifier"),
    }


def _url_settings(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name: properties.get(name) for name in ("AuthType", "Cors", "InvokeMode")}


def _create_url(deployment: Deployment, logical: str, properties: Mapping[str, Any]) -> Made:
    del logical
    shown = deployment.call(
        "CreateFunctionUrlConfig", **_url_named(properties), **_url_settings(properties)
    )
    return _url(shown)


def _update_url(
    deployment: Deployment, logical: str, properties: Mapping[str, Any], made: Made
) -> Made:
    del logical, made
    shown = deployment.call(
        "UpdateFunctionUrlConfig", **_url_named(properties), **_url_settings(properties)
    )
    return _url(shown)


def _url(shown: Mapping[str, Any]) -> Made:
    arn = str(shown["FunctionArn"])
    return Made(arn, {"FunctionUrl": str(shown["FunctionUrl"]), "FunctionArn": arn})


def _delete_url(deployment: Deployment, made: Made) -> None:
    deployment.call("DeleteFunctionUrlConfig", FunctionName=made.id)


def _create_mapping(deployment: Deployment, logical: str, properties: Mapping[str, Any]) -> Made:
    del logical
    shown = deployment.call("CreateEventSourceMapping", **_mapping(properties))
    return Made(str(shown["UUID"]), {"Id": str(shown["UUID"])})


def _mapping(properties: Mapping[str, Any]) -> dict[str, Any]:
    tags = _tags(properties)
    return {**properties, "Tags": tags or None}


_MAPPING_FIXED = frozenset(
    {"EventSourceArn", "StartingPosition", "StartingPositionTimestamp", "Topics", "Queues",
     "SelfManagedEventSource", "AmazonManagedKafkaEventSourceConfig",
     "SelfManagedKafkaEventSourceConfig"}
)  # fmt: skip


def _update_mapping(
    deployment: Deployment, logical: str, properties: Mapping[str, Any], made: Made
) -> Made:
    del logical
    changed = {
        name: value
        for name, value in properties.items()
        if name not in _MAPPING_FIXED and name != "Tags"
    }
    _settled(deployment, made.id)
    deployment.call("UpdateEventSourceMapping", UUID=made.id, **changed)
    return made


def _settled(deployment: Deployment, uuid: str) -> None:
    clock = SystemClock()
    end = clock.monotonic() + _READY_WITHIN_S
    while True:
        state = deployment.call("GetEventSourceMapping", UUID=uuid)["State"]
        if state in ("Enabled", "Disabled") or clock.monotonic() >= end:
            return
        time.sleep(_POLL_S)


def _delete_mapping(deployment: Deployment, made: Made) -> None:
    _settled(deployment, made.id)
    deployment.call("DeleteEventSourceMapping", UUID=made.id)


def _put_event_config(deployment: Deployment, logical: str, properties: Mapping[str, Any]) -> Made:
    del logical
    deployment.call("PutFunctionEventInvokeConfig", **properties)
    qualifier = str(properties.get("Qualifier", ""))
    return Made(
        f"{properties['FunctionName']}|{qualifier}",
        {"FunctionName": str(properties["FunctionName"]), "Qualifier": qualifier},
    )


def _change_event_config(
    deployment: Deployment, logical: str, properties: Mapping[str, Any], made: Made
) -> Made:
    del made
    return _put_event_config(deployment, logical, properties)


def _delete_event_config(deployment: Deployment, made: Made) -> None:
    deployment.call(
        "DeleteFunctionEventInvokeConfig",
        FunctionName=made.attributes["FunctionName"],
        Qualifier=made.attributes["Qualifier"] or None,
    )


def _name_role(deployment: Deployment, logical: str, properties: Mapping[str, Any]) -> Made:
    """A role is a name here: functions run with what the platform gives them."""
    name = str(properties.get("RoleName") or deployment.name(logical))
    return Made(name, {"Arn": f"arn:aws:iam::{deployment.account}:role/{name}"})


def _same_role(
    deployment: Deployment, logical: str, properties: Mapping[str, Any], made: Made
) -> Made:
    del made
    return _name_role(deployment, logical, properties)


def _nothing(deployment: Deployment, made: Made) -> None:
    del deployment, made


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "AWS::Lambda::Function": Kind(
            _create_function, _update_function, _delete_function,
            frozenset({"FunctionName", "PackageType"}),
        ),
        "AWS::Lambda::Version": Kind(_create_version, None, _delete_version),
        "AWS::Lambda::Alias": Kind(
            _create_alias, _update_alias, _delete_alias, frozenset({"FunctionName", "Name"})
        ),
        "AWS::Lambda::LayerVersion": Kind(_create_layer, None, _delete_layer),
        "AWS::Lambda::Permission": Kind(_create_permission, None, _delete_permission),
        "AWS::Lambda::Url": Kind(
            _create_url, _update_url, _delete_url, frozenset({"TargetFunctionArn", "Qualifier"})
        ),
        "AWS::Lambda::EventSourceMapping": Kind(
            _create_mapping, _update_mapping, _delete_mapping, _MAPPING_FIXED
        ),
        "AWS::Lambda::EventInvokeConfig": Kind(
            _put_event_config, _change_event_config, _delete_event_config,
            frozenset({"FunctionName", "Qualifier"}),
        ),
        "AWS::IAM::Role": Kind(_name_role, _same_role, _nothing),
    }
)  # fmt: skip
"""What can be deployed; whatever else a template has is refused before anything is made."""
