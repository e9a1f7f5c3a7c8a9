"""Log groups: those that functions write to, and what was said about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pilotlight.control.registry.collection import Collection
from pilotlight.model.errors import ApiError
from pilotlight.ports.clock import Clock
from pilotlight.ports.registry import RegistryStore
from pilotlight.ports.telemetry import LogReader
from pilotlight.wire import records
from pilotlight.wire.records import LogGroupRecord

RETENTION_DAYS: Final = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
)  # fmt: skip
"""What the service lets a group have."""
_DAY_S = 86_400.0
_NAME = re.compile(r"[.\-_/#A-Za-z0-9]{1,512}")
_ARN = re.compile(
    r"arn:aws[a-zA-Z-]*:logs:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):log-group:"
    r"(?P<name>[.\-_/#A-Za-z0-9]{1,512})(?::\*)?"
)


@dataclass(frozen=True, slots=True)
class Group:
    """A log group as clients see it. Lines before ``shown_from_s`` are not part of it."""

    name: str
    created_s: float
    shown_from_s: float
    retention_days: int | None


def name_of(text: object, account: str) -> str:
    """Name of a group from a name or an ARN of the caller's account.

    Raises:
        ApiError: InvalidParameterException or AccessDeniedException.
    """
    if isinstance(text, str):
        match = _ARN.fullmatch(text)
        if match is not None and match["account"] != account:
            raise ApiError("AccessDeniedException", "The log group is of another account.")
        name = text if match is None else match["name"]
        if _NAME.fullmatch(name):
            return name
    raise ApiError(
        "InvalidParameterException",
        "Value at 'logGroupName' failed to satisfy constraint: Member must satisfy regular "
        "expression pattern: [\\.\\-_/#A-Za-z0-9]+",
    )


def absent() -> ApiError:
    """The service's answer for a group that does not exist."""
    return ApiError("ResourceNotFoundException", "The specified log group does not exist.")


_Rule = Callable[[LogGroupRecord], LogGroupRecord]


class LogGroups:
    """The groups of all accounts. Holds no state of its own."""

    def __init__(self, store: RegistryStore, logs: LogReader, clock: Clock) -> None:
        self._said = Collection(store, records.LOG_GROUP, LogGroupRecord)
        self._logs = logs
        self._clock = clock

    async def all(self, account: str) -> list[Group]:
        """Every group of an account, by name."""
        since = {group.name: group.since_s for group in await self._logs.groups(account)}
        said = {record.name: record for record in await self._said.everything(account)}
        found = [
            await self._group(account, name, since.get(name), said.get(name))
            for name in sorted(since.keys() | said.keys())
        ]
        return [group for group in found if group is not None]

    async def get(self, account: str, name: str) -> Group:
        """One group.

        Raises:
            ApiError: ResourceNotFoundException.
        """
        since = {group.name: group.since_s for group in await self._logs.groups(account)}
        said = await self._said.get(account, name)
        group = await self._group(account, name, since.get(name), said)
        if group is None:
            raise absent()
        return group

    async def _group(
        self, account: str, name: str, since_s: float | None, said: LogGroupRecord | None
    ) -> Group | None:
        if said is None:
            return None if since_s is None else Group(name, since_s, 0.0, None)
        if not said.is_made and not await self._has_lines(account, name, said.hidden_before_s):
            return None
        shown_from_s = said.hidden_before_s
        if said.retention_days is not None:
            oldest_s = self._clock.wall() - said.retention_days * _DAY_S
            shown_from_s = max(shown_from_s, oldest_s)
        return Group(name, said.created_wall_s, shown_from_s, said.retention_days)

    async def _has_lines(self, account: str, name: str, after_s: float) -> bool:
        streams = await self._logs.streams(account, name)
        return any(stream.last_s > after_s for stream in streams)

    async def create(self, account: str, name: str, tags: dict[str, str]) -> None:
        """Make a group before anything is written to it.

        Raises:
            ApiError: ResourceAlreadyExistsException.
        """
        exists = ApiError(
            "ResourceAlreadyExistsException", "The specified log group already exists"
        )
        if any(group.name == name for group in await self.all(account)):
            raise exists
        now_s = self._clock.wall()
        fresh = LogGroupRecord(name=name, is_made=True, created_wall_s=now_s, tags=tags)
        if await self._said.create(account, name, fresh):
            return

        def again(old: LogGroupRecord) -> LogGroupRecord:
            if old.is_made:
                raise exists
            return records.replaced(fresh, hidden_before_s=old.hidden_before_s)

        await self._said.change(account, name, again)

    async def delete(self, account: str, name: str) -> None:
        """Delete a group: its lines are shown no more, and go with their files.

        Raises:
            ApiError: ResourceNotFoundException.
        """
        await self.get(account, name)
        now_s = self._clock.wall()
        hidden = LogGroupRecord(
            name=name, is_made=False, created_wall_s=now_s, hidden_before_s=now_s
        )
        if not await self._said.create(account, name, hidden):
            await self._said.change(account, name, lambda _: hidden)

    async def retain(self, account: str, name: str, days: int | None) -> None:
        """Show lines for so many days, None for as long as there are any.

        Raises:
            ApiError: ResourceNotFoundException or InvalidParameterException.
        """
        if days is not None and days not in RETENTION_DAYS:
            raise ApiError(
                "InvalidParameterException",
                "retentionInDays must be one of: " + ", ".join(map(str, RETENTION_DAYS)),
            )
        await self._change(account, name, lambda old: records.replaced(old, retention_days=days))

    async def tags(self, account: str, name: str) -> dict[str, str]:
        """Tags of a group.

        Raises:
            ApiError: ResourceNotFoundException.
        """
        await self.get(account, name)
        said = await self._said.get(account, name)
        return {} if said is None else dict(said.tags)

    async def tag(
        self, account: str, name: str, added: dict[str, str], removed: Sequence[str]
    ) -> None:
        """Add and remove tags.

        Raises:
            ApiError: ResourceNotFoundException.
        """

        def change(old: LogGroupRecord) -> LogGroupRecord:
            merged = {**old.tags, **added}
            kept = {key: value for key, value in merged.items() if key not in removed}
            return records.replaced(old, tags=kept)

        await self._change(account, name, change)

    async def _change(self, account: str, name: str, rule: _Rule) -> None:
        group = await self.get(account, name)
        fresh = LogGroupRecord(name=name, is_made=True, created_wall_s=group.created_s)
        if not await self._said.create(account, name, rule(fresh)):
            await self._said.change(
                account, name, lambda old: rule(records.replaced(old, is_made=True))
            )
