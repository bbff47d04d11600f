"""The pool for its callers: any thread submits jobs, and the pool's own thread reports outcomes."""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress

from dalsegno.expressions.pool.jobs import (
    Answers,
    Call,
    Evaluation,
    JobOutcome,
    Nothing,
    Question,
    SchemaCheck,
    Ticket,
)
from dalsegno.expressions.pool.limits import Limits, limits_of_evaluations, processes_of_machine
from dalsegno.expressions.pool.process_group import ProcessGroup
from dalsegno.expressions.pool.processes import Lane
from dalsegno.expressions.pool.replies import Reply, ScopeAnswers
from dalsegno.expressions.pool.waiting import Caller
from dalsegno.workflow.scope import EvaluationError, Scope

EVALUATION_NICE = 10
CALL_NICE = 15
CALL_LIMIT_S = 60.0
"""Seconds of elapsed time for one call."""
CALL_MEMORY_MIB = 400
"""Address space for one call."""
CLOSE_S = 10.0
"""Seconds in which all processes must end."""
FAULT_S = 0.1
"""Seconds until the pool continues after an internal error."""

_log = logging.getLogger("dalsegno.expressions.pool")


class CallFailed(Exception):
    """A function has no result: it exceeded a limit, crashed or raised. The text has its name and the reason."""


