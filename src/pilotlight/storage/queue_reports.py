"""Reading the queue for people and metrics, and forgetting what is old."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import sqlalchemy as sa

from pilotlight.model.events import (
    Attempt,
    Condition,
    EventStory,
    EventTotals,
    StoredUndelivered,
    Undelivered,
)
from pilotlight.storage.queue_schema import ACCEPTED, ended, events, totals, undelivered

_attempts = msgspec.json.Decoder(tuple[Attempt, ...])
_attributes = msgspec.json.Decoder(dict[str, str])


@dataclass(frozen=True, slots=True)
class Kept:
    """How long ended events and undelivered records are kept.

    Attributes:
        before_s: those that ended before this wall time are removed.
        most: the oldest are removed beyond this number of each.
        most_bytes: the oldest are removed beyond this size of the payloads of each.
    """

    before_s: float
    most: int
    most_bytes: int


def read_totals(connection: sa.Connection) -> EventTotals:
    """Counts of one moment."""
    rows = connection.execute(sa.select(totals.c.name, totals.c.count))
    counts: dict[str, int] = {row[0]: row[1] for row in rows}
    waiting, oldest_s = connection.execute(
        sa.select(sa.func.count(), sa.func.min(events.c.accepted_s)).select_from(events)
    ).one()
    kept = connection.execute(sa.select(sa.func.count()).select_from(undelivered)).scalar_one()
    return EventTotals(
        accepted=counts.get(ACCEPTED, 0),
        succeeded=counts.get(Condition.SUCCESS.value, 0),
        exhausted=counts.get(Condition.RETRIES_EXHAUSTED.value, 0),
        expired=counts.get(Condition.EVENT_AGE_EXCEEDED.value, 0),
        waiting=waiting,
        undelivered=kept,
        oldest_s=oldest_s,
    )


def read_story(connection: sa.Connection, account: str, request_id: str) -> EventStory | None:
    """What is known of one event."""
    for table in (events, ended):
        mine = sa.select(table).where(table.c.account == account, table.c.request_id == request_id)
        row = connection.execute(mine).mappings().first()
        if row is not None:
            return _story(row)
    return None


def read_failed(connection: sa.Connection, account: str, limit: int) -> list[EventStory]:
    """Events of an account that did not succeed, the newest first, without their payloads."""
    columns = [column for column in ended.c if column.name != "payload"]
    chosen = (
        sa.select(*columns)
        .where(ended.c.account == account, ended.c.condition != Condition.SUCCESS.value)
        .order_by(ended.c.id.desc())
        .limit(limit)
    )
    return [_story(row) for row in connection.execute(chosen).mappings()]


def read_waiting(connection: sa.Connection, account: str, limit: int) -> list[EventStory]:
    """Events of an account that have not ended, in the order of their lanes."""
    columns = [column for column in events.c if column.name != "payload"]
    chosen = (
        sa.select(*columns)
        .where(events.c.account == account)
        .order_by(events.c.account, events.c.function, events.c.due_s)
        .limit(limit)
    )
    return [_story(row) for row in connection.execute(chosen).mappings()]


def _story(row: sa.RowMapping) -> EventStory:
    condition = row.get("condition")
    return EventStory(
        request_id=row["request_id"],
        account=row["account"],
        function=row["function"],
        qualifier=row["qualifier"],
        accepted_s=row["accepted_s"],
        condition=None if condition is None else Condition(condition),
        reason=row.get("reason", ""),
        attempts=_attempts.decode(row["attempts"]),
        ended_s=row.get("ended_s"),
        due_s=row.get("due_s"),
        payload=row.get("payload"),
    )


def read_undelivered(
    connection: sa.Connection, account: str, limit: int
) -> list[StoredUndelivered]:
    """Records of an account whose target could not be reached, the newest first."""
    chosen = (
        sa.select(undelivered)
        .where(undelivered.c.account == account)
        .order_by(undelivered.c.id.desc())
        .limit(limit)
    )
    return [
        StoredUndelivered(
            id=row["id"],
            request_id=row["request_id"],
            function=row["function"],
            stored_s=row["stored_s"],
            record=Undelivered(
                kind=row["kind"],
                target=row["target"],
                body=row["body"],
                reason=row["reason"],
                attributes=_attributes.decode(row["attributes"]),
            ),
        )
        for row in connection.execute(chosen).mappings()
    ]


def prune(connection: sa.Connection, kept: Kept) -> int:
    """Remove what is too old or too much; return how many rows."""
    removed = 0
    for table, at, body in (
        (ended, ended.c.ended_s, ended.c.payload),
        (undelivered, undelivered.c.stored_s, undelivered.c.body),
    ):
        removed += connection.execute(sa.delete(table).where(at < kept.before_s)).rowcount
        oldest = _oldest_kept(connection, table, body, kept)
        if oldest is not None:
            removed += connection.execute(sa.delete(table).where(table.c.id < oldest)).rowcount
    return removed


def _oldest_kept(
    connection: sa.Connection, table: sa.Table, body: sa.ColumnElement[bytes], kept: Kept
) -> int | None:
    """Id of the oldest row that number and size leave; None when all may stay."""
    size = sa.func.coalesce(sa.func.length(body), 0)
    count, total = connection.execute(
        sa.select(sa.func.count(), sa.func.sum(size)).select_from(table)
    ).one()
    if count <= kept.most and (total or 0) <= kept.most_bytes:
        return None
    left, oldest = kept.most_bytes, 0
    newest_first = sa.select(table.c.id, size).order_by(table.c.id.desc()).limit(kept.most)
    for number, length in connection.execute(newest_first):
        left -= length
        if left < 0:
            return oldest or number + 1
        oldest = number
    return oldest
