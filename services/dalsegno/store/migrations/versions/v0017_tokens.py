"""The tokens of callers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

IS_ADDITIVE = True

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the table. It is empty: nobody has a token."""
    op.create_table(
        "tokens",
        sa.Column("token_id", TEXT, nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("grants", TEXT, nullable=False),
        sa.Column("created_s", sa.Double, nullable=False),
        sa.Column("expires_s", sa.Double),
        sa.Column("revoked_s", sa.Double),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("token_id"),
    )
