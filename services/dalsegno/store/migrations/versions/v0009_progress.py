"""How far actions have come, by what they say."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from dalsegno.store.tables import TEXT

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and an index of the attempts that have said something and run."""
    op.add_column("attempts", sa.Column("progress", TEXT, nullable=False, server_default=""))
    telling = sa.text("progress <> '' AND ended_s IS NULL")
    op.create_index("attempts_telling", "attempts", ["execution_id"], sqlite_where=telling, postgresql_where=telling)
