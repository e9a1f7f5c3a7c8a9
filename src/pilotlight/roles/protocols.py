"""Protocols of other AWS services that the API's listener speaks besides Lambda's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pilotlight.control.cloudwatch import LogGroups, LogsProtocol
from pilotlight.control.gateway.bodies import ByteBudget
from pilotlight.control.gateway.exchange import Responder
from pilotlight.control.gateway.metered import Authenticator, MeteredAuthenticator
from pilotlight.control.identity import StsProtocol
from pilotlight.control.staging import Staging, StagingProtocol
from pilotlight.ports.clock import Clock
from pilotlight.ports.rates import RateLimits
from pilotlight.ports.registry import RegistryStore
from pilotlight.ports.telemetry import LogReader

_BODIES_BYTES: Final = 4 * 1024 * 1024
"""Bodies of these protocols held at once; each is small."""

_OBJECTS_BYTES: Final = 512 * 1024 * 1024
"""Bodies of objects held at once."""


def protocols(
    store: RegistryStore,
    logs: LogReader,
    authenticator: Authenticator,
    rates: RateLimits,
    clock: Clock,
    staging: Staging,
) -> Mapping[str, Responder]:
    """What answers, by the name of the service in a signature's scope."""
    metered, budget = MeteredAuthenticator(authenticator, rates), ByteBudget(_BODIES_BYTES)
    groups = LogGroups(store, logs, clock)
    return {
        "logs": LogsProtocol(groups, logs, metered, budget).respond,
        "sts": StsProtocol(metered, budget).respond,
        "s3": StagingProtocol(staging, metered, ByteBudget(_OBJECTS_BYTES)).respond,
    }
