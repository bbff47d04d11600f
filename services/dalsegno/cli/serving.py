"""A server on this machine: its addresses, its data, and its services under a supervisor."""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from dalsegno.cli.connection import command_tls, is_serving, wait_until_serving
from dalsegno.cli.exits import ERROR, UNREACHABLE, CommandError
from dalsegno.cli.service_links import ServiceLinks
from dalsegno.cli.service_tokens import ServiceTokens, plan_tokens, without_tokens
from dalsegno.cli.supervisor import FAILING_DEATHS, Service, ServiceProcess, Supervisor, choose_address
from dalsegno.outgoing.reach import EVERYTHING
from dalsegno.outgoing.reach import OPTION as REACH_OPTION
from dalsegno.rpc.options import DATABASE_URL
from dalsegno.rpc.server import INSTEAD, exposure, is_local
from dalsegno.secrets.keys import ensure_file

READY_S = 60.0
"""The time in which the services must become ready, on a slow machine with a database to migrate."""
FOLDER_MODE = 0o700
_LOG_TAIL_LINES = 15
_ANY = frozenset({"0.0.0.0", "::"})
"""The hosts that stand for all addresses of the machine."""
_SCHEMES = ("sqlite:", "postgresql:", "postgres:")
"""How the URL of a database begins that several processes can open."""
_STORED = ("engine", "api")
"""The services that open the database."""
SECRET_KEYS = "secrets.key"
"""The file in the data folder with the key of secrets. Without it nobody can read the secrets of the store."""
LOCK = "serve.lock"
"""The file in the data folder that its server has locked."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The data, the addresses and the options of one server."""

    data: Path
    listen: str
    engine: str
    database: str = field(repr=False)
    """The URL of the database. May contain a password."""
    gateway: str = ""
    """The address of its gateway; empty: it has none."""
    public_url: str = ""
    """The address under which third parties reach the gateway; empty: the one that it listens on."""
    slots: int = 0
    """The number of actions that its executor runs at once; 0: the executor's default."""
    logs: Path | None = None
    """The folder of the services' logs; None: the standard error of this process."""
    links: ServiceLinks = field(default_factory=ServiceLinks)
    """How its services speak with each other and with clients."""
    tokens: ServiceTokens = field(default_factory=ServiceTokens)
    """The tokens of its services, if it asks for tokens."""
    insecure: bool = False
    """Whether it may accept connections from other machines that show neither certificates nor tokens."""
    allow: tuple[str, ...] = ()
    """The actions that are off by default and that its executor runs."""
    private_networks: str = ""
    """The networks that actions and notices may reach beside public addresses; empty: those of the environment."""

    def services(self) -> list[Service]:
        """Return the services, first the one that the others need."""
        slots = ("--slots", str(self.slots)) if self.slots else ()
        allowed = [word for each in self.allow for word in ("--allow", each)]
        reach = (REACH_OPTION, self.private_networks) if self.private_networks else ()
        open_to_all = ("--insecure",) if self.insecure else ()
        services = [
            self._service(
                "engine", "--listen", self.engine, *open_to_all, *reach, *self._callbacks(), *self._secret_keys()
            ),
            self._service("executor", "--engine", self.engine, "--id", "executor-1", *slots, *allowed, *reach),
            self._service("api", "--listen", self.listen, "--engine", self.engine, *open_to_all),
        ]
        if self.gateway:
            at = ("--listen", self.gateway, "--api", self.listen)
            services.append(self._service("gateway", *at, *open_to_all, *self._hosts()))
        return services

    def _callbacks(self) -> tuple[str, ...]:
        """Return the option of the engine with the address of webhooks, if there is one."""
        host = self.gateway.rpartition(":")[0]
        own = f"{self.links.gateway_scheme}://{self.gateway}" if host not in ("", "0.0.0.0", "[::]") else ""
        url = self.public_url or own
        return ("--public-url", url) if url else ()

    def _secret_keys(self) -> tuple[str, ...]:
        """Return the option of the engine with the key of secrets in the data folder, unless the environment names
        others."""
        named = any(os.environ.get(f"DALSEGNO_ENGINE_SECRET_KEYS{end}") for end in ("", "_COMMAND"))
        return () if named else ("--secret-keys", str(self.data / SECRET_KEYS))

    def _hosts(self) -> tuple[str, ...]:
        """Return the option of the gateway with the host by which third parties reach it."""
        host = urlsplit(self.public_url).hostname
        named = os.environ.get("DALSEGNO_GATEWAY_HOST_NAMES", "")
        return ("--host-names", f"{named},{host}") if host else ()

    def _service(self, name: str, *arguments: str) -> Service:
        log = self.logs / f"{name}.log" if self.logs is not None else None
        # The list of processes shows options to every user, and executors run actions of others.
        environment = without_tokens(self.links.environment(name, os.environ)) | self.tokens.environment(name)
        environment.pop(DATABASE_URL, None)
        if name in _STORED:
            environment[DATABASE_URL] = self.database
        command = (sys.executable, "-P", "-m", f"dalsegno.{name}", *arguments)
        return Service(name, command, log, pid_file=self.data / f"{name}.pid", environment=environment)


