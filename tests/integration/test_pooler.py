"""PgBouncer in transaction mode between the services and PostgreSQL: each transaction may have another session."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psycopg
import pytest
from tests.ports import free_port
from tests.postgres import NoPostgres, Pair, Server, run_pair
from tests.processes import System, state_of
from tests.tied import tied

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")

WORKFLOW = """
version: '2.0'
pair:
  tasks:
    a: {action: std.echo output=1, on-success: [b]}
    b: {action: std.noop}
"""


class Pooler:
    """PgBouncer in front of a server, on a port of its own."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "postgres" if os.geteuid() == 0 else None
        (folder / "users").write_text('"tester" ""\n')
        self.lead_to(server)
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            for path in (folder, *folder.iterdir()):
                os.chown(path, owner.pw_uid, owner.pw_gid)

    def lead_to(self, server: Server) -> None:
        """Lead to this server, from the next start on."""
        (self._folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nauth_type = trust\nauth_file = {self._folder}/users\npool_mode = transaction\n"
            "default_pool_size = 10\nserver_login_retry = 0.2\nunix_socket_dir =\n"
        )

    @property
    def url(self) -> str:
        """The URL of the database behind it."""
        return f"postgresql://tester@127.0.0.1:{self.port}/postgres?pooler=transaction"

    def start(self) -> None:
        """Start it, and return once it listens."""
        assert PROGRAM is not None
        with (self._folder / "log").open("ab") as log:
            settings = str(self._folder / "pgbouncer.ini")
            self._process = subprocess.Popen(tied(PROGRAM, settings, user=self._user), stdout=log, stderr=log)
        until_s = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert time.monotonic() < until_s, (self._folder / "log").read_text()
                time.sleep(0.02)

    def kill(self) -> None:
        """kill -9, and return when it is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(20)
            self._process = None


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary and its synchronous standby."""
    try:
        with run_pair() as running:
            yield running
    except NoPostgres as reason:
        pytest.skip(str(reason))


@pytest.fixture
def pooler(pair: Pair) -> Iterator[Pooler]:
    """PgBouncer in front of the primary."""
    folder = Path(tempfile.mkdtemp(prefix="dalsegno-pgbouncer-"))
    made = Pooler(folder, pair.primary)
    made.start()
    yield made
    made.kill()
    shutil.rmtree(folder)


async def test_services_work_behind_a_pooler(pair: Pair, pooler: Pooler, tmp_path: Path) -> None:
    """Under load PgBouncer is killed, PostgreSQL restarts, and PgBouncer restarts for a standby that was promoted: each
    execution ends, each action has run once, and no session of the database is left with a setting of ours."""
    begun: list[str] = []
    stopped = asyncio.Event()

    async def start_on(system: System, name: int) -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            while True:
                try:
                    begun.append(await system.begin("pair", request_id=f"{name}-{number}"))
                    break
                except grpc.aio.AioRpcError as error:
                    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                        raise
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.1)

    async def more() -> None:
        count = len(begun)
        for _ in range(400):
            if len(begun) > count + 10:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("nothing goes on")

    async with System(tmp_path / "system", database=pooler.url) as system:
        await system.define(WORKFLOW)
        starting = [asyncio.create_task(start_on(system, name)) for name in range(4)]
        await more()
        pooler.kill()
        pooler.start()
        await more()
        pair.primary.stop()
        pair.primary.start()
        await more()
        pair.kill_primary()
        pair.promote()
        pooler.kill()
        pooler.lead_to(pair.primary)
        pooler.start()
        await more()
        stopped.set()
        await asyncio.gather(*starting)
        for each in begun:
            assert state_of(await system.wait(each)) == "SUCCESS"
            assert [attempt.attempt for attempt in await system.attempts(each)] == [1, 1]
        assert len(set(begun)) == len(begun)
        assert system.findings() == []
        with psycopg.connect(pooler.url.partition("?")[0], autocommit=True, prepare_threshold=None) as connection:
            shown = [
                connection.execute(f"SHOW {name}").fetchall()
                for name in ("default_transaction_read_only", "jit", "transaction_read_only")
            ]
        assert shown == [[("off",)], [("on",)], [("off",)]]
