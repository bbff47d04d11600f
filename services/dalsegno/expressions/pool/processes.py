"""The pool's side of one process: its socket, the job that it does, and when that must be done."""

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
"""The limits that a process has been told of before its first job."""


class Process:
    """One process. Compared by identity."""

    def __init__(self, number: int, connection: socket.socket, lane: Lane, due_s: float) -> None:
        self.number = number
        self.connection = connection
        self.lane = lane
        self.pid = 0
        """Its process id, once it is up."""
        self.ticket: Ticket | None = None
        self.limits = NOTHING_TOLD
        """Of its job."""
        self.due_s = due_s
        """When it must be up, or its job must be done, on the monotonic clock."""
        self.began_s = 0.0
        """When it began its job, on the monotonic clock."""
        self.is_at_end = False
        """It sends nothing more."""
        self._inbox = Inbox()
        self._unsent: deque[memoryview] = deque()

    @property
    def is_up(self) -> bool:
        """Whether it has been forked."""
        return self.pid > 0

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a job."""
        return self.is_up and self.ticket is None and not self.is_at_end

    def receive(self) -> list[Frame] | None:
        """Messages that are complete with what it has sent now; None when it has sent nothing. Raises TooLong."""
        try:
            data = self.connection.recv(PIECE_BYTES)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            data = b""
        self.is_at_end = not data
        return list(self._inbox.feed(data))

    def send(self, kind: Kind, payload: bytes) -> None:
        """Send a message, or what of it can be sent at once; the rest goes with flush. Raises TooLong."""
        self._unsent.extend(map(memoryview, parts_of(kind, payload)))
        self.flush()

    def flush(self) -> None:
        """Send what can be sent. What a process that has ended does not take is forgotten."""
        while self._unsent:
            try:
                sent = self.connection.send(self._unsent[0])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._unsent.clear()  # its end will be told of
                return
            if sent < len(self._unsent[0]):
                self._unsent[0] = self._unsent[0][sent:]
            else:
                self._unsent.popleft()

    @property
    def has_unsent(self) -> bool:
        """Whether something waits until it can be sent."""
        return bool(self._unsent)


def is_runnable(pid: int) -> bool:
    """Whether a process could go on if it had a processor; False where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"R"
    except (OSError, IndexError):
        return False


@dataclass(eq=False)
class Lane:
    """Processes for one kind of work, and what waits for them."""

    size: int
    """So many processes at most."""
    nice: int
    limits: Limits
    is_warm: bool
    """Whether there are always so many, each for one job after the other. Else one is forked for each job."""
    queue: FairQueue[Ticket] = field(default_factory=FairQueue)
    processes: list[Process] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """How many processes should be forked."""
        busy = sum(process.ticket is not None for process in self.processes)
        wanted = self.size if self.is_warm else min(self.size, busy + len(self.queue))
        return wanted - len(self.processes)

    def idle(self) -> Process | None:
        """A process that waits for a job."""
        return next((each for each in self.processes if each.is_idle), None)

    def take(self) -> Ticket | None:
        """The next job that somebody still waits for."""
        while (ticket := self.queue.take()) is not None:
            if not ticket.is_withdrawn:
                return ticket
        return None
