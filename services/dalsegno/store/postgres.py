"""The connections of a store to PostgreSQL, in pools."""

from __future__ import annotations

import logging
from typing import Any

import sqlalchemy as sa

from dalsegno.store.address import Address
from dalsegno.store.servers import Servers, Session
from dalsegno.store.stalls import Stalls

NAME = "dalsegno"
"""By this name the database knows the connections of readers, and of writers that are no engine's."""

# Compiling a statement takes a thousand times as long as running it: the conditions on discards look costly to the
# planner, and are not evaluated while nothing is discarded.
_READER = "SELECT set_config('jit', 'off', false)"
# What a server confirms without waiting for its disk and its standby would be lost with it.
_WRITER = (
    f"{_READER}, CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')"
    " THEN set_config('synchronous_commit', 'on', false) END"
)
_DURABILITY = "SELECT current_setting('synchronous_commit'), current_setting('synchronous_standby_names')"

_log = logging.getLogger(__name__)


class Pools:
    """Opens pools of connections to one database, and ends with them."""

    def __init__(self, address: Address, stalls: Stalls) -> None:
        """`stalls` measures the waits of the pool that is opened with `is_measured`."""
        self.servers = Servers(address)
        self.name = NAME
        """The name of writing connections, from the next one on."""
        self._address = address
        self._stalls = stalls
        self._told = ""

    def open(self, connections: int, *, writes: bool, wait_s: float, is_measured: bool = False) -> sa.Engine:
        """Open a pool. `wait_s`: how long it waits for a free connection."""
        engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=lambda: self._connect(writes=writes, is_measured=is_measured),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=wait_s,
            pool_pre_ping=not writes,
            isolation_level="READ COMMITTED" if writes else "REPEATABLE READ",
        )

        @sa.event.listens_for(engine, "close")
        @sa.event.listens_for(engine, "close_detached")
        def release(connection: object, *_: Any) -> None:
            self.servers.release(connection)

        return engine

    def close(self) -> None:
        """Look at the servers no longer."""
        self.servers.close()

    def _connect(self, *, writes: bool, is_measured: bool) -> Session:
        connection = self.servers.connect(writes=writes, name=self.name if writes else NAME)
        try:
            connection.autocommit = True
            if not self._address.is_pooled:
                connection.execute(_WRITER if writes else _READER)
            if writes:
                self._tell_risk(*connection.execute(_DURABILITY).fetchall()[0])
            connection.autocommit = False
            # psycopg says so at the beginning of each transaction: a pooler gives the next one another session.
            connection.read_only = None if writes else True
            connection.stalls = self._stalls if is_measured else None
        except BaseException:
            self.servers.release(connection)
            connection.close()
            raise
        return connection

    def _tell_risk(self, commit: str, standbys: str) -> None:
        """Log, when it changes, how what was committed may be lost."""
        risk = risk_of(commit, standbys, hosts=len(self._address.hosts))
        if risk != self._told:
            _log.warning("%s", risk or "the database confirms only what its synchronous standby has")
        self._told = risk


def risk_of(commit: str, standbys: str, *, hosts: int) -> str:
    """Return how what was committed may be lost, empty if it may not.

    `commit`, `standbys`: PostgreSQL's settings synchronous_commit and synchronous_standby_names. `hosts`: how many
    servers the URL names; a single one without a standby is taken for intended.
    """
    if commit in ("off", "local"):
        return f"synchronous_commit is {commit}: a commit may be lost with the server; set it to on for this user"
    if hosts > 1 and not standbys:
        return (
            "no standby is synchronous (synchronous_standby_names is empty), though the URL names several servers:"
            " what was committed last is lost when another one is promoted"
        )
    return ""
