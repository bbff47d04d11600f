"""A real PostgreSQL server for tests: started in a folder of its own on a free port, stopped by its own process id."""

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
from contextlib import contextmanager
from pathlib import Path

import psycopg
from tests.ports import free_port
from tests.tied import tied

_START_S = 60.0


class NoPostgres(Exception):
    """No server can be started here. Says why."""


class Server:
    """A server with its data in a folder of its own; it may be stopped and started again."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        owner = _owner()
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        self._user = owner.pw_name if owner is not None else None
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        _initialize(programs, folder, self._user)

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"postgresql://tester@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start it, and return once it answers. Raises NoPostgres."""
        self._process = _start(self._programs, self._folder, self._port, self._user)

    def stop(self) -> None:
        """Stop it at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_START_S)
            self._process = None


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
