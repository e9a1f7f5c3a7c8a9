"""Accounts and access keys through the native API, for the installation's own credentials alone."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import msgspec

from pilotlight.control.gateway.bodies import ByteBudget, read_body
from pilotlight.control.gateway.exchange import Exchange, json_answer
from pilotlight.control.gateway.metered import MeteredAuthenticator
from pilotlight.control.gateway.note import current_note
from pilotlight.control.identity.directory import Directory
from pilotlight.control.registry.collection import Collection
from pilotlight.model.errors import ApiError
from pilotlight.ports.auth import Caller
from pilotlight.ports.clock import Clock
from pilotlight.ports.registry import Delete, Put, RegistryStore
from pilotlight.ports.sealing import Sealer
from pilotlight.wire import identities, records
from pilotlight.wire.identities import AccessKeyRecord, AccountRecord, key_owner
from pilotlight.wire.lambda_api import HttpAnswer

_PATH = re.compile(r"/api/v1/(?P<what>accounts|keys)(?:/(?P<id>[^/]+))?")
_ACCOUNT = re.compile(r"[0-9]{12}")
_NAME = re.compile(r"[A-Za-z0-9 ._-]{1,64}")
_BODY_BYTES = 4096
_KEYS_MAX = 20
"""Keys of one account; more would only be keys that nobody knows any more."""
_KEY_CHARACTERS: Final = string.ascii_uppercase + "234567"
_SECRET_CHARACTERS: Final = string.ascii_letters + string.digits + "+/"


class IdentityCalls:
    """Answers ``/api/v1/accounts`` and ``/api/v1/keys``.

    Args:
        store: of the records.
        sealer: seals secrets.
        clock: for times of creation.
        directory: what a call changed acts in it before the call answers.
        authenticator: of the listener.
        is_admin: who may do this.
        budget: of request bodies.
        root: account of the installation's own credentials.
    """

    def __init__(
        self,
        store: RegistryStore,
        sealer: Sealer,
        clock: Clock,
        directory: Directory,
        authenticator: MeteredAuthenticator,
        *,
        is_admin: Callable[[Caller], bool],
        budget: ByteBudget,
        root: str,
    ) -> None:
        self._store = store
        self._accounts = Collection(store, identities.ACCOUNT, AccountRecord)
        self._keys = Collection(store, identities.ACCESS_KEY, AccessKeyRecord)
        self._sealer = sealer
        self._clock = clock
        self._directory = directory
        self._authenticator = authenticator
        self._is_admin = is_admin
        self._budget = budget
        self._root = root

    def handles(self, path: str) -> bool:
        """Whether a path is answered here."""
        return _PATH.fullmatch(path) is not None

    async def respond(self, exchange: Exchange) -> HttpAnswer:
        """Answer one request.

        Raises:
            PlatformError: the answer is an error.
        """
        match = _PATH.fullmatch(exchange.path)
        assert match is not None  # noqa: S101  see `handles`
        what, identity = match["what"], unquote(match["id"] or "")
        current_note().resource = identity
        pending = await self._authenticator.open(exchange.signed)
        with self._budget.share(pending.access_key) as share:
            body = await read_body(
                exchange.receive,
                declared=exchange.declared_length(),
                most=_BODY_BYTES,
                operation="this call",
                share=share,
            )
            caller = pending.finish(body.sha256)
            content = body.data
        if not self._is_admin(caller):
            raise ApiError(
                "AccessDeniedException",
                "Accounts and keys are managed with the root credentials of the installation.",
                status=403,
            )
        asked = (exchange.method, what, bool(identity))
        if asked == ("POST", what, False):
            make = self._make_account if what == "accounts" else self._make_key
            return json_answer(exchange, await make(_object(content)), status=201)
        if asked == ("GET", what, False):
            listed = self._list_accounts if what == "accounts" else self._list_keys
            return json_answer(exchange, await listed(exchange.query))
        if asked == ("DELETE", what, True):
            remove = self._remove_account if what == "accounts" else self._remove_key
            await remove(identity)
            return json_answer(exchange, {})
        raise ApiError(
            "MethodNotAllowed",
            f"{exchange.path[:256]} does not answer {exchange.method}.",
            status=405,
        )

    async def _make_account(self, content: Mapping[str, Any]) -> dict[str, Any]:
        _check_members(content, {"name", "id"})
        name = content.get("name")
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise _invalid("name has 1 to 64 letters, digits, spaces, dots, hyphens, underscores.")
        identity = content.get("id") or _fresh_account()
        if not isinstance(identity, str) or _ACCOUNT.fullmatch(identity) is None:
            raise _invalid("id has twelve digits.")
        known = await self._accounts.everything()
        if any(account.name == name for account in known):
            raise _conflict(f"There is an account of the name {name!r}.")
        record = AccountRecord(id=identity, name=name, created_s=self._clock.wall())
        put = Put(
            identities.ACCOUNT, identity, identities.ACCOUNT_KEY, records.encode(record),
            if_revision=0,
        )  # fmt: skip
        if identity == self._root or any(account.id == identity for account in known):
            raise _conflict(f"There is an account {identity}.")
        await self._directory.reached(await self._store.commit((put,)))
        return _shown_account(record)

    async def _list_accounts(self, query: str) -> dict[str, Any]:
        del query
        return {"accounts": [_shown_account(a) for a in await self._accounts.everything()]}

    async def _remove_account(self, identity: str) -> None:
        """Remove an account that has nothing any more, with its keys."""
        if await self._accounts.get(identity, identities.ACCOUNT_KEY) is None:
            raise _not_found(f"There is no account {identity[:64]}.")
        for kind, word in _HELD.items():
            if await self._store.list(kind, identity, limit=1):
                raise _conflict(f"The account {identity} still has {word}: delete them first.")
        keys = await self._keys.everything(identity)
        changes: list[Delete] = [Delete(identities.ACCESS_KEY, identity, key.id) for key in keys]
        changes.append(Delete(identities.ACCOUNT, identity, identities.ACCOUNT_KEY))
        await self._directory.reached(await self._store.commit(changes))

    async def _make_key(self, content: Mapping[str, Any]) -> dict[str, Any]:
        _check_members(content, {"account"})
        account = str(content.get("account", ""))
        if await self._accounts.get(account, identities.ACCOUNT_KEY) is None:
            raise _not_found(f"There is no account {account[:64]!r}.")
        if len(await self._keys.everything(account)) >= _KEYS_MAX:
            raise _conflict(f"The account {account} has {_KEYS_MAX} keys: delete one first.")
        identity = "AKIA" + "".join(secrets.choice(_KEY_CHARACTERS) for _ in range(16))
        secret = "".join(secrets.choice(_SECRET_CHARACTERS) for _ in range(40))
        record = AccessKeyRecord(
            account=account,
            id=identity,
            secret=self._sealer.seal(secret.encode(), key_owner(identity)),
            created_s=self._clock.wall(),
        )
        put = Put(identities.ACCESS_KEY, account, identity, records.encode(record), if_revision=0)
        await self._directory.reached(await self._store.commit((put,)))
        return {**_shown_key(record), "secret_access_key": secret}

    async def _list_keys(self, query: str) -> dict[str, Any]:
        named = parse_qs(query).get("account")
        account = named[0] if named else None
        return {"keys": [_shown_key(key) for key in await self._keys.everything(account)]}

    async def _remove_key(self, identity: str) -> None:
        for key in await self._keys.everything():
            if key.id == identity:
                change = Delete(identities.ACCESS_KEY, key.account, key.id)
                await self._directory.reached(await self._store.commit((change,)))
                return
        raise _not_found(f"There is no key {identity[:64]}.")


_HELD: Mapping[str, str] = {
    records.FUNCTION: "functions",
    records.LAYER_VERSION: "layers",
    records.EVENT_SOURCE_MAPPING: "event source mappings",
    records.CODE_SIGNING: "code signing configurations",
}


def _fresh_account() -> str:
    return str(100_000_000_000 + secrets.randbelow(900_000_000_000))


def _shown_account(record: AccountRecord) -> dict[str, Any]:
    return {"id": record.id, "name": record.name, "created": record.created_s}


def _shown_key(record: AccessKeyRecord) -> dict[str, Any]:
    return {"access_key_id": record.id, "account": record.account, "created": record.created_s}


def _object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body or b"{}", type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        raise _invalid("The body is not a JSON object.") from None


def _check_members(content: Mapping[str, Any], known: set[str]) -> None:
    strange = content.keys() - known
    if strange:
        raise _invalid(
            f"Unknown: {', '.join(sorted(strange))[:256]}. Known: {', '.join(sorted(known))}."
        )


def _invalid(message: str) -> ApiError:
    return ApiError("ValidationException", message)


def _conflict(message: str) -> ApiError:
    return ApiError("Conflict", message, status=409)


def _not_found(message: str) -> ApiError:
    return ApiError("NotFound", message, status=404)
