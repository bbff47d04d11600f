"""When sessions of executors came, and when they were last heard."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the times; 0: not known."""
    for name in ("connected_s", "heard_s"):
        op.add_column("sessions", sa.Column(name, sa.Double(), nullable=False, server_default="0"))
