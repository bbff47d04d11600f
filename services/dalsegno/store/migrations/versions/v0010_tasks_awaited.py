"""What joins wait for, and the tags of tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns; of joins that wait already it is not known for what."""
    op.add_column("tasks", sa.Column("tags", TEXT, nullable=False, server_default="[]"))
    op.add_column("tasks", sa.Column("awaits", TEXT, nullable=False, server_default="[]"))
    op.add_column("tasks", sa.Column("awaits_count", sa.Integer, nullable=False, server_default="0"))
