"""How many engines died in a step of an execution."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the number."""
    op.add_column("executions", sa.Column("deaths", sa.Integer, nullable=False, server_default="0"))
