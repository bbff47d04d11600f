"""The pool's data of one process: its socket, its job, and the deadline of that."""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from dalsegno.expressions.pool.fairness import FairQueue
from dalsegno.expressions.pool.frames import PIECE_BYTES, Frame, Inbox, Kind, parts_of
from dalsegno.expressions.pool.jobs import Ticket
from dalsegno.expressions.pool.limits import Limits

NOTHING_TOLD = Limits(0.0, 0.0, 0, 0.0)
"""The limits that a process has before its first job."""


class Process:
    """One process. Compared by identity."""

    def __init__(self, number: int, connection: socket.socket, lane: Lane, due_s: float) -> None:
        self.number = number
        self.connection = connection
        self.lane = lane
        self.pid = 0
        """Its process id, after it started."""
        self.ticket: Ticket | None = None
        self.limits = NOTHING_TOLD
        """The limits of its job."""
        self.due_s = due_s
        """The deadline for its start or for its job, on the monotonic clock."""
        self.began_s = 0.0
        """When it began its job, on the monotonic clock."""
        self.is_at_end = False
        """It sends nothing more."""
        self._inbox = Inbox()
        self._unsent: deque[memoryview] = deque()

    @property
    def is_up(self) -> bool:
        """Return whether it has been forked."""
        return self.pid > 0

    @property
    def is_idle(self) -> bool:
        """Return whether it waits for a job."""
        return self.is_up and self.ticket is None and not self.is_at_end

    def receive(self) -> list[Frame] | None:
        """Return the newly complete messages; None if it has sent nothing. Raises TooLong."""
        try:
            data = self.connection.recv(PIECE_BYTES)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            data = b""
        self.is_at_end = not data
        return list(self._inbox.feed(data))

    def send(self, kind: Kind, payload: bytes) -> None:
        """Send a message, or the part that can be sent at once; flush sends the rest. Raises TooLong."""
        self._unsent.extend(map(memoryview, parts_of(kind, payload)))
        self.flush()

    def flush(self) -> None:
        """Send what can be sent. Data for a process that has ended is dropped."""
        while self._unsent:
            try:
                sent = self.connection.send(self._unsent[0])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._unsent.clear()  # its end will be reported
                return
            if sent < len(self._unsent[0]):
                self._unsent[0] = self._unsent[0][sent:]
            else:
                self._unsent.popleft()

    @property
    def has_unsent(self) -> bool:
        """Return whether there is unsent data."""
        return bool(self._unsent)


def is_runnable(pid: int) -> bool:
    """Return whether a process only waits for a processor; False if the system does not report that."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"R"
    except (OSError, IndexError):
        return False


@dataclass(eq=False)
class Lane:
    """Processes for one kind of work, and the jobs that wait for them."""

    size: int
    """The maximum number of processes."""
    nice: int
    limits: Limits
    is_warm: bool
    """Whether there is always this number of processes, each for many jobs. Else one is forked for each job."""
    queue: FairQueue[Ticket] = field(default_factory=FairQueue)
    processes: list[Process] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Return the number of processes to fork."""
        busy = sum(process.ticket is not None for process in self.processes)
        wanted = self.size if self.is_warm else min(self.size, busy + len(self.queue))
        return wanted - len(self.processes)

    def idle(self) -> Process | None:
        """Return an idle process."""
        return next((each for each in self.processes if each.is_idle), None)

    def take(self) -> Ticket | None:
        """Return the next job that is not withdrawn."""
        while (ticket := self.queue.take()) is not None:
            if not ticket.is_withdrawn:
                return ticket
        return None
