"""Engines, and to which of them the delivery of an attempt belongs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the column and the table. Which engine has handed out what is there is not known."""
    op.add_column("attempts", sa.Column("engine", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "engines",
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("process", TEXT, nullable=False),
        sa.Column("beats", sa.Integer, nullable=False),
        sa.Column("patience_s", sa.Double, nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
