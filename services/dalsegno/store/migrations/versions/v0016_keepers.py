"""Which engine hands out a READY attempt, and which one delivers a message."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

IS_ADDITIVE = True
"""An engine without it writes rows that any engine may take, and takes those of all: claims make it right. Without the
indexes of before it reads all waiting messages once a second."""


def upgrade() -> None:
    """Add the columns. Any engine may take what is there."""
    ready = sa.text("state = 'READY'")
    op.add_column("attempts", sa.Column("keeper", sa.Integer, nullable=False, server_default="0"))
    op.drop_index("attempts_ready", table_name="attempts")
    op.create_index(
        "attempts_kept",
        "attempts",
        ["keeper", "action", "created_s"],
        sqlite_where=ready,
        postgresql_where=ready,
    )
    op.add_column("messages", sa.Column("keeper", sa.Integer, nullable=False, server_default="0"))
    op.drop_index("messages_due", table_name="messages")
    op.create_index("messages_kept", "messages", ["keeper", "due_s", "id"])
