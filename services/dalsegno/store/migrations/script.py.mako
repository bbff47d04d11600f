"""${message}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None

IS_ADDITIVE = False
"""Whether programs that do not know this migration can go on beside those that do."""


def upgrade() -> None:
    """Make it so. There is no way back: restore a backup."""
    ${upgrades if upgrades else "pass"}
