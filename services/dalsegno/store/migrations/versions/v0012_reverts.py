"""Reverts: the entries to which executions go back, and the attempts that undo others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns: nothing was reverted before."""
    op.add_column("executions", sa.Column("reverting_to", TEXT, nullable=False, server_default=""))
    op.add_column("executions", sa.Column("reverting_to_sequence", sa.Integer, nullable=False, server_default="0"))
    op.add_column("executions", sa.Column("goes_on_s", sa.Double, nullable=True))
    op.add_column("attempts", sa.Column("reverts", sa.Integer, nullable=False, server_default="0"))
    op.add_column("attempts", sa.Column("undone", sa.Boolean, nullable=False, server_default=sa.false()))
