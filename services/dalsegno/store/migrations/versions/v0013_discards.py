"""Discards and forks: where journals begin, what is gone and not yet removed, and which execution a fork came from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns and the table of discards: nothing was discarded or forked before.

    The texts that are there have no use that is known, so a discard leaves them: they go with their execution.
    """
    op.add_column("executions", sa.Column("first_sequence", sa.Integer, nullable=False, server_default="1"))
    op.add_column("executions", sa.Column("forked_from", TEXT, nullable=False, server_default=""))
    op.add_column("executions", sa.Column("forked_from_sequence", sa.Integer, nullable=False, server_default="0"))
    op.add_column("executions", sa.Column("forked_from_checkpoint", TEXT, nullable=False, server_default=""))
    is_fork = sa.text("forked_from != ''")
    op.create_index(
        "executions_by_origin",
        "executions",
        ["forked_from", "created_s", "id"],
        sqlite_where=is_fork,
        postgresql_where=is_fork,
    )
    op.add_column("attempts", sa.Column("copied", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("attempts", sa.Column("was_workflow", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("texts", sa.Column("last", sa.Integer, nullable=False, server_default="2147483647"))
    op.create_index("texts_by_use", "texts", ["execution_id", "last"])
    op.create_table(
        "discards",
        sa.Column("execution_id", TEXT, nullable=False),
        sa.Column("first", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("last", sa.Integer, nullable=False),
        sa.Column("root_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("execution_id", "first"),
    )
    op.create_index("discards_by_root", "discards", ["root_id"])
