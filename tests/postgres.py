"""Real PostgreSQL servers for tests: each in a folder of its own on a free port, stopped by its own process id.

with run_server() as server: ...     one server
with run_pair() as pair:             a primary and its synchronous standby
    pair.kill_primary()
    pair.promote()                   the standby is the primary now
    pair.rejoin()                    the old primary is the standby now
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from tests.ports import free_port
from tests.tied import tied

_START_S = 60.0


class NoPostgres(Exception):
    """No server can be started here. Says why."""


class Server:
    """A server with its data in a folder of its own; it may be stopped and started again."""

    def __init__(self, programs: Path, folder: Path, copied_from: Server | None = None) -> None:
        """`copied_from`: the running primary of which it is to be a standby; else it is a server of its own."""
        self._programs = programs
        self._folder = folder
        owner = _owner()
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        self._user = owner.pw_name if owner is not None else None
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        if copied_from is None:
            _initialize(programs, folder, self._user)
        else:
            self.copy(copied_from)

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"postgresql://tester@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and return once it answers. Raises NoPostgres."""
        self._process = _start(self._programs, self._folder, self.port, self._user)

    def stop(self) -> None:
        """Stop it at once."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_START_S)
            self._process = None

    def kill(self) -> None:
        """kill -9 of all its processes, as when its machine fails; return when the first of them is gone."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(_START_S)
            self._process = None

    def freeze(self) -> None:
        """Let all its processes stand still: connections are kept, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def copy(self, primary: Server) -> None:
        """Replace its data by those of a running primary, whose standby it is from its next start on."""
        shutil.rmtree(self._folder / "data", ignore_errors=True)
        backup = [str(self._programs / "pg_basebackup"), "-D", str(self._folder / "data"), "-d", primary.url]
        options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        made = subprocess.run([*backup, *options], user=self._user, capture_output=True, cwd=self._folder, check=False)
        if made.returncode:
            raise NoPostgres(f"pg_basebackup failed: {made.stderr.decode().strip()}")

    def ask(self, statement: LiteralString) -> Any:
        """The first value that a statement gives, in a transaction of its own; None when it gives no row."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            found = connection.execute(statement)
            row = found.fetchone() if found.description else None
            return row[0] if row else None

    def alter(self, *settings: LiteralString) -> None:
        """Change settings, each `name = value`, for all sessions. They survive a restart."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as connection:
            for setting in settings:
                connection.execute("ALTER SYSTEM SET " + setting)
            connection.execute("SELECT pg_reload_conf()")

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and to the processes that it has started: first to the one that starts more."""
        if self._process is None:
            return
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        self._process.send_signal(number)
        for child in children.read_text().split() if children.exists() else ():
            with suppress(ProcessLookupError):
                os.kill(int(child), number)


class Pair:
    """A primary and its synchronous standby: what the primary has confirmed the standby has, too."""

    def __init__(self, primary: Server, standby: Server) -> None:
        """Both run, and the standby is a copy of the primary."""
        self.primary = primary
        self.standby = standby
        self._servers = (primary, standby)
        self._synchronize()

    @property
    def url(self) -> str:
        """The URL of the database with both hosts, always in the same order."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self._servers)
        return f"postgresql://tester@{hosts}/postgres?target_session_attrs=read-write"

    def kill_primary(self) -> None:
        """kill -9 of the primary. Nobody takes writes until `promote`."""
        self.primary.kill()

    def cut_primary(self, *, frozen: bool = False) -> None:
        """Cut the primary off from the standby. It goes on running, and its clients keep their connections: reads are
        answered, commits wait. `frozen`: it stands still meanwhile, until `primary.resume()`."""
        if frozen:
            self.primary.freeze()
        self.standby.alter("primary_conninfo = ''")

    def promote(self) -> Server:
        """Make the standby the primary. It has no standby until `rejoin`. Return the old primary, which may still run
        with its clients."""
        old, new = self.primary, self.standby
        new.alter("synchronous_standby_names = ''")
        new.ask("SELECT pg_promote(true, 60)")
        self.primary, self.standby = new, old
        return old

    def rejoin(self) -> None:
        """Make the old primary, as it is, the synchronous standby of the new one; what only it had is gone."""
        self.standby.stop()
        self.standby.copy(self.primary)
        self.standby.start()
        self._synchronize()

    def stop(self) -> None:
        """Stop both at once."""
        for server in self._servers:
            server.stop()

    def _synchronize(self) -> None:
        """Let the primary confirm only what the standby has, and return once it does."""
        self.primary.alter("synchronous_standby_names = '*'")
        until_s = time.monotonic() + _START_S
        while not self.primary.ask("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"):
            if time.monotonic() > until_s:
                raise NoPostgres("the standby does not follow the primary")
            time.sleep(0.05)


@contextmanager
def run_server() -> Iterator[Server]:
    """A fresh server that runs, and ends with the `with`. Raises NoPostgres."""
    programs = find_programs()
    folder = Path(tempfile.mkdtemp(prefix="dalsegno-postgres-"))
    server: Server | None = None
    try:
        server = Server(programs, folder)
        server.start()
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def run_pair() -> Iterator[Pair]:
    """A fresh primary with a synchronous standby. Both end with the `with`. Raises NoPostgres."""
    programs = find_programs()
    folder = Path(tempfile.mkdtemp(prefix="dalsegno-postgres-"))
    folder.chmod(0o755)
    servers: list[Server] = []
    try:
        for name in ("one", "two"):
            (folder / name).mkdir()
            servers.append(Server(programs, folder / name, servers[0] if servers else None))
            servers[-1].start()
        yield Pair(*servers)
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def run_postgres() -> Iterator[str]:
    """The URL of a fresh server, which ends with the `with`. Raises NoPostgres."""
    with run_server() as server:
        yield server.url


def find_programs() -> Path:
    """The folder of initdb and postgres: installed ones, else those of the pgserver wheel. Raises NoPostgres."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    found = shutil.which("initdb")
    if found is not None:
        candidates.append(Path(found).resolve().parent)
    candidates += [Path(folder) / "pgserver" / "pginstall" / "bin" for folder in sys.path]
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    raise NoPostgres("PostgreSQL's programs are not installed, and the pgserver wheel is not either")


def _owner() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses to run as root. None: as whoever we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgres("we are root, and there is no other user to run PostgreSQL as")


def _initialize(programs: Path, folder: Path, user: str | None) -> None:
    data = folder / "data"
    initdb = [str(programs / "initdb"), "-D", str(data), "-U", "tester", "--auth=trust", "-E", "UTF8", "--locale=C"]
    made = subprocess.run([*initdb, "--no-sync"], user=user, capture_output=True, cwd=folder, check=False)
    if made.returncode:
        raise NoPostgres(f"initdb failed: {made.stderr.decode().strip()}")


def _start(programs: Path, folder: Path, port: int, user: str | None) -> subprocess.Popen[bytes]:
    data, log = folder / "data", folder / "log"
    settings = {
        "fsync": "off",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "port": str(port),
        "max_connections": "60",
        "shared_buffers": "32MB",
        "wal_keep_size": "256MB",
        "wal_retrieve_retry_interval": "200ms",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with log.open("wb") as output:
        command = (str(programs / "postgres"), "-D", str(data), *options)
        process = subprocess.Popen(tied(*command, user=user), cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    until_s = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(f"postgresql://tester@127.0.0.1:{port}/postgres", connect_timeout=5).close()
            return process
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > until_s:
                process.kill()
                process.wait()
                raise NoPostgres(f"the server did not start: {error}\n{log.read_text()}") from None
            time.sleep(0.05)
