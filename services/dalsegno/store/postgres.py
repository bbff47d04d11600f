"""The connections of a store to PostgreSQL, in pools."""

from __future__ import annotations

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
    f"{_READER}, set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')"
    " THEN 'on' ELSE current_setting('synchronous_commit') END, false)"
)


class Pools:
    """Opens pools of connections to one database, and ends with them."""

    def __init__(self, address: Address, stalls: Stalls) -> None:
        """`stalls` measures the waits of the pool that is opened with `is_measured`."""
        self.servers = Servers(address)
        self.name = NAME
        """The name of writing connections, from the next one on."""
        self._address = address
        self._stalls = stalls

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
            if not self._address.is_pooled:
                connection.autocommit = True
                connection.execute(_WRITER if writes else _READER)
                connection.autocommit = False
            # psycopg says so at the beginning of each transaction: a pooler gives the next one another session.
            connection.read_only = None if writes else True
            connection.stalls = self._stalls if is_measured else None
        except BaseException:
            self.servers.release(connection)
            connection.close()
            raise
        return connection
