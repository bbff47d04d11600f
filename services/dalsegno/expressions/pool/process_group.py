"""All processes of a pool, from start to end, and their jobs. Everything here runs in the pool's own thread, and only
the selector waits."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import time
from collections.abc import Sequence
from itertools import count

from dalsegno.expressions.pool import protocol
from dalsegno.expressions.pool.frames import TooLong
from dalsegno.expressions.pool.jobs import JobOutcome, Question, Ticket
from dalsegno.expressions.pool.processes import Lane, Process
from dalsegno.expressions.pool.replies import Replies, Reply
from dalsegno.expressions.pool.spawning import ENDED, FAILED, READY, STARTED, Report, Spawner, TemplateLost
from dalsegno.workflow.scope import EvaluationError

START_S = 30.0
"""Seconds in which a requested process must be running, on a busy machine."""
RESTART_S = 2.0
"""Seconds from one start of a template to the next."""
LOST_S = 0.1
"""Seconds in which a template must end after it has closed its socket."""
PAUSE_S = 0.1
"""Seconds until a process is requested again after a fork failed, or after it ended without a job."""
TRIES_MAX = 3
"""The number of times that a job is started whose process was killed from outside."""
RETIRED_MIB = 50
"""A process that has grown by more than this is replaced, to free the memory."""

_log = logging.getLogger("dalsegno.expressions.pool")


class ProcessGroup:
    """The template, its processes, and their jobs."""

    def __init__(self, lanes: Sequence[Lane], modules: Sequence[str]) -> None:
        self.selector = selectors.DefaultSelector()
        self._lanes = lanes
        self._modules = modules
        self._spawner: Spawner | None = None
        self._processes: dict[int, Process] = {}
        self._numbers = count(1)
        self._replies = Replies()
        self._start_at_s = 0.0
        """When a template may be started again, on the monotonic clock."""
        self._fork_at_s = 0.0
        """When processes may be requested again."""
        self._paused_for = ""

    # Requests to the pool.

    def withdraw(self, ticket: Ticket) -> None:
        """Cancel a job; if a process runs it, the process is killed."""
        process = self._process_of(ticket)
        if process is not None:
            self._dismiss(process)

    def reply(self, ticket: Ticket, question: Question, reply: Reply) -> None:
        """Send the answer of a job's owner to its process."""
        process = self._process_of(ticket)
        if process is not None and ticket.awaited == question:
            protocol.answer(process, ticket, question, reply)
            self._watch(process)

    def provide(self) -> None:
        """Start missing processes, and give waiting jobs to idle ones."""
        now_s = time.monotonic()
        try:
            if self._spawner is None and now_s >= self._start_at_s:
                self._start_template(now_s)
            for lane in self._lanes:
                while self._spawner is not None and now_s >= self._fork_at_s and lane.missing > 0:
                    self._fork(self._spawner, lane, now_s)
        except TemplateLost as lost:
            self._lose_template(lost)
        except OSError as error:
            self._pause(f"no process can be started: {error}")
        for lane in self._lanes:
            self._give_out(lane, now_s)
        if all(process.ticket is None for process in self._processes.values()):
            self._replies.clear()

    def wait_s(self) -> float | None:
        """Return the time until the next timeout."""
        times_s = [each.due_s for each in self._processes.values() if each.ticket is not None or not each.is_up]
        if self._spawner is None:
            times_s.append(self._start_at_s)
        elif any(lane.missing > 0 for lane in self._lanes):
            times_s.append(self._fork_at_s)
        return max(0.0, min(times_s) - time.monotonic()) if times_s else None

    def begin_anew(self) -> None:
        """After an internal error: end all processes, and start their jobs again in new ones."""
        if self._spawner is not None:
            self._lose_template(TemplateLost("it is given up"))

    def close(self) -> None:
        """End all processes."""
        for process in list(self._processes.values()):
            self._let_go(process)
        if self._spawner is not None:
            self.selector.unregister(self._spawner.connection)
            self._spawner.close()
            self._spawner = None
        self.selector.close()

    def forget(self) -> None:
        """In a forked copy of the owner: forget all processes, which belong to the owner."""
        self.selector.close()
        for process in self._processes.values():
            process.connection.close()
        if self._spawner is not None:
            self._spawner.forget()

    # The template.

    def _start_template(self, now_s: float) -> None:
        self._start_at_s = now_s + RESTART_S
        self._spawner = Spawner(self._modules)
        self.selector.register(self._spawner.connection, selectors.EVENT_READ, self._hear_template)

    def _lose_template(self, lost: TemplateLost) -> None:
        """Handle the end of the template: all its processes end, and their jobs start again in others."""
        assert self._spawner is not None
        self.selector.unregister(self._spawner.connection)
        code = self._spawner.close(LOST_S)
        self._spawner = None
        _log.warning("the template of the evaluation processes is lost: %s (%s)", lost, protocol.name_of_end(code))
        for process in list(self._processes.values()):
            self._let_go(process)
            self._do_again(process)

    def _hear_template(self, events: int) -> None:
        if self._spawner is None:
            return  # removed by an event just before
        try:
            for report in self._spawner.receive():
                self._heed(report)
        except TemplateLost as lost:
            self._lose_template(lost)

    def _heed(self, report: Report) -> None:
        process = self._processes.get(report.number)
        if report.kind == READY:
            _log.debug("the template of the evaluation processes is ready")
        elif process is None:
            pass  # it has been removed
        elif report.kind == STARTED:
            process.pid = report.detail
            self._paused_for = ""
        elif report.kind == FAILED:
            self._let_go(process)
            self._pause(f"no process can be forked: {os.strerror(report.detail)}")
        elif report.kind == ENDED:
            self._bury(process, report)

    # Processes.

    def _fork(self, spawner: Spawner, lane: Lane, now_s: float) -> None:
        number = next(self._numbers)
        process = Process(number, spawner.fork(number, lane.nice), lane, now_s + START_S)
        self._processes[number] = process
        lane.processes.append(process)
        self.selector.register(process.connection, selectors.EVENT_READ, lambda events: self._hear(process, events))

    def _pause(self, why: str) -> None:
        """Request no more processes for a while. Log it once, until one runs again."""
        if why != self._paused_for:
            _log.warning("%s", why)
        self._paused_for = why
        self._fork_at_s = time.monotonic() + PAUSE_S

    def _let_go(self, process: Process) -> None:
        if not process.is_at_end:
            self.selector.unregister(process.connection)
        process.connection.close()
        process.lane.processes.remove(process)
        del self._processes[process.number]

    def _dismiss(self, process: Process) -> None:
        """Kill a process."""
        self._let_go(process)
        if self._spawner is not None:
            try:
                self._spawner.kill(process.number)
            except TemplateLost as lost:
                self._lose_template(lost)

    def _bury(self, process: Process, report: Report) -> None:
        """Handle the end of a process. Its earlier messages are still valid."""
        while process.ticket is not None and not process.is_at_end and self._listen(process):
            pass
        if self._processes.get(process.number) is not process:
            return
        self._let_go(process)
        ticket = process.ticket
        if ticket is None:
            self._pause(f"an evaluation process has ended ({protocol.name_of_end(report.detail)})")
        elif report.detail == -signal.SIGKILL:
            self._do_again(process)
        else:
            cause = protocol.cause_of_end(report.detail, report.peak_mib, process.limits)
            self._deliver(ticket, protocol.failed(ticket, cause))

    def expire(self) -> None:
        """End processes that have taken too long."""
        now_s = time.monotonic()
        for process in list(self._processes.values()):
            if now_s < process.due_s or self._processes.get(process.number) is not process:
                continue
            if process.ticket is not None and protocol.is_overdue(process, now_s):
                self._end_overdue(process, process.ticket)
            elif not process.is_up:
                self._lose_template(TemplateLost("it starts no process"))

    def _end_overdue(self, process: Process, ticket: Ticket) -> None:
        """Kill the process of a job that has taken too long, unless the outcome has arrived by now: a job that waited
        for a processor may have ended just before its process was looked at."""
        while process.ticket is ticket and not process.is_at_end and self._listen(process):
            pass
        if process.ticket is ticket and self._processes.get(process.number) is process:
            cause = f"it takes more than {process.limits.clock_s:g} s"
            self._finish(process, protocol.failed(ticket, cause), keep=False)

    # Jobs.

    def _process_of(self, ticket: Ticket) -> Process | None:
        return next((process for process in self._processes.values() if process.ticket is ticket), None)

    def _give_out(self, lane: Lane, now_s: float) -> None:
        while (process := lane.idle()) is not None and (ticket := lane.take()) is not None:
            try:
                protocol.begin(process, ticket, now_s)
            except EvaluationError as error:
                self._deliver(ticket, JobOutcome(error=str(error)))
            else:
                self._watch(process)

    def _do_again(self, process: Process) -> None:
        """Start the job of a process that was killed from outside in another one."""
        ticket = process.ticket
        if ticket is None:
            return
        if ticket.tries >= TRIES_MAX:
            self._deliver(ticket, protocol.failed(ticket, "its process was killed, each time that it was tried"))
            return
        ticket.asked, ticket.needed, ticket.awaited = [], [], None
        process.lane.queue.put_back(ticket.owner, ticket)

    def _watch(self, process: Process) -> None:
        """Register for its messages, and for when it can receive the rest of an unsent message."""
        if not process.is_at_end:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if process.has_unsent else 0)
            key = self.selector.get_key(process.connection)
            if key.events != events:
                self.selector.modify(process.connection, events, key.data)

    def _hear(self, process: Process, events: int) -> None:
        if self._processes.get(process.number) is not process:
            return  # removed by an event just before
        if events & selectors.EVENT_WRITE:
            process.flush()
        if events & selectors.EVENT_READ:
            self._listen(process)
        if self._processes.get(process.number) is process:
            self._watch(process)

    def _listen(self, process: Process) -> bool:
        """Receive the messages of a process. Return False if there are none."""
        try:
            frames = process.receive()
            if process.is_at_end:
                self.selector.unregister(process.connection)
            for frame in frames or ():
                if process.ticket is None:
                    break
                outcome = protocol.hear(process, frame, self._replies)
                if outcome is not None:
                    self._finish(process, outcome, keep=process.lane.is_warm and frame.grown_mib <= RETIRED_MIB)
        except TooLong:
            self._fault(process, protocol.TOO_LONG)
            return False
        except ValueError as error:
            self._fault(process, f"its process said something unreadable: {error}")
            return False
        return frames is not None

    def _fault(self, process: Process, cause: str) -> None:
        ticket = process.ticket
        if ticket is None:
            self._dismiss(process)
        else:
            self._finish(process, protocol.failed(ticket, cause), keep=False)

    def _finish(self, process: Process, outcome: JobOutcome, keep: bool) -> None:
        """Report the outcome of a job."""
        ticket, process.ticket = process.ticket, None
        assert ticket is not None
        if not keep:
            self._dismiss(process)
        self._deliver(ticket, outcome)

    def _deliver(self, ticket: Ticket, outcome: JobOutcome) -> None:
        if ticket.is_withdrawn:
            return
        try:
            ticket.on_done(outcome)
        except Exception:  # an error of one caller must not stop the others
            _log.exception("an outcome could not be taken")
