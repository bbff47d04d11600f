"""The databases of the chaos: a SQLite file, a PostgreSQL of its own with a standby, or a server that is left alone."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from tests.postgres import NoPostgres, Server, find_programs, run_server


class Database:
    """A database that nobody disturbs."""

    engines = 2
    """How many engines it can have."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def can_restart(self) -> bool:
        """Whether `restart` does something."""
        return False

    @property
    def can_fail_over(self) -> bool:
        """Whether `fail_over` does something."""
        return False

    def restart(self) -> None:
        """Stop it at once, and start it again."""

    def fail_over(self, *, is_cut: bool) -> None:
        """Lose the primary, by a kill or by cutting it off while it goes on, and promote the standby."""

    def keep(self, folder: Path) -> str:
        """Keep what is stored, after an error; where it is."""
        return self.url


class File(Database):
    """A SQLite file, which one engine has."""

    engines = 1

    def __init__(self, folder: Path) -> None:
        super().__init__(f"sqlite:///{folder}/store.db")


class Own(Database):
    """A PostgreSQL server of its own."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.url)
        self._server = server

    @property
    def can_restart(self) -> bool:
        """Whether `restart` does something."""
        return True

    def restart(self) -> None:
        """Stop it at once, and start it again."""
        self._server.stop()
        self._server.start()

    def keep(self, folder: Path) -> str:
        """Dump what is stored."""
        file = folder / "store.sql"
        subprocess.run([str(find_programs() / "pg_dump"), "--file", str(file), self.url], check=True)
        return str(file)


@contextmanager
def open_database(name: str, folder: Path) -> Iterator[Database]:
    """The database of this name, `postgresql` or `sqlite`, or a new one on the server of this URL. Raises
    NoPostgres."""
    if name == "sqlite":
        yield File(folder)
    elif name == "postgresql":
        with run_server() as server:
            yield Own(server)
    else:
        yield Database(_create(name))


def _create(server: str) -> str:
    name = f"chaos_{uuid.uuid4().hex}"
    try:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
    except psycopg.Error as error:
        raise NoPostgres(f"{server} cannot be used: {error}") from None
    head, question, parameters = server.partition("?")
    return f"{head.rpartition('/')[0]}/{name}{question}{parameters}"
