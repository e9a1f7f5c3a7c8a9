"""Records of who may call: accounts and their access keys. Times are seconds since 1970."""

from __future__ import annotations

from typing import Final

from pilotlight.wire.records import Stored

ACCOUNT: Final = "account"
"""Kind of an `AccountRecord`; its key is `ACCOUNT_KEY`."""
ACCOUNT_KEY: Final = "account"
ACCESS_KEY: Final = "access-key"
"""Kind of an `AccessKeyRecord`; its key is the access key's id."""
KINDS: Final = frozenset({ACCOUNT, ACCESS_KEY})


class AccountRecord(Stored, frozen=True, kw_only=True):
    """A tenant. ``id``: twelve digits."""

    id: str
    name: str
    created_s: float


class AccessKeyRecord(Stored, frozen=True, kw_only=True):
    """A key pair for signatures; it may do everything in its account.

    Attributes:
        secret: sealed for this key (`key_owner`): SigV4 needs it, so it cannot be hashed.
    """

    account: str
    id: str
    secret: str
    created_s: float


def key_owner(access_key: str) -> str:
    """What the secret of a key is sealed for."""
    return f"access-key/{access_key}"
