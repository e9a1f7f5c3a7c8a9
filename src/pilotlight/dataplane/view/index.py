"""What a view knows: records as last seen, decoded for lookups. Nothing here waits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from pilotlight.model.events import (
    DEFAULT_AGE_S,
    DEFAULT_CONFIG,
    DEFAULT_RETRIES,
    AsyncConfig,
)
from pilotlight.model.function import LATEST, FunctionUrl, FunctionVersion
from pilotlight.model.routing import Draw, chosen
from pilotlight.ports.functions import Resolved
from pilotlight.ports.registry import Change
from pilotlight.wire import records
from pilotlight.wire.records import (
    Alias,
    EventInvokeConfig,
    FunctionRecord,
    UnknownSchema,
    UrlRecord,
    VersionRecord,
)

log = logging.getLogger(__name__)

Name = tuple[str, str, str]
"""Kind, account and key of a record."""


@dataclass(frozen=True, slots=True)
class _Function:
    """A function as it runs: its ``$LATEST``, its aliases, and what its events are treated by."""

    latest: FunctionVersion
    aliases: Mapping[str, Alias]
    event_configs: Mapping[str, AsyncConfig]
    reserved: int | None
    provisioned: Mapping[str, int]

    def kept(self) -> dict[str, int]:
        """Environments to keep ready, by version."""
        kept: dict[str, int] = {}
        for qualifier, count in self.provisioned.items():
            alias = self.aliases.get(qualifier)
            kept[qualifier if alias is None else alias.version] = count
        return kept


def _function(body: bytes) -> _Function:
    """What runs as ``$LATEST``: what is served, or for a function still being made its shell."""
    record = records.decode(FunctionRecord, body)
    configs = {key: _async_config(config) for key, config in record.event_configs.items()}
    provisioned = {key: value.requested for key, value in record.provisioned.items()}
    return _Function(
        record.serving or record.current, record.aliases, configs, record.reserved, provisioned
    )


def _async_config(config: EventInvokeConfig) -> AsyncConfig:
    return AsyncConfig(
        retries=DEFAULT_RETRIES if config.retries is None else config.retries,
        age_s=DEFAULT_AGE_S if config.age_s is None else config.age_s,
        on_success=config.on_success,
        on_failure=config.on_failure,
    )


def _version(body: bytes) -> FunctionVersion:
    record = records.decode(VersionRecord, body)
    return record.serving or record.function


_DECODERS: Mapping[str, Callable[[bytes], object]] = MappingProxyType(
    {
        records.FUNCTION: _function,
        records.VERSION: _version,
        records.URL: lambda body: records.decode(UrlRecord, body).url,
    }
)


class Index:
    """Records by kind. ``revision`` is the newest change applied.

    A record that cannot be read (a newer release wrote it, or it is damaged) leaves what was known
    under its name: the last state that was understood goes on being served.

    Args:
        draw: uniform numbers from 0 up to 1, for aliases that mean two versions.
    """

    def __init__(self, draw: Draw) -> None:
        self.revision = 0
        self._draw = draw
        self.unreadable: set[Name] = set()
        self._functions: dict[tuple[str, str], _Function] = {}
        self._versions: dict[tuple[str, str], FunctionVersion] = {}
        self._urls: dict[str, FunctionUrl] = {}
        self.reservations: dict[tuple[str, str], int] = {}
        self.provisioned: dict[tuple[str, str, str], int] = {}
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
        elif isinstance(value, _Function):
            self._forget_limits(key)
            self._functions[key] = value
            if value.reserved is not None:
                self.reservations[key] = value.reserved
            for version, count in value.kept().items():
                self.provisioned[*key, version] = count
        elif isinstance(value, FunctionVersion):
            self._versions[key] = value

    def _forget(self, change: Change) -> None:
        key = (change.account, change.key)
        if change.kind == records.FUNCTION:
            self._forget_limits(key)
            self._functions.pop(key, None)
        elif change.kind == records.VERSION:
            self._versions.pop(key, None)
        else:
            self._urls.pop(change.key, None)

    def _forget_limits(self, key: tuple[str, str]) -> None:
        former = self._functions.get(key)
        if former is not None:
            self.reservations.pop(key, None)
            for version in former.kept():
                self.provisioned.pop((*key, version), None)

    def resolve(self, account: str, name: str, qualifier: str | None) -> Resolved | None:
        """See `FunctionView.resolve`."""
        function = self._functions.get((account, name))
        if function is None:
            return None
        if qualifier is None or qualifier == LATEST:
            return Resolved(function.latest, qualifier)
        number, alias = qualifier, function.aliases.get(qualifier)
        if alias is not None:
            number = chosen(alias.version, alias.weights, self._draw)
            if number == LATEST:
                return Resolved(function.latest, qualifier)
        version = self._versions.get((account, records.qualified_key(name, number)))
        return None if version is None else Resolved(version, qualifier)

    def async_config(self, account: str, name: str, qualifier: str | None) -> AsyncConfig:
        """See `AsyncConfigs.async_config`."""
        function = self._functions.get((account, name))
        if function is None:
            return DEFAULT_CONFIG
        return function.event_configs.get(qualifier or LATEST, DEFAULT_CONFIG)

    def url(self, url_id: str) -> FunctionUrl | None:
        """See `FunctionView.url`."""
        return self._urls.get(url_id)

    def functions(self) -> tuple[FunctionVersion, ...]:
        """Every function as it would run now, in no particular order."""
        return tuple(function.latest for function in self._functions.values())

    def snapshot(self) -> tuple[Change, ...]:
        """The records that make this index, for saving."""
        return tuple(self._bodies.values())
