"""Accounts and keys: who may call, and the protocol that tells callers who they are."""

from pilotlight.control.identity.admin import IdentityCalls
from pilotlight.control.identity.directory import Directory
from pilotlight.control.identity.sts import StsProtocol

__all__ = ["Directory", "IdentityCalls", "StsProtocol"]
