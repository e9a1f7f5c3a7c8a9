"""Every account and access key, in memory: what authentication looks at.

Follows the registry's changes, so nothing waits when a request comes. Access keys are found by
their ids, which are no secrets. A record that cannot be read lets nobody in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from pilotlight.control.gateway.auth import RootCredentials
from pilotlight.model.errors import FeedCompacted
from pilotlight.model.ids import AccountId
from pilotlight.ports.registry import Change, RegistryStore
from pilotlight.ports.sealing import SealBroken, Sealer
from pilotlight.wire import identities, records
from pilotlight.wire.identities import AccessKeyRecord, AccountRecord, key_owner

log = logging.getLogger(__name__)

_PAGE: Final = 1000
_RETRY_S: Final = 0.5


class Directory:
    """Finds keys. A `Part`: ready once everybody is known.

    While the registry is away it goes on with what it has (decision D6).

    Args:
        store: of the records.
        sealer: opens the secrets.
    """

    name = "identities"

    def __init__(self, store: RegistryStore, sealer: Sealer) -> None:
        self._store = store
        self._sealer = sealer
        self._accounts: dict[str, AccountRecord] = {}
        self._keys: dict[str, AccessKeyRecord] = {}
        self._opened: dict[str, RootCredentials] = {}
        self._revision = 0
        self._advanced = asyncio.Event()

    def find(self, access_key: str) -> RootCredentials | None:
        """A key that may sign now; None where it is unknown, or its account is gone."""
        key = self._keys.get(access_key)
        if key is None or key.account not in self._accounts:
            return None
        known = self._opened.get(access_key)
        if known is None:
            try:
                secret = self._sealer.open(key.secret, key_owner(key.id)).decode()
            except (SealBroken, UnicodeDecodeError):
                log.error("access_key_unreadable", extra={"access_key": key.id})  # noqa: TRY400
                return None
            known = RootCredentials(AccountId(key.account), key.id, secret)
            self._opened[access_key] = known
        return known

    async def run(self, ready: Callable[[], None]) -> None:
        """Follow the registry until cancelled."""
        while True:
            try:
                await self._advance()
                ready()
                await self._store.wait_beyond(self._revision)
            except FeedCompacted:
                self._forget()
            except Exception:
                log.warning("registry_away", extra={"revision": self._revision}, exc_info=True)
                await asyncio.sleep(_RETRY_S)

    async def reached(self, revision: int) -> None:
        """Return once every change up to a revision acts."""
        while self._revision < revision:
            await self._advanced.wait()

    async def _advance(self) -> None:
        while changes := await self._store.changes(self._revision, _PAGE):
            self._apply(changes)
            self._revision = max(change.revision for change in changes)
            self._advanced.set()
            self._advanced = asyncio.Event()

    def _forget(self) -> None:
        """Begin again: what is not in the feed any more is gone."""
        self._accounts.clear()
        self._keys.clear()
        self._opened.clear()
        self._revision = 0

    def _apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if change.kind in identities.KINDS:
                self._one(change)

    def _one(self, change: Change) -> None:
        is_key = change.kind == identities.ACCESS_KEY
        if is_key:
            self._keys.pop(change.key, None)
            self._opened.pop(change.key, None)
        else:
            self._accounts.pop(change.account, None)
        if change.body is None:
            return
        try:
            if is_key:
                self._keys[change.key] = records.decode(AccessKeyRecord, change.body)
            else:
                account = records.decode(AccountRecord, change.body)
                self._accounts[change.account] = account
        except (msgspec.MsgspecError, records.UnknownSchema):
            name = f"{change.kind}:{change.account}:{change.key}"
            log.exception("unreadable_record", extra={"record": name})
