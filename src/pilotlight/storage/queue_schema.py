"""Tables of the queue of asynchronous invocations, in a file of their own (decision D4)."""

from __future__ import annotations

import sqlalchemy as sa

from pilotlight.model.errors import ConfigurationError

_SCHEMA = 1

metadata = sa.MetaData()

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("request_id", sa.Text, nullable=False, unique=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("function", sa.Text, nullable=False),
    sa.Column("qualifier", sa.Text, nullable=True),
    sa.Column("region", sa.Text, nullable=False),
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Column("accepted_s", sa.Float, nullable=False, index=True),
    sa.Column("hops", sa.Integer, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    # When it may be leased: the time it is due, or the end of its lease.
    sa.Column("due_s", sa.Float, nullable=False),
    # Number of its leases so far; with the id it is the receipt.
    sa.Column("epoch", sa.Integer, nullable=False, default=0),
    sa.Column("is_leased", sa.Boolean, nullable=False, default=False),
    sa.Column("attempts", sa.LargeBinary, nullable=False, default=b"[]"),
    # The last column, so that the others are read without it.
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Index("events_by_lane", "account", "function", "due_s", "id"),
    sqlite_autoincrement=True,
)
sa.Index(
    "events_leased",
    events.c.id,
    sqlite_where=events.c.is_leased,
    postgresql_where=events.c.is_leased,
)

ended = sa.Table(
    "ended",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("request_id", sa.Text, nullable=False, unique=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("function", sa.Text, nullable=False),
    sa.Column("qualifier", sa.Text, nullable=True),
    sa.Column("accepted_s", sa.Float, nullable=False),
    sa.Column("ended_s", sa.Float, nullable=False, index=True),
    sa.Column("condition", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("attempts", sa.LargeBinary, nullable=False),
    # Only of events that did not succeed.
    sa.Column("payload", sa.LargeBinary, nullable=True),
    sa.Index("ended_by_account", "account", "condition", "id"),
)

undelivered = sa.Table(
    "undelivered",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("function", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("stored_s", sa.Float, nullable=False, index=True),
    sa.Column("attributes", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("undelivered_by_account", "account", "id"),
    sqlite_autoincrement=True,
)

totals = sa.Table(
    "totals",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("count", sa.BigInteger, nullable=False),
)

ACCEPTED = "accepted"


def upgrade(connection: sa.Connection) -> None:
    """Make the tables. The file's own version number says which schema it has.

    Raises:
        ConfigurationError: a newer version of Pilotlight has written the file.
    """
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found > _SCHEMA:
        raise ConfigurationError(
            f"The queue has schema {found}, which this version of Pilotlight (schema {_SCHEMA}) "
            "does not know: a newer version wrote it. Start that version, or restore a backup."
        )
    if found < _SCHEMA:
        metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {_SCHEMA}")
