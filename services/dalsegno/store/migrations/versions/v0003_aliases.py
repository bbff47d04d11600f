"""Other names by which delegated actions may be completed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the name, and a way to find it."""
    op.add_column("attempts", sa.Column("alias", TEXT, nullable=False, server_default=""))
    aliased = sa.text("alias <> ''")
    op.create_index("attempts_by_alias", "attempts", ["alias"], sqlite_where=aliased, postgresql_where=aliased)
