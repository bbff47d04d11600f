"""Descriptions of actions by digest: which of them an attempt's input was made by, and which a session serves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from dalsegno.store.tables import TEXT

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and the columns. What executors said before is described again when they come back."""
    op.create_table(
        "descriptions",
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("described_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("descriptions_by_name", "descriptions", ["name"])
    op.add_column("attempts", sa.Column("digest", TEXT, nullable=False, server_default=""))
    op.add_column("sessions", sa.Column("actions", TEXT, nullable=False, server_default="{}"))
