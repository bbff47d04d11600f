"""Upgrades the tables to this version with alembic, under a lock: several processes may do so at the same time.

A migration with `IS_ADDITIVE = True` only adds: tables, indexes, columns with a default of the server. Programs that do
do not know it go on beside those that do. The store itself says which version a program must know at least (the setting
COMPATIBLE_FROM), because an older program cannot read newer migrations.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from dalsegno.store.store import StoreNewer, StoreOutdated
from dalsegno.store.tables import SETTINGS

COMPATIBLE_FROM = "compatible_from"
"""The setting with the version of the tables and the one that a program must know to use them: the newest migration
that is not additive."""

_SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 0x0DA15E610
"""The number of PostgreSQL's advisory lock. It has no meaning."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The versions that this program knows."""

    revisions: frozenset[str]
    heads: frozenset[str]
    compatible_from: str


def upgrade(engine: sa.Engine) -> bool:
    """Run the missing migrations in one transaction. Return False, and change nothing, when the tables are newer and
    this version can use them. Raises StoreNewer when it cannot."""
    with engine.begin() as connection:  # on SQLite this is BEGIN IMMEDIATE, which is a lock
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        known = _known()
        if _is_newer(connection, known):
            return False
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        _note_compatible(connection, known)
        return True


def check_tables(connection: sa.Connection) -> bool:
    """Return whether the tables are those of this version; False: they are newer, and this version can use them. Raises
    StoreOutdated for any others."""
    known = _known()
    if _is_newer(connection, known):
        return False
    if _current(connection) != known.heads:
        raise StoreOutdated(
            "the tables of the store are not those of this version: run `python -m dalsegno.store upgrade`"
        )
    return True


def _is_newer(connection: sa.Connection, known: _Known) -> bool:
    """Return whether a later version has upgraded the tables. Raises StoreNewer if this one cannot use them."""
    found = _current(connection) - known.revisions
    if not found:
        return False
    setting = sa.select(SETTINGS.c.value).where(SETTINGS.c.key == COMPATIBLE_FROM)
    version, _, needed = (connection.execute(setting).scalar() or "").partition(" ")
    if found == {version} and needed in known.revisions:
        return True
    reason = f"the store is of a newer version (its tables are of version {', '.join(sorted(found))})"
    raise StoreNewer(f"{reason}: use the version of Dal Segno that created it, or a later one")


def _note_compatible(connection: sa.Connection, known: _Known) -> None:
    """Store which version a program must know at least."""
    where, value = SETTINGS.c.key == COMPATIBLE_FROM, f"{' '.join(known.heads)} {known.compatible_from}"
    if connection.execute(sa.select(SETTINGS.c.value).where(where)).scalar() == value:
        return
    connection.execute(sa.delete(SETTINGS).where(where))
    connection.execute(sa.insert(SETTINGS).values(key=COMPATIBLE_FROM, value=value))


def _current(connection: sa.Connection) -> frozenset[str]:
    return frozenset(MigrationContext.configure(connection).get_current_heads())


def _known() -> _Known:
    scripts = ScriptDirectory.from_config(_config())
    newest_first = list(scripts.walk_revisions())
    breaking = next(each for each in newest_first if not getattr(each.module, "IS_ADDITIVE", False))
    return _Known(frozenset(each.revision for each in newest_first), frozenset(scripts.get_heads()), breaking.revision)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config