class Pool:
    """Evaluation processes, and separate processes for calls. Thread-safe.

    A pool starts with its first job or with `start`, and ends with `close` or with the process that it is in.
    """

    def __init__(
        self,
        size: int | None = None,
        *,
        calls: int | None = None,
        modules: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> None:
        """`size`: number of evaluation processes; 0: only calls. `calls`: number of calls at once. The default of both
        is the number of cores. `modules`: the modules of the functions. `limits`: those of one evaluation."""
        self.size = processes_of_machine() if size is None else size
        self.calls = processes_of_machine() if calls is None else calls
        self.limits = limits or limits_of_evaluations(self.size)
        self._modules = tuple(modules)
        self._lock = threading.Lock()
        self._is_closed = False
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        self._evaluations = Lane(self.size, EVALUATION_NICE, self.limits, is_warm=True)
        self._calls = Lane(self.calls, CALL_NICE, self.limits, is_warm=False)
        self._commands: deque[Callable[[ProcessGroup], None]] = deque()
        self._waited_for: set[Ticket] = set()
        """Jobs whose callers wait and need an error when the pool is closed."""
        self._thread: threading.Thread | None = None
        self._group: ProcessGroup | None = None
        self._wakers: tuple[socket.socket, socket.socket] | None = None
        self._is_woken = False

    def import_too(self, module: str) -> None:
        """Add a module whose functions may be called. A running pool imports it in each process."""
        if module not in self._modules:
            self._modules = (*self._modules, module)

    def start(self) -> None:
        """Start the processes without waiting, so that the first job need not wait."""
        with self._lock:
            if self._thread is not None or self._is_closed:
                return
            self._wakers = socket.socketpair()
            for end in self._wakers:
                end.setblocking(False)
            self._group = ProcessGroup((self._evaluations, self._calls), self._modules)
            self._thread = threading.Thread(target=self._run, args=(self._group, self._wakers), name="expressions")
            self._thread.daemon = True
            self._thread.start()

    def close(self) -> None:
        """End all processes. Waiting callers get an error; no other outcome is reported."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
        self._wake()
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_S)

    def submit(
        self, job: Evaluation | SchemaCheck, answers: Answers, owner: str, on_done: Callable[[JobOutcome], None]
    ) -> Ticket:
        """Submit a job; owners take turns. `on_done` is called once, in the pool's thread: it must not wait."""
        return self._submit(self._evaluations, Ticket(job, answers, owner, on_done))

    def withdraw(self, ticket: Ticket) -> None:
        """Cancel a job: it does not start, or its process is killed. `on_done` is not called, except at the same
        moment."""
        ticket.is_withdrawn = True
        ticket.answers = Nothing()
        self._waited_for.discard(ticket)
        self._command(lambda group: group.withdraw(ticket))

    def evaluate(self, job: Evaluation | SchemaCheck, scope: Scope | None = None) -> object:
        """Wait for the value of a job, whose questions the scope answers in this thread. Raises EvaluationError."""
        caller = Caller()
        ticket = Ticket(job, caller, "", caller.finish)
        self._submit(self._evaluations, ticket, is_waited_for=True)

        def reply(question: Question, reply: Reply) -> None:
            self._command(lambda group: group.reply(ticket, question, reply))

        try:
            outcome = caller.wait(Nothing() if scope is None else ScopeAnswers(scope), reply)
        except BaseException:  # an interrupted caller does not need it
            self.withdraw(ticket)
            raise
        finally:
            self._waited_for.discard(ticket)
        if outcome.error:
            raise EvaluationError(outcome.error)
        return outcome.value

    def call(
        self,
        function: str,
        argument: bytes,
        *,
        shown: str,
        owner: str = "",
        limit_s: float = CALL_LIMIT_S,
        memory_mib: int = CALL_MEMORY_MIB,
    ) -> Future[bytes]:
        """Call `module:function`, from bytes to bytes, in a process of its own. It has `limit_s` seconds by the clock
        from its beginning. The future raises CallFailed; cancelling it ends the process.

        Raises ValueError when the pool was not told of the module.
        """
        if function.partition(":")[0] not in self._modules:
            raise ValueError(f"the pool has not imported the module of {function}")
        future: Future[bytes] = Future()

        def finish(outcome: JobOutcome) -> None:
            if future.done() or not future.set_running_or_notify_cancel():
                return
            if outcome.error:
                future.set_exception(CallFailed(outcome.error))
            else:
                future.set_result(outcome.value)

        ticket = Ticket(Call(function, argument, shown, limit_s, memory_mib), Nothing(), owner, finish)
        self._submit(self._calls, ticket, is_waited_for=True)
        future.add_done_callback(
            lambda done: self.withdraw(ticket) if done.cancelled() else self._waited_for.discard(ticket)
        )
        return future

    # Commands of callers.

    def _submit(self, lane: Lane, ticket: Ticket, is_waited_for: bool = False) -> Ticket:
        if lane.size < 1:
            raise ValueError("the pool has no processes for this kind of job")
        if is_waited_for:
            with self._lock:
                self._waited_for.add(ticket)
        self.start()
        self._command(lambda group: lane.queue.put(ticket.owner, ticket))
        if self._is_closed:  # perhaps just now, so that no thread executes the command
            self._tell_of_end()
        return ticket

    def _command(self, command: Callable[[ProcessGroup], None]) -> None:
        if not self._is_closed:
            self._commands.append(command)
            self._wake()

    def _wake(self) -> None:
        if self._wakers is not None and not self._is_woken:
            self._is_woken = True
            with suppress(OSError):  # closed meanwhile
                self._wakers[1].send(b"\0")

    def _tell_of_end(self) -> None:
        with self._lock:
            tickets, self._waited_for = self._waited_for, set()
        for ticket in tickets:
            if not ticket.is_withdrawn:
                ticket.on_done(JobOutcome(error=f"{ticket.job.shown}: the evaluation processes have been stopped"))

    # The pool's thread.

    def _run(self, group: ProcessGroup, wakers: tuple[socket.socket, socket.socket]) -> None:
        group.selector.register(wakers[0], selectors.EVENT_READ, lambda events: self._be_woken(wakers[0]))
        try:
            while not self._is_closed:
                try:
                    while self._commands:
                        self._commands.popleft()(group)
                    group.provide()
                    for key, events in group.selector.select(group.wait_s()):
                        key.data(events)
                    group.expire()
                except Exception:
                    _log.critical("the pool of evaluation processes failed", exc_info=True)
                    group.begin_anew()
                    time.sleep(FAULT_S)
        finally:
            group.close()
            for end in wakers:
                end.close()
            self._tell_of_end()

    def _be_woken(self, woken: socket.socket) -> None:
        with suppress(BlockingIOError):
            woken.recv(4096)
        self._is_woken = False  # before the commands are taken: a caller that adds one later wakes the thread again

    # A fork of the pool's process, which has none of its threads.

    def _forget(self) -> None:
        """In a forked process: forget everything of the parent's pool, so that a new pool can start."""
        if self._group is not None:
            self._group.forget()
        for end in self._wakers or ():
            end.close()
        self._lock = threading.Lock()
        self._reset()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _forget_all() -> None:
    for pool in list(_pools):
        pool._forget()


os.register_at_fork(after_in_child=_forget_all)
