"""Records, and the row that counts revisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision = None


def _name() -> sa.types.TypeEngine[str]:
    # Keys are ordered bytewise: SQLite does so by itself, PostgreSQL with the collation "C".
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the two tables and their indexes, with revision 0."""
    op.create_table(
        "records",
        sa.Column("kind", _name(), primary_key=True),
        sa.Column("account", _name(), primary_key=True),
        sa.Column("key", _name(), primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
    )
    op.create_index("records_feed", "records", ["revision", "position"], unique=True)
    op.create_index(
        "records_removed",
        "records",
        ["revision"],
        sqlite_where=sa.text("body IS NULL"),
        postgresql_where=sa.text("body IS NULL"),
    )
    state = op.create_table(
        "registry_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("horizon", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(state, [{"id": 1, "revision": 0, "horizon": 0}])
