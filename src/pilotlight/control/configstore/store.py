"""Settings of an account that may change while the platform runs.

An account without a record has the defaults. The version of a configuration is the revision of the
commit that wrote it, 0 for the defaults; a write names the version it is based on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from pilotlight.model import limits
from pilotlight.model.errors import ConfigurationError
from pilotlight.model.function import Isolation
from pilotlight.ports.registry import Put, RegistryStore

KIND: Final = "config"
_KEY: Final = "account"


class AccountConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Quotas, defaults and flags of one account. Units are in the names.

    Attributes:
        concurrent_executions: running invocations of all functions together.
        default_isolation: for functions that ask for none; None means the installation's.
        flags: switches by name, for features that are off unless asked for.
    """

    schema: int = 1
    concurrent_executions: int = limits.ACCOUNT_CONCURRENCY
    total_code_bytes: int = limits.TOTAL_CODE_BYTES
    default_isolation: Isolation | None = None
    flags: Mapping[str, bool] = {}


@dataclass(frozen=True, slots=True)
class VersionedConfig:
    """A configuration and the version a change of it must name."""

    config: AccountConfig
    version: int


class ConfigStore:
    """Reads and writes account configurations."""

    def __init__(self, store: RegistryStore, defaults: AccountConfig | None = None) -> None:
        self._store = store
        self._defaults = defaults or AccountConfig()

    async def get(self, account: str) -> VersionedConfig:
        """The account's configuration now."""
        record = await self._store.get(KIND, account, _KEY)
        if record is None:
            return VersionedConfig(self._defaults, 0)
        return VersionedConfig(
            msgspec.json.decode(record.body, type=AccountConfig), record.revision
        )

    async def put(self, account: str, config: AccountConfig, *, based_on: int) -> int:
        """Replace the configuration; return its new version.

        Raises:
            ConfigurationError: a value is out of range; all faults at once.
            RevisionConflict: ``based_on`` is no longer the current version.
        """
        faults = _faults(config)
        if faults:
            raise ConfigurationError("; ".join(faults))
        body = msgspec.json.encode(config)
        return await self._store.commit((Put(KIND, account, _KEY, body, if_revision=based_on),))


def _faults(config: AccountConfig) -> list[str]:
    faults: list[str] = []
    if config.concurrent_executions < 0:
        faults.append(f"concurrent_executions is {config.concurrent_executions}, must be >= 0")
    if config.total_code_bytes < 0:
        faults.append(f"total_code_bytes is {config.total_code_bytes}, must be >= 0")
    return faults
