"""What the queue does in a transaction: functions of a connection, run by the writer's thread.

They use SQLAlchemy Core and nothing of SQLite. One transaction writes at a time; a database with
several writers adds row locks where rows are chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from pilotlight.model.events import (
    Attempt,
    AttemptOutcome,
    Condition,
    End,
    Event,
    Lane,
    Lease,
    Receipt,
    Retry,
    Settlement,
    Undelivered,
)
from pilotlight.ports.events import Leased, Want
from pilotlight.storage.queue_schema import ACCEPTED, ended, events, totals, undelivered

_attempts = msgspec.json.Decoder(tuple[Attempt, ...])
_INSERT = sa.insert(events)
_IN_ONE = 500
"""Values of one ``IN (...)``: databases limit the parameters of a statement."""


def insert(connection: sa.Connection, accepted: Sequence[Event]) -> None:
    """Store new events, due at once."""
    connection.execute(_INSERT, [_row(event) for event in accepted])
    _count(connection, {ACCEPTED: len(accepted)})


def _row(event: Event) -> dict[str, object]:
    return {
        "request_id": event.request_id,
        "account": event.account,
        "function": event.function,
        "qualifier": event.qualifier,
        "region": event.region,
        "trace_id": event.trace_id,
        "accepted_s": event.accepted_s,
        "hops": event.hops,
        "size": len(event.payload),
        "due_s": event.accepted_s,
        "payload": event.payload,
    }


def release(connection: sa.Connection, now_s: float) -> int:
    """End all leases of holders that are gone; return how many."""
    leased = sa.select(events.c.id, events.c.epoch, events.c.attempts).where(events.c.is_leased)
    gone = connection.execute(leased).all()
    changes = [
        {
            "of": row.id,
            "is_leased": False,
            "due_s": now_s,
            "epoch": row.epoch + 1,
            "attempts": _with_lost(row.attempts, now_s),
        }
        for row in gone
    ]
    _change(connection, changes)
    return len(gone)


_CHANGE = (
    sa.update(events)
    .where(events.c.id == sa.bindparam("of"))
    .values(
        is_leased=sa.bindparam("is_leased"),
        due_s=sa.bindparam("due_s"),
        epoch=sa.bindparam("epoch"),
        attempts=sa.bindparam("attempts"),
    )
)


def _change(connection: sa.Connection, changes: Sequence[Mapping[str, object]]) -> None:
    if changes:
        connection.execute(_CHANGE, list(changes))


def _with_lost(attempts: bytes, now_s: float) -> bytes:
    lost = Attempt(AttemptOutcome.LOST, now_s, now_s)
    return msgspec.json.encode((*_attempts.decode(attempts), lost))


def lanes(connection: sa.Connection) -> dict[Lane, float]:
    """All lanes, each found by one look into the index."""
    found: dict[Lane, float] = {}
    last = ("", "")
    while True:
        row = connection.execute(_NEXT_LANE, {"account": last[0], "function": last[1]}).first()
        if row is None:
            return found
        last = (row.account, row.function)
        found[Lane(*last)] = row.due_s


_NEXT_LANE = (
    sa.select(events.c.account, events.c.function, events.c.due_s)
    .where(
        sa.tuple_(events.c.account, events.c.function)
        > sa.tuple_(sa.bindparam("account"), sa.bindparam("function"))
    )
    .order_by(events.c.account, events.c.function, events.c.due_s)
    .limit(1)
)


def lease(
    connection: sa.Connection, wants: Sequence[Want], now_s: float, until_s: float, max_bytes: int
) -> Leased:
    """Lease the events that have been due for longest, lane by lane."""
    leases: list[Lease] = []
    changes: list[Mapping[str, object]] = []
    left = max_bytes
    for want in wants:
        for row in _due(connection, want, now_s) if left > 0 else ():
            if left <= 0:
                break
            left -= row["size"]
            change = _leasing(row, now_s, until_s)
            changes.append(change)
            leases.append(_lease_of(row, change))
    _change(connection, changes)
    return Leased(leases, {want.lane: _next_due(connection, want.lane) for want in wants})


_OF_LANE = sa.and_(
    events.c.account == sa.bindparam("account"), events.c.function == sa.bindparam("function")
)
_DUE = (
    sa.select(events)
    .where(_OF_LANE, events.c.due_s <= sa.bindparam("now"))
    .order_by(events.c.due_s, events.c.id)
    .limit(sa.bindparam("few"))
)
_NEXT_DUE = sa.select(sa.func.min(events.c.due_s)).where(_OF_LANE)


def _due(connection: sa.Connection, want: Want, now_s: float) -> Sequence[sa.RowMapping]:
    lane = msgspec.structs.asdict(want.lane)
    return connection.execute(_DUE, {**lane, "now": now_s, "few": want.limit}).mappings().all()


def _next_due(connection: sa.Connection, lane: Lane) -> float | None:
    return connection.execute(_NEXT_DUE, msgspec.structs.asdict(lane)).scalar()


def _leasing(row: sa.RowMapping, now_s: float, until_s: float) -> dict[str, object]:
    was_lost = row["is_leased"]  # its holder let the lease run out
    return {
        "of": row["id"],
        "is_leased": True,
        "due_s": until_s,
        "epoch": row["epoch"] + 1,
        "attempts": _with_lost(row["attempts"], now_s) if was_lost else row["attempts"],
    }


def _lease_of(row: sa.RowMapping, change: Mapping[str, Any]) -> Lease:
    event = Event(**{name: row[name] for name in Event.__struct_fields__})
    return Lease(Receipt(row["id"], change["epoch"]), event, _attempts.decode(change["attempts"]))


def renew(connection: sa.Connection, receipts: Sequence[Receipt], until_s: float) -> None:
    """Keep leases until a later time."""
    if receipts:
        connection.execute(
            _RENEW, [{"of": r.id, "held": r.epoch, "until": until_s} for r in receipts]
        )


_RENEW = (
    sa.update(events)
    .where(
        events.c.id == sa.bindparam("of"),
        events.c.epoch == sa.bindparam("held"),
        events.c.is_leased,
    )
    .values(due_s=sa.bindparam("until"))
)


def settle(connection: sa.Connection, settlements: Sequence[Settlement]) -> tuple[Receipt, ...]:
    """Write how attempts ended; return the receipts that were stale."""
    held = _held(connection, [settlement.lease.receipt for settlement in settlements])
    valid: list[Settlement] = []
    stale: list[Receipt] = []
    for settlement in settlements:
        receipt = settlement.lease.receipt
        if receipt in held:
            held.remove(receipt)
            valid.append(settlement)
        else:
            stale.append(receipt)
    _change(connection, [_putting_back(retry) for retry in valid if isinstance(retry, Retry)])
    _end(connection, [end for end in valid if isinstance(end, End)])
    return tuple(stale)


def _held(connection: sa.Connection, receipts: Sequence[Receipt]) -> set[Receipt]:
    """Those of the receipts that are an event's last lease."""
    held: set[Receipt] = set()
    for start in range(0, len(receipts), _IN_ONE):
        ids = [receipt.id for receipt in receipts[start : start + _IN_ONE]]
        rows = connection.execute(_HELD, {"ids": ids})
        held.update(Receipt(row.id, row.epoch) for row in rows)
    return held.intersection(receipts)