def plan_server(
    data: Path,
    listen: str,
    engine: str,
    database: str = "",
    slots: int = 0,
    *,
    gateway: str = "",
    public_url: str = "",
    logs: bool = True,
    links: ServiceLinks | None = None,
    asks_tokens: bool = False,
    issuers: str = "",
    insecure: bool = False,
    allow: Sequence[str] = (),
    private_networks: str = "",
    report: Callable[[str], None] = lambda told: None,
) -> ServerConfig:
    """Return the config of a server in the folder `data`, which is created for its owner only if it is missing.

    `report` receives warnings. Raises CommandError for invalid options.
    """
    listen, engine = choose_address(listen, "--listen"), choose_address(engine, "--engine-listen")
    gateway = choose_address(gateway, "--gateway-listen") if gateway else ""
    if database and not database.startswith(_SCHEMES):
        told = f"--database {database.partition(':')[0]}…: not the URL of a database"
        raise CommandError(told, "give sqlite:///PATH or postgresql://USER@HOST/NAME, also in DALSEGNO_DATABASE_URL")
    _check_distinct({"--listen": listen, "--engine-listen": engine, "--gateway-listen": gateway})
    links = links or ServiceLinks()
    for address, option in ((listen, "--listen"), (engine, "--engine-listen")):
        _check_reach(address, option, exposure(links.own.serves, asks_tokens=asks_tokens), insecure, report)
    if gateway:
        _check_reach(
            gateway, "--gateway-listen", exposure(links.gateway.serves, asks_tokens=asks_tokens), insecure, report
        )
    try:
        data.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        _close_to_others(data, report)
        folder = data / "logs"
        folder.mkdir(exist_ok=True)
        ensure_file(data / SECRET_KEYS)
    except OSError as error:
        told = f"the data folder {data} cannot be {'written' if data.is_dir() else 'created'}: {error.strerror}"
        raise CommandError(told, "choose another with --data DIR") from None
    return ServerConfig(
        data=data,
        listen=listen,
        engine=engine,
        gateway=gateway,
        public_url=public_url,
        database=database or f"sqlite:///{(data / 'dalsegno.db').resolve()}",
        slots=slots,
        logs=folder if logs else None,
        links=links,
        tokens=plan_tokens(data, issuers, asks_tokens=asks_tokens),
        insecure=insecure,
        allow=tuple(allow),
        private_networks=private_networks,
    )


def _check_distinct(addresses: Mapping[str, str]) -> None:
    """Raise CommandError if two services have the same address, also if the names of their hosts differ."""
    given = [(option, address) for option, address in addresses.items() if address]
    for (option, address), (other, second) in combinations(given, 2):
        if _overlap(address, second):
            both = address if address == second else f"the same address, {address} and {second}"
            raise CommandError(f"{option} and {other} are both {both}", "give each a port of its own (0: a free one)")


def _overlap(first: str, second: str) -> bool:
    """Return whether two addresses have the same port, and a host in common."""
    (host, _, port), (other, _, second_port) = first.rpartition(":"), second.rpartition(":")
    if int(port) != int(second_port):
        return False
    hosts, others = _numbers_of(host), _numbers_of(other)
    return bool(hosts & others) or not _ANY.isdisjoint(hosts | others)


def _numbers_of(host: str) -> set[str]:
    """Return the addresses that a host has; itself if it has none."""
    host = host.removeprefix("[").removesuffix("]")
    try:
        return {str(each[4][0]) for each in socket.getaddrinfo(host, None)}
    except OSError:
        return {host}


def _close_to_others(folder: Path, report: Callable[[str], None]) -> None:
    """Remove the permissions of other users from the data folder, and report if they had any."""
    found = folder.stat()
    if not found.st_mode & 0o077:
        return
    was = f"{folder} is open to others (mode {stat.S_IMODE(found.st_mode):04o})"
    if found.st_uid != os.geteuid():
        report(f"{was}, and only its owner can change that: choose a folder of your own with --data DIR")
    elif found.st_mode & stat.S_ISVTX:
        report(f"{was}, and is shared with others on purpose: choose a folder of your own with --data DIR")
    else:
        folder.chmod(FOLDER_MODE)
        report(f"{was}: now it is for its owner only")


