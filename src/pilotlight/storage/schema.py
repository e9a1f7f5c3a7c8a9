"""Tables of the registry, and bringing a database to the schema this version needs."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from pilotlight.model.errors import ConfigurationError
from pilotlight.storage.migrations import HEAD, VERSION_TABLE

metadata = sa.MetaData()

records = sa.Table(
    "records",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    # NULL is a tombstone: the record was removed at `revision`.
    sa.Column("body", sa.LargeBinary, nullable=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    # Place within its commit; with the revision it is the order of the feed.
    sa.Column("position", sa.Integer, nullable=False),
)

registry_state = sa.Table(
    "registry_state",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    # Tombstones up to this revision are gone; see FeedCompacted.
    sa.Column("horizon", sa.BigInteger, nullable=False),
)

_versions = sa.Table(VERSION_TABLE, sa.MetaData(), sa.Column("version_num", sa.String(32)))


def current_version(connection: sa.Connection) -> str | None:
    """Schema revision of a database, None when it is new."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(sa.select(_versions.c.version_num)).scalar()


def upgrade(connection: sa.Connection) -> None:
    """Bring the schema to the newest revision inside the caller's transaction. Idempotent.

    Raises:
        ConfigurationError: a newer version of Pilotlight has written the database.
    """
    current = current_version(connection)
    if current == HEAD:
        return
    # Imported only here: it costs half a second, and most starts find the schema current.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    location = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise ConfigurationError(
            f"The database has schema {current}, which this version of Pilotlight (schema {HEAD}) "
            "does not know: a newer version wrote it. Start that version, or restore a backup."
        )
    command.upgrade(config, "head")
