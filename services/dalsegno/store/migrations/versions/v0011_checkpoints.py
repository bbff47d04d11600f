"""Checkpoints: where executions stand and stop, and the entries that they have reached."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns and the table of entries; of tasks that have ended already it is not known at which revision."""
    op.add_column("executions", sa.Column("paused_at", TEXT, nullable=False, server_default=""))
    op.add_column("executions", sa.Column("paused_at_sequence", sa.Integer, nullable=False, server_default="0"))
    op.add_column("executions", sa.Column("not_reached", TEXT, nullable=False, server_default=""))
    op.add_column("executions", sa.Column("stop_at", TEXT, nullable=False, server_default="[]"))
    op.add_column("tasks", sa.Column("ended_at", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "checkpoints",
        sa.Column("execution_id", TEXT, nullable=False),
        sa.Column("sequence", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("task", sa.Integer, nullable=False),
        sa.Column("route", sa.Integer, nullable=False),
        sa.Column("data", TEXT, nullable=True),
        sa.Column("at_s", sa.Double, nullable=False),
        sa.Column("undone", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("execution_id", "sequence"),
    )
    op.create_index("checkpoints_by_name", "checkpoints", ["execution_id", "name"])
