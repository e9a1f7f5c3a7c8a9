"""Entry point that the migration library runs: hands it the connection `upgrade` was given."""

from __future__ import annotations

from alembic import context

from pilotlight.storage.migrations import VERSION_TABLE

# The connection already holds the write transaction, so a migration is applied whole or not at all.
context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    transactional_ddl=False,
)
context.run_migrations()
