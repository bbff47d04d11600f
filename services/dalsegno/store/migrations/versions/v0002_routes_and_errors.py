"""Routes and superseded tasks, and the errors of an execution."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add what workflows with routes, reruns and lists of errors need."""
    op.add_column("executions", sa.Column("errors", TEXT))
    op.add_column("executions", sa.Column("waits_for_delegates", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("tasks", sa.Column("route", sa.Integer, nullable=False, server_default="0"))
    op.add_column("tasks", sa.Column("superseded_by", TEXT, nullable=False, server_default=""))