def _check_reach(address: str, option: str, told: str, insecure: bool, report: Callable[[str], None]) -> None:
    """Raise CommandError for an address that other machines can reach, unless `insecure`; then report it. `told` says
    what they may do there; empty: they need certificates or tokens."""
    if not told or is_local(address):
        return
    if not insecure:
        raise CommandError(f"{option} {address}: {told}", INSTEAD)
    report(f"{address} is open to everybody who can reach it: {told}")


def gateway_is_installed() -> bool:
    """Return whether the extra of the gateway is there."""
    return all(importlib.util.find_spec(name) is not None for name in ("connectrpc", "hypercorn"))


def default_data() -> Path:
    """Return the default data folder: DALSEGNO_DATA, else the XDG data folder."""
    if given := os.environ.get("DALSEGNO_DATA"):
        return Path(given)
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "dalsegno"


@asynccontextmanager
async def running(config: ServerConfig, report: Callable[[str], None]) -> AsyncIterator[Supervisor]:
    """Run the services: ready when the block begins, stopped when it ends. Raises CommandError."""
    with _locked(config.data):
        config.tokens.make(config.database)
        supervisor = Supervisor(config.services(), report)
        supervisor.start()
        try:
            await unless_failing(supervisor, _wait_until_ready(config))
            yield supervisor
        finally:
            await supervisor.stop()


@contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Keep other servers from a data folder. Raises CommandError if one runs there, because its logs and its files with
    process ids are in use, and if the folder cannot be written."""
    with ExitStack() as files:
        try:
            lock = files.enter_context((data / LOCK).open("ab"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told = f"a server runs on the data folder {data} already"
            raise CommandError(told, "use that one, or choose another folder with --data DIR", ERROR) from None
        except OSError as error:
            told = f"the file {data / LOCK} cannot be locked: {error.strerror}"
            raise CommandError(told, "choose another folder with --data DIR", ERROR) from None
        yield


async def unless_failing(supervisor: Supervisor, work: Coroutine[Any, Any, T]) -> T:
    """Do work that needs the services. Raises CommandError with the end of a log if one fails."""
    working, failing = asyncio.create_task(work), asyncio.create_task(supervisor.wait_for_failing())
    try:
        await asyncio.wait([working, failing], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return await working
        raise _explain(failing.result())
    finally:
        working.cancel()
        failing.cancel()


async def _wait_until_ready(config: ServerConfig) -> None:
    addresses = [config.engine, config.listen]
    if config.gateway and config.links.gateway_is_as_others:
        addresses.append(config.gateway)
    for address in addresses:
        await wait_until_serving(address, READY_S, config.links.own.calls)


def _explain(failing: ServiceProcess) -> CommandError:
    """Return the error for a failing service, with the end of what it has logged since it was started here."""
    service = failing.service
    cannot_run = failing.deaths < FAILING_DEATHS
    message = f"the {service.name} {'cannot run' if cannot_run else 'ends each time it is started'}"
    if service.log is None:
        return CommandError(message, exit_code=UNREACHABLE)
    lines = list(dict.fromkeys(failing.logged().splitlines()))[-_LOG_TAIL_LINES:]  # each start logs the same
    if not lines:
        advice = f"is there room on the disk of {service.log.parent}? --verbose logs to this terminal"
        return CommandError(f"{message}, and has logged nothing", advice, UNREACHABLE)
    told = "\n".join(f"  {line}" for line in lines)
    advice = "correct that first, or choose another folder with --data DIR" if cannot_run else ""
    return CommandError(f"{message}; its log ends with:\n{told}", advice, UNREACHABLE)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a private folder, and delete it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="dalsegno-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class PrivateServer:
    """A private server."""

    address: str
    supervisor: Supervisor


@asynccontextmanager
async def private_server(report: Callable[[str], None]) -> AsyncIterator[PrivateServer]:
    """Yield a private server on free ports, with its data in a temporary folder. Raises CommandError.

    It runs what its user wrote, and reaches what its user reaches.
    """
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    # What runs cleans up. Not by SIGINT, which a command in the background of a script ignores.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with temporary_folder() as folder:
        config = plan_server(folder, "127.0.0.1:0", "127.0.0.1:0", private_networks=EVERYTHING)
        async with running(config, report) as supervisor:
            yield PrivateServer(config.listen, supervisor)


async def is_there(address: str) -> bool:
    """Return whether a server answers at `address` within a short time. Raises CommandError if one is there that does
    not speak as this command does."""
    return await is_serving(address, 0.5, command_tls())
