"""Heartbeats of third parties: when each was heard last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: nobody was heard before."""
    op.add_column("attempts", sa.Column("heard_s", sa.Double, nullable=False, server_default="0"))
