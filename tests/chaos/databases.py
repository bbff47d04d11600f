"""The databases of the chaos: a SQLite file, a PostgreSQL of its own with a standby, or a server that is left alone."""

from __future__ import annotations

import asyncio
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
from tests.postgres import NoPostgres, Pair, find_programs, run_pair

CUT_S = 8.0
"""How long a primary that was cut off goes on beside the new one."""


class Database:
    """A database that nobody disturbs."""

    engines = 2
    """How many engines it can have."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def can_be_lost(self) -> bool:
        """Whether the methods below do something."""
        return False

    async def restart(self) -> None:
        """Stop it at once, and start it again."""

    async def fail_over(self, *, is_cut: bool) -> None:
        """Lose the primary, by a kill or by cutting it off while it goes on, and promote the standby."""

    async def settle(self) -> None:
        """Return when what was begun is done, also if nobody waits for it any more."""

    def keep(self, folder: Path) -> str:
        """Keep what is stored, after an error; where it is."""
        return self.url


class File(Database):
    """A SQLite file, which one engine has."""

    engines = 1

    def __init__(self, folder: Path) -> None:
        super().__init__(f"sqlite:///{folder}/store.db")


class OwnPair(Database):
    """A primary of its own with a synchronous standby."""

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair.url)
        self._pair = pair
        self._hand = ThreadPoolExecutor(1)
        """It does one thing after another. Servers that it starts end with its thread, so it lives as long as they."""

    @property
    def can_be_lost(self) -> bool:
        """Whether the methods below do something."""
        return True

    async def restart(self) -> None:
        """Stop the primary at once, and start it again."""
        await self._do(self._restart)

    async def fail_over(self, *, is_cut: bool) -> None:
        """Lose the primary and promote the standby; then the old primary becomes the standby. One that is cut off goes
        on running for a while, with the connections of its clients."""
        await self._do(self._fail_over, is_cut)

    async def settle(self) -> None:
        """Return when what was begun is done."""
        await self._do(int)

    async def _do(self, work: Callable[..., object], *arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._hand, work, *arguments)

    def close(self) -> None:
        """End the thread, and with it the servers that it has started."""
        self._hand.shutdown()

    def _restart(self) -> None:
        self._pair.primary.stop()
        self._pair.primary.start()

    def _fail_over(self, is_cut: bool) -> None:
        if is_cut:
            self._pair.cut_primary()
        else:
            self._pair.kill_primary()
        self._pair.promote()
        time.sleep(CUT_S if is_cut else 0)
        self._pair.rejoin()

    def keep(self, folder: Path) -> str:
        """Dump what is stored."""
        file = folder / "store.sql"
        with file.open("wb") as output:
            subprocess.run([str(find_programs() / "pg_dump"), self.url], stdout=output, check=True)
        return str(file)


@contextmanager
def open_database(name: str, folder: Path) -> Iterator[Database]:
    """The database of this name, `postgresql` or `sqlite`, or a new one on the server of this URL. Raises
    NoPostgres."""
    if name == "sqlite":
        yield File(folder)
    elif name == "postgresql":
        with run_pair() as pair:
            own = OwnPair(pair)
            try:
                yield own
            finally:
                own.close()
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
