"""Several engines on one PostgreSQL, with an executor that works for all of them, as processes of their own.

What the database does is counted, too: its processor time, its statements and the rows that it looks at.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from tests.benchmarks.services import Client, Services, running
from tests.ports import free_address, free_port
from tests.postgres import Server, run_server

from dalsegno.store.opening import open_store
from dalsegno.store.statements import Statements

CHECK = Statements("postgresql").hold_engine.replace("%s", "$1")
"""The statement with which each transaction of an engine begins, as the database counts it."""
IN_FLIGHT = 2_000
"""How many workflows are under way at once. The executor has a slot for each of them: with fewer, each of several
engines runs out of its share, and hands out later what it would hand out at once if it were alone."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a database has done so far."""

    statements: int = 0
    batches: int = 0
    rows: int = 0
    """How many rows it has read from tables, by index or not."""


class Database:
    """A PostgreSQL server that counts what it does."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._names = (f"bench_{number}" for number in itertools.count())
        self._name = ""
        self._ask("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
        self._ask("ALTER SYSTEM SET max_connections = 200")
        self._ask("ALTER SYSTEM SET shared_buffers = '256MB'")
        self._ask("ALTER SYSTEM SET max_wal_size = '4GB'")
        server.stop()
        server.start()
        self._ask("CREATE EXTENSION pg_stat_statements")
        self.pid = self._find_pid()

    def renew(self) -> str:
        """Create a database without executions in place of the last one. Return its URL."""
        if self._name:
            self._ask(f"DROP DATABASE {self._name} WITH (FORCE)")
        self._name = next(self._names)
        self._ask(f"CREATE DATABASE {self._name}")
        with closing(open_store(self.url)) as store:
            store.upgrade()  # an api that finds half of the tables ends
        return self.url

    @property
    def url(self) -> str:
        """The URL of the newest database."""
        return self._server.url.rpartition("/")[0] + f"/{self._name}"

    def work(self) -> Work:
        """What the newest database has done so far."""
        seen = "FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid WHERE datname = %s"
        total = f"SELECT coalesce(sum(calls), 0) {seen}"
        checks = f"SELECT coalesce(sum(calls), 0) {seen} AND query = %s"
        rows = "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) FROM pg_stat_user_tables"
        return Work(
            int(self._ask(total, self._name)),
            int(self._ask(checks, self._name, CHECK)),
            int(self._ask(rows, database=self._name)),
        )

    def _find_pid(self) -> int:
        with psycopg.connect(self._server.url, autocommit=True) as connection:
            backend = connection.info.backend_pid
            fields = Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()
        return int(fields[1])

    def _ask(self, statement: str, *parameters: object, database: str = "postgres") -> Any:
        url = self._server.url.rpartition("/")[0] + f"/{database}"
        with psycopg.connect(url, autocommit=True) as connection:
            found = connection.execute(statement.encode(), parameters or None)
            row = found.fetchone() if found.description else None
            return row[0] if row else None


@contextmanager
def running_database() -> Iterator[Database]:
    """A PostgreSQL server that ends with the `with`. Raises NoPostgres."""
    with run_server() as server:
        yield Database(server)


class Cluster(Services):
    """Some engines, with an executor and an api that know all of them."""

    def __init__(self, folder: Path, database: Database, engines: int, delay_ms: float) -> None:
        """`delay_ms`: how long each packet to and from the database takes."""
        super().__init__(folder)
        self._count = engines
        self._store = database
        self._url = database.renew()
        self._delay_ms = delay_ms
        self._engines = [free_address() for _ in range(engines)]

    @property
    def pids(self) -> dict[str, int]:
        """The process ids by the names of the services, with the database's."""
        own = {name: process.pid for name, process in self._processes.items() if name != "delay"}
        return own | {"postgresql": self._store.pid}

    def spawn(self) -> None:
        """Start all of them; they find each other."""
        url = self._distant() if self._delay_ms else self._url
        for number, address in enumerate(self._engines, 1):
            self._spawn_as(f"engine-{number}", "engine", "--listen", address, "--database", url)
        engines = ",".join(self._engines)
        self._spawn("executor", "--engine", engines, "--id", "executor-1", "--slots", str(IN_FLIGHT))
        self._spawn("api", "--listen", self._api, "--engine", engines, "--database", self._url)

    def kill(self, name: str) -> None:
        """End a service as a machine does that fails."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def _distant(self) -> str:
        parts = urlsplit(self._url)
        port = free_port()
        self._run("delay", "tests.benchmarks.delay", str(port), str(parts.port), str(self._delay_ms))
        return self._url.replace(f":{parts.port}/", f":{port}/")


@asynccontextmanager
async def running_cluster(database: Database, engines: int, delay_ms: float) -> AsyncIterator[tuple[Cluster, Client]]:
    """Run services on an empty database."""
    services = Cluster(Path(tempfile.mkdtemp(prefix="dalsegno-bench-")), database, engines, delay_ms)
    async with running(services) as client:
        yield services, client