_HELD = sa.select(events.c.id, events.c.epoch).where(
    events.c.id.in_(sa.bindparam("ids", expanding=True)), events.c.is_leased
)


def _putting_back(retry: Retry) -> dict[str, object]:
    return {
        "of": retry.lease.receipt.id,
        "is_leased": False,
        "due_s": retry.due_s,
        "epoch": retry.lease.receipt.epoch,
        "attempts": msgspec.json.encode(retry.attempts),
    }


def _end(connection: sa.Connection, ends: Sequence[End]) -> None:
    """Move events to their terminal state, with what follows from it."""
    if not ends:
        return
    connection.execute(sa.insert(ended), [_ended_row(end) for end in ends])
    connection.execute(_REMOVE, [{"of": end.lease.receipt.id} for end in ends])
    _count(connection, Counter(end.condition.value for end in ends))
    sends = [event for end in ends for event in end.sends]
    if sends:
        insert(connection, sends)
    kept = [_undelivered_row(end, record) for end in ends for record in end.undelivered]
    if kept:
        connection.execute(sa.insert(undelivered), kept)


_REMOVE = sa.delete(events).where(events.c.id == sa.bindparam("of"))


def _ended_row(end: End) -> dict[str, object]:
    event = end.lease.event
    return {
        "id": end.lease.receipt.id,
        "request_id": event.request_id,
        "account": event.account,
        "function": event.function,
        "qualifier": event.qualifier,
        "accepted_s": event.accepted_s,
        "ended_s": end.ended_s,
        "condition": end.condition.value,
        "reason": end.reason,
        "attempts": msgspec.json.encode(end.attempts),
        "payload": None if end.condition is Condition.SUCCESS else event.payload,
    }


def _undelivered_row(end: End, record: Undelivered) -> dict[str, object]:
    event = end.lease.event
    return {
        "request_id": event.request_id,
        "account": event.account,
        "function": event.function,
        "kind": record.kind,
        "target": record.target,
        "reason": record.reason,
        "stored_s": end.ended_s,
        "attributes": msgspec.json.encode(record.attributes),
        "body": record.body,
    }


def _count(connection: sa.Connection, counts: Mapping[str, int]) -> None:
    for name, count in counts.items():
        known = sa.update(totals).where(totals.c.name == name)
        if connection.execute(known.values(count=totals.c.count + count)).rowcount == 0:
            connection.execute(sa.insert(totals).values(name=name, count=count))
