"""Config Store: quotas, defaults and flags of each account, versioned."""

from pilotlight.control.configstore.store import AccountConfig, ConfigStore, VersionedConfig

__all__ = ["AccountConfig", "ConfigStore", "VersionedConfig"]
