"""The supervisor: keeps the services running as child processes, and stops them in order.

child died ──▶ report it ──▶ wait (0.2 s, doubling to 10 s; 0.2 s again after it ran 30 s) ──▶ start it again
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dalsegno.cli import parent_watch
from dalsegno.cli.exits import ERROR, CommandError
from dalsegno.rpc.addresses import is_address
from dalsegno.rpc.exits import CANNOT_RUN

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 10.0
STEADY_S = 30.0
"""A service that has run for this time counts as healthy: if it dies then, it is started again at once."""
FAILING_DEATHS = 3
"""A service that has died this often in a row counts as failing: a user must look at it."""
GRACE_S = 15.0
"""The time to stop before a service is killed: longer than an executor waits for its actions."""


@dataclass(frozen=True, slots=True)
class Service:
    """The description of one service."""

    name: str
    command: tuple[str, ...]
    """The program, by its full path, and its arguments."""
    log: Path | None = None
    """The file for its output; None: the output of the supervisor."""
    pid_file: Path | None = None
    """The file that has its process id while it runs."""
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    """All variables of its environment, which may contain a password; None: those of the supervisor."""


class ServiceProcess:
    """One service, started again whenever it dies."""

    def __init__(self, service: Service, report: Callable[[str], None]) -> None:
        self.service = service
        self.deaths = 0
        """The number of times in a row that it died soon after its start."""
        self.failing = asyncio.Event()
        """Set once it has died FAILING_DEATHS times in a row, or has said that another start does not help."""
        self._process: asyncio.subprocess.Process | None = None
        self._run: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._report = report
        self._log_begins = _size_of(service.log)

    @property
    def pid(self) -> int:
        """Return the process id, 0 while it does not run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    def logged(self) -> str:
        """Return what it has logged since it was started here; empty if its output goes elsewhere."""
        if self.service.log is None:
            return ""
        with self.service.log.open("rb") as log:
            log.seek(self._log_begins)
            return log.read().decode("utf-8", "replace")

    def start(self) -> None:
        """Start it, and keep it running."""
        self._run = asyncio.create_task(self._keep_running())

    async def stop(self) -> None:
        """Ask it to stop, kill it after the grace period, and return when it has ended."""
        self._stopping.set()
        if self._run is None:
            return
        self._signal(signal.SIGTERM)
        ended, _ = await asyncio.wait([self._run], timeout=GRACE_S)
        if not ended:
            self._report(f"{self.service.name} (pid {self.pid}) did not stop within {GRACE_S:g} s; killing it")
            self._signal(signal.SIGKILL)
        await self._run
        if self.service.pid_file is not None:
            self.service.pid_file.unlink(missing_ok=True)

    async def _keep_running(self) -> None:
        wait_s = FIRST_WAIT_S
        while not self._stopping.is_set():
            began_s = time.monotonic()
            self._process = await self._spawn()
            if self.service.pid_file is not None:
                self.service.pid_file.write_text(f"{self._process.pid}\n", encoding="ascii")
            if self.deaths:
                self._report(f"{self.service.name} runs again, pid {self._process.pid}")
            if self._stopping.is_set():  # stopped during its start
                self._signal(signal.SIGTERM)
            code = await self._process.wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - began_s > STEADY_S:
                self.deaths, wait_s = 0, FIRST_WAIT_S
            self.deaths += 1
            if code == CANNOT_RUN:
                wait_s = LONGEST_WAIT_S
            if code == CANNOT_RUN or self.deaths >= FAILING_DEATHS:
                self.failing.set()
            pid = self._process.pid
            self._report(f"{self.service.name} (pid {pid}) {describe_end(code)}; starting it again in {wait_s:g} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()
            wait_s = min(LONGEST_WAIT_S, 2 * wait_s)

    async def _spawn(self) -> asyncio.subprocess.Process:
        with ExitStack() as files:
            log = files.enter_context(self.service.log.open("ab")) if self.service.log is not None else None
            return await asyncio.create_subprocess_exec(
                *command_of(self.service),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.service.environment,
                # In a separate session: Ctrl-C must reach only the supervisor, which stops all in order.
                start_new_session=True,
            )

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


class Supervisor:
    """All services of one server, first the one that the others need."""

    def __init__(self, services: Sequence[Service], report: Callable[[str], None]) -> None:
        self.children = [ServiceProcess(service, report) for service in services]

    def start(self) -> None:
        """Start all services, and keep them running."""
        for child in self.children:
            child.start()

    async def stop(self) -> None:
        """Stop the services, last the one that the others need, and return when all have ended."""
        first, *others = self.children
        await asyncio.gather(*(child.stop() for child in others))
        await first.stop()

    async def wait_for_failing(self) -> ServiceProcess:
        """Return the first service that fails."""
        waits = {asyncio.create_task(child.failing.wait()): child for child in self.children}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return waits[done.pop()]


def _size_of(log: Path | None) -> int:
    """Return the size of a log in bytes; 0 if there is none."""
    return log.stat().st_size if log is not None and log.exists() else 0


def command_of(service: Service) -> list[str]:
    """Return the command line of a service that ends with this process."""
    return [sys.executable, "-I", "-S", str(parent_watch.__file__), str(os.getpid()), *service.command]


def describe_end(code: int) -> str:
    """Return a description of how a process ended.

    >>> describe_end(-9), describe_end(3)
    ('was killed by SIGKILL', 'ended with exit code 3')
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def is_free(address: str) -> bool:
    """Return whether nobody listens on an address."""
    try:
        choose_address(address, "")
    except CommandError:
        return False
    return True


def choose_address(address: str, option: str) -> str:
    """Return `address` with a free port instead of port 0. Raises CommandError if it cannot be used."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdigit() or not is_address(address):
        raise CommandError(f"{option} {address}: not of the form HOST:PORT", f"for instance {option} 127.0.0.1:0")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            reason = error.strerror or str(error)
            advice = f"choose an address of this machine with {option} HOST:PORT (port 0: a free one)"
            if error.errno == errno.EADDRINUSE:
                advice = f"another server may run there; choose with {option} HOST:PORT (port 0: a free one)"
            raise CommandError(f"cannot listen on {address}: {reason}", advice, ERROR) from None
        return f"{address.rpartition(':')[0]}:{probe.getsockname()[1]}"
