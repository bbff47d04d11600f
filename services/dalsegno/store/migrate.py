"""Upgrades the tables to this version with alembic, under a lock: several processes may do so at the same time."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from dalsegno.store.store import StoreNewer, StoreOutdated

_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 0x0DA15E610
"""The number of PostgreSQL's advisory lock. It has no meaning."""


def upgrade(engine: sa.Engine) -> None:
    """Run the missing migrations in one transaction. Raises StoreNewer when the tables are newer."""
    with engine.begin() as connection:  # on SQLite this is BEGIN IMMEDIATE, which is a lock
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        _refuse_newer(connection)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check_tables(connection: sa.Connection) -> None:
    """Raise StoreOutdated unless the tables are those of this version."""
    _refuse_newer(connection)
    heads = ScriptDirectory.from_config(_config()).get_heads()
    if set(MigrationContext.configure(connection).get_current_heads()) != set(heads):
        raise StoreOutdated(
            "the tables of the store are not those of this version: run `python -m dalsegno.store upgrade`"
        )


def _refuse_newer(connection: sa.Connection) -> None:
    """Raise StoreNewer when this program does not know the version of the tables."""
    known = {each.revision for each in ScriptDirectory.from_config(_config()).walk_revisions()}
    found = set(MigrationContext.configure(connection).get_current_heads()) - known
    if found:
        reason = f"the store is of a newer version (its tables are of version {', '.join(sorted(found))})"
        raise StoreNewer(f"{reason}: use the version of Dal Segno that created it, or a later one")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
