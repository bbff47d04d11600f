"""Who has opened the session of an executor."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

IS_ADDITIVE = True

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the column. Of sessions from before it is empty: any caller that may serve their actions continues them."""
    op.add_column("sessions", sa.Column("principal", TEXT, nullable=False, server_default=""))
