"""What a view knows: records as last seen, decoded for lookups. Nothing here waits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import msgspec

from pilotlight.model.function import LATEST, FunctionUrl, FunctionVersion
from pilotlight.ports.functions import Resolved
from pilotlight.ports.registry import Change
from pilotlight.wire import records
from pilotlight.wire.records import (
    AliasRecord,
    FunctionRecord,
    UnknownSchema,
    UrlRecord,
    VersionRecord,
)

log = logging.getLogger(__name__)

Name = tuple[str, str, str]
"""Kind, account and key of a record."""


def _function(body: bytes) -> FunctionVersion:
    """What runs as ``$LATEST``: what is served, or for a function still being made its shell."""
    record = records.decode(FunctionRecord, body)
    return record.current if record.serving is None else record.serving


_DECODERS: Mapping[str, Callable[[bytes], object]] = MappingProxyType(
    {
        records.FUNCTION: _function,
        records.VERSION: lambda body: records.decode(VersionRecord, body).function,
        records.ALIAS: lambda body: records.decode(AliasRecord, body).version,
        records.URL: lambda body: records.decode(UrlRecord, body).url,
    }
)


class Index:
    """Records by kind. ``revision`` is the newest change applied.

    A record that cannot be read (a newer release wrote it, or it is damaged) leaves what was known
    under its name: the last state that was understood goes on being served.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.unreadable: set[Name] = set()
        self._latest: dict[tuple[str, str], FunctionVersion] = {}
        self._versions: dict[tuple[str, str], FunctionVersion] = {}
        self._aliases: dict[tuple[str, str], str] = {}
        self._urls: dict[str, FunctionUrl] = {}
        self._bodies: dict[Name, Change] = {}

    def apply(self, changes: Iterable[Change]) -> None:
        """Apply entries of the feed in their order; applying one twice is harmless."""
        for change in changes:
            self._apply(change)
            self.revision = max(self.revision, change.revision)

    def _apply(self, change: Change) -> None:
        decoder = _DECODERS.get(change.kind)
        if decoder is None:
            return  # a kind that is not about running functions
        name = (change.kind, change.account, change.key)
        if change.body is None:
            self._forget(change)
            self._bodies.pop(name, None)
            self.unreadable.discard(name)
            return
        try:
            value = decoder(change.body)
        except (msgspec.MsgspecError, UnknownSchema):
            self.unreadable.add(name)
            log.exception("unreadable_record", extra={"record": ":".join(name)})
            return
        self.unreadable.discard(name)
        self._bodies[name] = change
        self._remember(change, value)

    def inherit(self, former: Index) -> None:
        """Take over what a former index understood of records that this one cannot read."""
        for name in self.unreadable:
            change = former._bodies.get(name)
            if change is not None and change.body is not None:
                self._bodies[name] = change
                self._remember(change, _DECODERS[change.kind](change.body))

    def _remember(self, change: Change, value: object) -> None:
        key = (change.account, change.key)
        if isinstance(value, FunctionUrl):
            self._urls[change.key] = value
        elif isinstance(value, str):
            self._aliases[key] = value
        elif isinstance(value, FunctionVersion):
            table = self._latest if change.kind == records.FUNCTION else self._versions
            table[key] = value

    def _forget(self, change: Change) -> None:
        key = (change.account, change.key)
        if change.kind == records.FUNCTION:
            self._latest.pop(key, None)
        elif change.kind == records.VERSION:
            self._versions.pop(key, None)
        elif change.kind == records.ALIAS:
            self._aliases.pop(key, None)
        else:
            self._urls.pop(change.key, None)

    def resolve(self, account: str, name: str, qualifier: str | None) -> Resolved | None:
        """See `FunctionView.resolve`."""
        if qualifier is None or qualifier == LATEST:
            function = self._latest.get((account, name))
        else:
            key = records.qualified_key(name, qualifier)
            version = self._aliases.get((account, key))
            if version is not None:
                key = records.qualified_key(name, version)
            function = self._versions.get((account, key))
        return None if function is None else Resolved(function, qualifier)

    def url(self, url_id: str) -> FunctionUrl | None:
        """See `FunctionView.url`."""
        return self._urls.get(url_id)

    def functions(self) -> tuple[FunctionVersion, ...]:
        """Every function as it would run now, in no particular order."""
        return tuple(self._latest.values())

    def snapshot(self) -> tuple[Change, ...]:
        """The records that make this index, for saving."""
        return tuple(self._bodies.values())
