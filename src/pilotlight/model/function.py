"""Functions, their code and their URLs, as plain data.

A `FunctionVersion` is everything the data plane needs to run a version; it is what the
registry stores, what the change feed carries and what a frontend holds in its view.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pilotlight.model.ids import AccountId, Digest, RuntimeName
from pilotlight.model.isolation import Isolation as Isolation  # noqa: PLC0414  (exported here too)

LATEST = "$LATEST"


class FunctionState(StrEnum):
    """``State`` of a function version, with the API's spelling."""

    PENDING = "Pending"
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    FAILED = "Failed"


class UpdateStatus(StrEnum):
    """``LastUpdateStatus`` of a function, with the API's spelling."""

    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    IN_PROGRESS = "InProgress"


class LogFormat(StrEnum):
    """``LoggingConfig.LogFormat``."""

    TEXT = "Text"
    JSON = "JSON"


@dataclass(frozen=True, slots=True)
class Code:
    """One uploaded package.

    Attributes:
        sha256: base64 of the package's SHA-256 (``CodeSha256`` of the API).
        size_bytes: size of the package as uploaded.
        package: digest of the package; names its blob and its unpacked tree in the code cache.
        unzipped_bytes: size of its files; 0 where an older release did not write it down.
    """

    sha256: str
    size_bytes: int
    package: Digest
    unzipped_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer version as a function uses it; it runs on when the layer version is deleted."""

    arn: str
    code: Code


def merged_digest(packages: Sequence[Digest]) -> Digest:
    """Name of the tree that packages make, unpacked over one another in this order."""
    named = hashlib.sha256(b"merged packages 1")
    for package in packages:
        named.update(package.encode())
    return Digest(named.hexdigest())


@dataclass(frozen=True, slots=True)
class Logging:
    """``LoggingConfig``; the levels are None unless the format is JSON."""

    log_group: str
    log_format: LogFormat = LogFormat.TEXT
    application_level: str | None = None
    system_level: str | None = None


@dataclass(frozen=True, slots=True)
class FunctionVersion:
    """One version of a function with its whole configuration. Units are in the names.

    Attributes:
        environment: variables in the open: between a call and its commit, and in records of old
            releases. Records that are written now have them sealed.
        sealed_environment: the variables, encrypted for this function's ARN.
        passive: members of the API's configuration that are stored and returned but do not act
            here (``VpcConfig``, ``TracingConfig``, …), by the API's member names, as JSON values.
        layers: what appears at ``/opt``, later ones over earlier ones.
        isolation: the sandbox the function asks for; None means the account's default.
        revision_id: changes with every change of this version (``RevisionId`` of the API).
    """

    account: AccountId
    region: str
    name: str
    version: str
    runtime: RuntimeName | None
    handler: str | None
    role: str
    code: Code
    logging: Logging
    last_modified: str
    revision_id: str
    description: str = ""
    timeout_s: int = 3
    memory_mib: int = 128
    ephemeral_mib: int = 512
    architecture: str = "x86_64"
    package_type: str = "Zip"
    environment: Mapping[str, str] | None = None
    sealed_environment: str | None = None
    passive: Mapping[str, object] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    isolation: Isolation | None = None
    state: FunctionState = FunctionState.ACTIVE
    state_reason: str | None = None
    state_reason_code: str | None = None
    last_update_status: UpdateStatus = UpdateStatus.SUCCESSFUL
    last_update_reason: str | None = None
    last_update_reason_code: str | None = None

    @property
    def arn(self) -> str:
        """ARN without a qualifier."""
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{self.name}"

    @property
    def qualified_arn(self) -> str:
        """ARN with the version as qualifier."""
        return f"{self.arn}:{self.version}"

    @property
    def layer_packages(self) -> tuple[Digest, ...]:
        """Packages of the layers, in their order."""
        return tuple(layer.code.package for layer in self.layers)

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What an execution environment is bound to: a change of code or configuration ends it."""
        return (self.account, self.name, self.version, self.revision_id)


@dataclass(frozen=True, slots=True)
class FunctionUrl:
    """A public HTTP address of a function.

    Attributes:
        url_id: label in the host name, 32 lower-case letters and digits.
        qualifier: alias the URL belongs to, or None for the unqualified function.
        is_public: a resource policy admits anybody (``lambda:InvokeFunctionUrl`` for ``*``
            with ``FunctionUrlAuthType`` NONE). Without it AuthType NONE still answers 403.
        callers: principals that a resource policy admits when they sign (AuthType AWS_IAM): ARNs,
            an account as the ARN of its root, or ``*``.
    """

    url_id: str
    account: AccountId
    region: str
    function: str
    qualifier: str | None
    auth_type: str
    invoke_mode: str = "BUFFERED"
    is_public: bool = False
    callers: tuple[str, ...] = ()
    cors: Mapping[str, object] | None = None
    created: str = ""
    last_modified: str = ""
