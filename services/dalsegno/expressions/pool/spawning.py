"""The pool's connection to the template process: requests to fork and kill, reports of starts and ends."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REQUEST = struct.Struct(">III")
"""FORK or KILL, the process's number, its nice value. FORK has the socket of the new process."""
REPORT = struct.Struct(">IIiI")
"""One of the kinds below, the process's number, a detail, and the maximum MiB of an ended process."""

FORK, KILL = 1, 2
READY = 1
"""The template can fork."""
STARTED = 2
"""A process runs; the detail is its process id."""
FAILED = 3
"""It could not be forked; the detail is the system's error number."""
ENDED = 4
"""It has ended; the detail is its exit code, or the negative number of the signal that ended it."""

STOP_S = 5.0
"""Seconds in which the template must end its children and itself."""


class TemplateLost(Exception):
    """The template has ended, or does not react. The text has the reason."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report of the template about one of its children."""

    kind: int
    number: int
    detail: int
    peak_mib: int


class Spawner:
    """A template process. Not thread-safe."""

    def __init__(self, modules: Sequence[str]) -> None:
        """Start it, without waiting for it. Raises OSError."""
        self.connection, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "dalsegno.expressions.pool.template", *modules],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=_environment(),
                )
            except BaseException:
                self.connection.close()
                raise
        self.connection.setblocking(False)
        self._told = bytearray()

    @property
    def pid(self) -> int:
        """Return the template's process id."""
        return self._process.pid

    def fork(self, number: int, nice: int) -> socket.socket:
        """Request a process; return this end of its socket at once. Raises OSError and TemplateLost."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                sent = socket.send_fds(self.connection, [REQUEST.pack(FORK, number, nice)], [theirs.fileno()])
            except OSError as error:
                ours.close()
                if error.errno in (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM):
                    raise
                raise TemplateLost(str(error)) from None
        if sent < REQUEST.size:
            ours.close()
            raise TemplateLost("it does not read what it is told")
        ours.setblocking(False)
        return ours

    def kill(self, number: int) -> None:
        """Request the kill of a process. Raises TemplateLost."""
        try:
            if self.connection.send(REQUEST.pack(KILL, number, 0)) < REQUEST.size:
                raise TemplateLost("it does not read what it is told")
        except OSError as error:
            raise TemplateLost(str(error)) from None

    def receive(self) -> list[Report]:
        """Return the new reports. Raises TemplateLost."""
        try:
            data = self.connection.recv(REPORT.size * 1024)
        except BlockingIOError:
            return []
        except OSError as error:
            raise TemplateLost(str(error)) from None
        if not data:
            raise TemplateLost("it has ended")
        self._told += data
        complete = len(self._told) // REPORT.size * REPORT.size
        reports = [Report(*fields) for fields in REPORT.iter_unpack(self._told[:complete])]
        del self._told[:complete]
        return reports

    def close(self, wait_s: float = STOP_S) -> int:
        """End it and all its children; return its exit code, negative for a signal."""
        self.connection.close()
        try:
            return self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def forget(self) -> None:
        """In a forked copy of its parent: forget it, because it is not a child of the copy."""
        self.connection.close()
        self._process.returncode = 0


def _environment() -> dict[str, str]:
    """Return the environment of the template, with the import path of this process.

    Hashes are the same in all processes of all engines: `toSet($).first()` depends on them, and an expression that is
    evaluated once more has to give the same value.
    """
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join(map(os.path.abspath, dict.fromkeys([root, *sys.path])))
    return {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"}
