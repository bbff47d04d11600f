"""A whole server on this machine: its addresses and data, the three services under a supervisor, until told to stop."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dalsegno.cli.connection import is_serving, wait_until_serving
from dalsegno.cli.exits import UNREACHABLE, CommandError
from dalsegno.cli.supervisor import Service, Supervisor, choose_address
from dalsegno.rpc.server import INSTEAD, OPEN_TO_ALL, is_local

READY_S = 60.0
"""How long the services may take to become ready, on a slow machine with a database to bring up to date."""
FOLDER_MODE = 0o700
_LOG_TAIL_LINES = 15

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where one server keeps its things and listens."""

    data: Path
    listen: str
    engine: str
    database: str
    slots: int = 0
    """How many actions its executor runs at once; 0: as many as an executor does unless told."""
    logs: Path | None = None
    """The folder of the services' logs; None: they go where ours go."""
    insecure: bool = False
    """Whether it may listen where other machines reach it."""
    allow: tuple[str, ...] = ()
    """Which actions that are off its executor runs."""

    def services(self) -> list[Service]:
        """The three services, first the one that the others need."""
        slots = ("--slots", str(self.slots)) if self.slots else ()
        allowed = [word for each in self.allow for word in ("--allow", each)]
        stored = ("--database", self.database, *(("--insecure",) if self.insecure else ()))
        return [
            self._service("engine", "--listen", self.engine, *stored),
            self._service("executor", "--engine", self.engine, "--id", "executor-1", *slots, *allowed),
            self._service("api", "--listen", self.listen, "--engine", self.engine, *stored),
        ]

    def _service(self, name: str, *arguments: str) -> Service:
        log = self.logs / f"{name}.log" if self.logs is not None else None
        return Service(
            name, (sys.executable, "-m", f"dalsegno.{name}", *arguments), log, pid_file=self.data / f"{name}.pid"
        )


def plan_server(
    data: Path,
    listen: str,
    engine: str,
    database: str = "",
    slots: int = 0,
    *,
    logs: bool = True,
    insecure: bool = False,
    allow: Sequence[str] = (),
    report: Callable[[str], None] = lambda told: None,
) -> ServerConfig:
    """A config in the folder `data`, which is made if it is not there, for its owner only.

    `report` gets what its owner should know. Raises CommandError for what cannot be.
    """
    listen, engine = choose_address(listen, "--listen"), choose_address(engine, "--engine-listen")
    for address, option in ((listen, "--listen"), (engine, "--engine-listen")):
        _check_reach(address, option, insecure, report)
    try:
        data.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        _close_to_others(data, report)
        folder = data / "logs"
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"the data folder {data} cannot be made: {error.strerror}", "choose another with --data DIR"
        ) from None
    return ServerConfig(
        data=data,
        listen=listen,
        engine=engine,
        database=database or f"sqlite:///{(data / 'dalsegno.db').resolve()}",
        slots=slots,
        logs=folder if logs else None,
        insecure=insecure,
        allow=tuple(allow),
    )


def _close_to_others(folder: Path, report: Callable[[str], None]) -> None:
    """Let nobody but its owner into the data folder, and say so when others could get in before."""
    found = folder.stat()
    if not found.st_mode & 0o077:
        return
    was = f"{folder} is open to others (mode {stat.S_IMODE(found.st_mode):04o})"
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
        report(f"{was}, and is not ours to close: choose a folder of your own with --data DIR")
    else:
        folder.chmod(FOLDER_MODE)
        report(f"{was}: now it is for its owner only")


def _check_reach(address: str, option: str, insecure: bool, report: Callable[[str], None]) -> None:
    """Other machines reach us only where somebody has said that they shall."""
    if is_local(address):
        return
    if not insecure:
        raise CommandError(f"{option} {address}: {OPEN_TO_ALL}", INSTEAD)
    report(f"{address} is open to whoever can reach it: {OPEN_TO_ALL}")


def default_data() -> Path:
    """Where a server keeps its data unless told: DALSEGNO_DATA, else the XDG data folder."""
    if given := os.environ.get("DALSEGNO_DATA"):
        return Path(given)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "dalsegno"


@asynccontextmanager
async def running(config: ServerConfig, report: Callable[[str], None]) -> AsyncIterator[Supervisor]:
    """The services of a config, ready when the block begins and stopped when it ends. Raises CommandError."""
    supervisor = Supervisor(config.services(), report)
    supervisor.start()
    try:
        await unless_failing(supervisor, _wait_until_ready(config))
        yield supervisor
    finally:
        await supervisor.stop()


async def unless_failing(supervisor: Supervisor, work: Coroutine[Any, Any, T]) -> T:
    """Do work that needs the services. Raises CommandError with the end of a log if one fails."""
    working, failing = asyncio.create_task(work), asyncio.create_task(supervisor.wait_for_failing())
    try:
        await asyncio.wait([working, failing], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return await working
        raise _explain(failing.result().service)
    finally:
        working.cancel()
        failing.cancel()


async def _wait_until_ready(config: ServerConfig) -> None:
    for address in (config.engine, config.listen):
        await wait_until_serving(address, READY_S)


def _explain(service: Service) -> CommandError:
    """Which service fails, with the end of its log: what a person would look for next."""
    message = f"the {service.name} does not stay up"
    if service.log is None:
        return CommandError(message, exit_code=UNREACHABLE)
    lines = service.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    told = "\n".join(f"  {line}" for line in lines)
    return CommandError(f"{message}; its log ends with:\n{told}", exit_code=UNREACHABLE)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder of our own that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="dalsegno-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class PrivateServer:
    """A server of our own."""

    address: str
    supervisor: Supervisor


@asynccontextmanager
async def private_server(report: Callable[[str], None]) -> AsyncIterator[PrivateServer]:
    """A server of our own, on free ports, with its data in a folder that is gone afterwards. Raises CommandError."""
    # As Ctrl-C, which cancels whatever runs and lets it tidy up.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signal.raise_signal, signal.SIGINT)
    with temporary_folder() as folder:
        config = plan_server(folder, "127.0.0.1:0", "127.0.0.1:0")
        async with running(config, report) as supervisor:
            yield PrivateServer(config.listen, supervisor)


async def is_there(address: str) -> bool:
    """Whether a server runs at `address`, asked without much patience."""
    return await is_serving(address, within_s=0.5)
