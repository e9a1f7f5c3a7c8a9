"""What the operations of the Function API work with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pilotlight.control.configstore import ConfigStore
from pilotlight.control.registry import Functions, Scope, Transitions, UploadGuard, UsageLedger
from pilotlight.control.registry.collection import Collection
from pilotlight.control.registry.layers import Layers
from pilotlight.control.registry.mappings import MappingTransitions
from pilotlight.ports.clock import Clock
from pilotlight.ports.code import CodeIntake
from pilotlight.ports.functions import Kept
from pilotlight.ports.ids import IdSource
from pilotlight.ports.sealing import Sealer
from pilotlight.wire.records import CodeSigningRecord, EventSourceMappingRecord


class StagedCode(Protocol):
    """Finds packages that were uploaded before."""

    async def package(self, account: str, bucket: str, key: str, version: str | None) -> bytes:
        """The package.

        Raises:
            PlatformError: its code and text are S3's.
        """
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """Dependencies of the operations.

    Attributes:
        usage: what accounts store, for their quotas.
        kept: what is ready of the environments to keep, by account, function and version.
        mapping_names: held from the search for an equal event source mapping to its creation.
        staged: where ``S3Bucket`` and ``S3Key`` point to.
        guard: keeps the collector away from packages that are about to be named.
        url_of: address of a function URL, from its id and the call's region.
    """

    functions: Functions
    usage: UsageLedger
    layers: Layers
    signing: Collection[CodeSigningRecord]
    mappings: Collection[EventSourceMappingRecord]
    mapping_transitions: MappingTransitions
    config: ConfigStore
    intake: CodeIntake
    transitions: Transitions
    guard: UploadGuard
    staged: StagedCode
    sealer: Sealer
    clock: Clock
    ids: IdSource
    kept: Callable[[str, str, str], Kept]
    mapping_names: asyncio.Lock
    url_of: Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated call whose parameters satisfy the model.

    Attributes:
        params: parameters by the API's names, absent ones left out.
        code_link: makes a presigned download address for a package's digest.
    """

    operation: str
    scope: Scope
    params: Mapping[str, Any]
    code_link: Callable[[str], str]


Operation = Callable[[Services, Call], Awaitable[dict[str, Any]]]
"""An operation of the API: returns the output by the API's member names."""
