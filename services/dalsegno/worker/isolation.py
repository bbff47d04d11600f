"""Isolated actions: each run is a process of its own, which can be killed.

A process is forked from a template (Python's `forkserver`), which has loaded the modules of the actions, and never from
the worker: a fork of a process with threads and gRPC aborts. It reads the order of the engine as the worker does, and
sends progress and the outcome as TaskDone messages through a pipe, so that nothing that it sends can run in the worker.
It has a process group of its own: a kill also reaches what the action has started, and Ctrl-C does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import inspect
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from types import ModuleType

from google.protobuf.message import DecodeError

from dalsegno import core_files
from dalsegno.actions.action import Action, ActionCancelled, ActionFailed, AnyAction
from dalsegno.rpc import logs
from dalsegno.v1.executor_service_pb2 import TASK_OUTCOME_RUNNING, RunAction, TaskDone
from dalsegno.worker.order import log_raised, read_context, read_input
from dalsegno.worker.outcome import describe_exception, describe_failure, describe_progress, describe_result

MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""More than the largest result, its error and its message together."""

ENDS_WITHIN_S = 2.0
"""The time in which a process must end after its outcome."""

TEMPLATE = "dalsegno.worker.template"
PR_SET_PDEATHSIG = 1

_log = logging.getLogger(__name__)

_context = multiprocessing.get_context("forkserver")
_starting = threading.Lock()
"""`multiprocessing` looks at all children when it starts one, which two threads must not do at once."""


def check(actions: Iterable[AnyAction]) -> None:
    """Raise ValueError for an isolated action that a process would not find."""
    for each in actions:
        if each.isolated:
            _find(sys.modules[each.function.__module__], each.name)


def prepare(actions: Iterable[AnyAction]) -> None:
    """Start the template with the modules of the isolated ones of these actions."""
    modules = {each.function.__module__ for each in actions if each.isolated}
    if modules:
        _context.set_forkserver_preload([TEMPLATE, *sorted(modules - {"__main__"})])
        forkserver.ensure_running()


class Child:
    """One run of an isolated action."""

    def __init__(
        self, action: AnyAction, order: RunAction, timeout_s: float | None, hear: Callable[[TaskDone], None]
    ) -> None:
        """`hear` is called in the thread of `run` with the progress that the action reports."""
        self._action = action
        self._order = order
        self._timeout_s = timeout_s
        self._hear = hear
        self._pid = 0
        self._is_killed = False

    def run(self) -> TaskDone:
        """Start the process and return its outcome. Call it in a thread."""
        receiver, sender = _context.Pipe(duplex=False)
        lifeline, hold = _context.Pipe(duplex=False)
        with receiver, hold:
            place = self._action.function.__module__, self._action.name
            told = *place, self._order.SerializeToString(), self._timeout_s
            process = _context.Process(target=serve, args=(sender, lifeline, *told))
            try:
                with sender, lifeline, _starting:
                    process.start()
            except (OSError, EOFError) as error:
                return describe_failure(f"the process of {self._action.name} could not be started: {error}")
            self._pid = process.pid or 0
            if self._is_killed:
                self.kill()
            try:
                outcome = self._receive(receiver)
            finally:
                code = self._end(process)
        return outcome or self._explain(code)

    def kill(self) -> None:
        """Kill the process, and those that it has started. It may be called in any thread, also before the start."""
        self._is_killed = True
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)

    def _receive(self, receiver: Connection) -> TaskDone | None:
        """Return the outcome; None if the process has ended without one."""
        while True:
            try:
                done = TaskDone.FromString(receiver.recv_bytes(MESSAGE_BYTES_MAX))
            except EOFError:
                return None
            except (OSError, DecodeError) as error:
                return describe_failure(f"the process of {self._action.name} has sent what cannot be read: {error}")
            if done.outcome != TASK_OUTCOME_RUNNING:
                return done
            self._hear(done)

    def _explain(self, code: int) -> TaskDone:
        """Return the failure of a process that has ended without an outcome."""
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return describe_failure(f"the process of {self._action.name} {how} before it had a result")

    def _end(self, process: ForkServerProcess) -> int:
        """Wait until the process has ended, and kill it if it does not. Return its exit code, or minus the signal."""
        if not multiprocessing.connection.wait([process.sentinel], ENDS_WITHIN_S):
            self.kill()
        self._pid = 0
        with _starting:
            process.join()
        code = process.exitcode or 0
        process.close()
        return code


def serve(
    sender: Connection, lifeline: Connection, module: str, name: str, order_bytes: bytes, timeout_s: float | None
) -> None:
    """Run the action of a module: what the new process does. `lifeline` ends when the worker has ended."""
    os.setpgid(0, 0)
    threading.Thread(target=_end_with_worker, args=(lifeline,), daemon=True).start()
    core_files.write_none()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody waits for it without the template
    # Some stop all processes of a service at once: the worker decides how long this one runs. (Programs that it starts
    # get the default again, which they would not with SIG_IGN.)
    signal.signal(signal.SIGTERM, lambda *_: None)
    if not logging.getLogger().handlers:
        logs.set_up("action")
    sending = threading.Lock()

    def send(done: TaskDone) -> None:
        with sending:
            sender.send_bytes(done.SerializeToString())

    order = RunAction.FromString(order_bytes)
    try:
        action = _find(import_module(module), name)
        given = read_input(order, action)
        if action.context_parameter:
            tell = partial(_tell, send)
            given[action.context_parameter] = dataclasses.replace(read_context(order, timeout_s), tell=tell)
        returned = action.function(**given)
        done = describe_result(asyncio.run(_wait_for(returned)) if inspect.isawaitable(returned) else returned)
    except BaseException as error:
        if not isinstance(error, ActionFailed | ActionCancelled):
            log_raised(_log, logging.WARNING, order, error)
        done = describe_exception(name, error)
    send(done)


def _end_with_worker(lifeline: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os.killpg(0, signal.SIGKILL)


def _tell(send: Callable[[TaskDone], None], text: str, fraction: float | None) -> None:
    send(describe_progress(text, fraction))


async def _wait_for(awaitable: Awaitable[object]) -> object:
    return await awaitable


def _find(module: ModuleType, name: str) -> AnyAction:
    """Return the action of this name in a module. Raises ValueError."""
    for each in vars(module).values():
        if isinstance(each, Action) and each.name == name:
            return each
    raise ValueError(f"{name} runs in a process of its own, which looks for it in {module.__name__}: define it there")
