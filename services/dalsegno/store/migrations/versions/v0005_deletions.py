"""What was deleted and when, what answered requests are about, and where executors are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the table of deletions, and the columns."""
    op.create_table(
        "deletions",
        sa.Column("kind", TEXT, primary_key=True),
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("namespace", TEXT, primary_key=True),
        sa.Column("life", TEXT, primary_key=True),
        sa.Column("deleted_s", sa.Double, nullable=False),
    )
    op.create_index("deletions_by_age", "deletions", ["deleted_s"])
    op.add_column("requests", sa.Column("about", TEXT, nullable=False, server_default="[]"))
    op.add_column("sessions", sa.Column("peer", TEXT, nullable=False, server_default=""))
