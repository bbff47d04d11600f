"""The time that engines count, and the deadlines of what was handed out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the one row of the clock, which begins at the newest time that is stored; and a column of attempts."""
    op.create_table(
        "clock",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("shift_s", sa.Double(), nullable=False),
        sa.Column("latest_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute("INSERT INTO clock (id, shift_s, latest_s) SELECT 1, 0, coalesce(max(updated_s), 0) FROM executions")
    op.add_column("attempts", sa.Column("deadline_s", sa.Double(), nullable=True))
