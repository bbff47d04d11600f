"""Run many actions at once: async ones as tasks of the event loop, blocking ones in threads, isolated ones in processes
that threads wait for, instant ones inline.

Each has its deadline. An action that the deadline stops has failed; one that CancelAction stops is cancelled. A thread
cannot be stopped, nor an async action that does not let itself be cancelled: it is reported, its own outcome is
dropped, and it keeps its slot until it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from dalsegno.actions.action import ActionContext, ActionFailed, AnyAction
from dalsegno.actions.permission import explain_absence
from dalsegno.actions.registry import Registry
from dalsegno.v1.executor_service_pb2 import RunAction, TaskDone
from dalsegno.worker.isolation import Child
from dalsegno.worker.order import log_raised, read_context, read_input
from dalsegno.worker.outbox import Key
from dalsegno.worker.outcome import (
    describe_cancel,
    describe_exception,
    describe_failure,
    describe_progress,
    describe_result,
)
from dalsegno.worker.pace import Pace
from dalsegno.workflow.value import UnfitValue

CLEANUP_S = 5.0
"""The time that a stopped async action has to clean up before it is reported."""

# The check whether a value is awaitable takes longer than most instant actions.
_PLAIN = frozenset({type(None), bool, int, float, str, list, dict})

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Run:
    """One action that runs, or waits for a thread."""

    order: RunAction
    engine: str
    """The address of the engine it came from."""
    started_s: float
    context: ActionContext | None = None
    task: asyncio.Task[object] | None = None
    future: Future[TaskDone] | None = None
    child: Child | None = None
    """The process of an isolated action, which the thread of `future` waits for."""
    timer: asyncio.TimerHandle | None = None
    stopped: str = ""
    """Why it was stopped; empty if it was not."""
    late: bool = False
    """Whether its deadline stopped it."""
    reported: bool = False
    """Whether its outcome has been reported, or must not be reported."""


class Runner:
    """Runs actions and reports their outcomes.

    `report` is called once for each action, except a dropped one, with its outcome and the engine it came from;
    `free` once for each when it no longer uses a slot.
    """

    def __init__(
        self,
        registry: Registry,
        threads: int,
        report: Callable[[TaskDone, Run], None],
        free: Callable[[Run], None],
        report_progress: Callable[[TaskDone, Run], None],
        pace: Pace | None = None,
        note_start: Callable[[], None] = lambda: None,
    ) -> None:
        """`report_progress` is called on the event loop with the progress that an action reports.

        With a `pace`, actions that come too fast wait for their turn; `note_start` is called when one has had it.
        """
        self._registry = registry
        self._report = report
        self._free = free
        self._tell = report_progress
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="action")
        self._loop = asyncio.get_running_loop()
        self._runs: dict[str, Run] = {}
        self._leftovers: set[Run] = set()
        self._told: deque[tuple[Run, TaskDone]] = deque()
        self._is_telling = False
        self._pace = pace
        self._note_start = note_start
        self._waiting: dict[Run, tuple[AnyAction, float | None]] = {}
        self._turn: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return the number of running actions whose outcomes will be reported."""
        return len(self._runs)

    @property
    def stuck(self) -> int:
        """Return the number of actions that were stopped and still run."""
        return len(self._leftovers)

    @property
    def waiting(self) -> int:
        """Return the number of actions that wait for their turn."""
        return len(self._waiting)

    def keys(self) -> list[Key]:
        """Return the deliveries that are running."""
        return [(run.order.action_execution_id, run.order.delivery) for run in self._runs.values()]

    def delivery_of(self, action_execution_id: str) -> int | None:
        """Return the delivery of this action execution that runs, or None."""
        run = self._runs.get(action_execution_id)
        return None if run is None else run.order.delivery

    def start(self, order: RunAction, engine: str, timeout_s: float | None) -> None:
        """Run an action; stop it after `timeout_s` seconds. An inline action has been reported when this returns."""
        run = Run(order, engine, time.monotonic())
        action = self._registry.find(order.action)
        if action is None:
            self._end(run, describe_failure(explain_absence(order.action)))
        elif timeout_s is not None and timeout_s <= 0:
            self._end(run, describe_failure("timed out before it was started"))
        elif self._pace is None:
            self._start(run, action, timeout_s)
        else:
            self._keep(run, timeout_s)
            self._waiting[run] = action, timeout_s
            self._take_turns()

    def _take_turns(self) -> None:
        """Start what waits, as far as the pace allows it now, in the order in which it came."""
        assert self._pace is not None
        if self._turn is not None:
            self._turn.cancel()
        while self._waiting:
            now_s = time.monotonic()
            if wait_s := self._pace.wait_s(now_s):
                self._turn = self._loop.call_later(wait_s, self._take_turns)
                return
            self._pace.note(now_s)
            run = next(iter(self._waiting))
            action, timeout_s = self._waiting.pop(run)
            self._note_start()
            self._start(run, action, None if timeout_s is None else timeout_s - (now_s - run.started_s))

    def _start(self, run: Run, action: AnyAction, timeout_s: float | None) -> None:
        try:
            given = read_input(run.order, action)
            if action.context_parameter:
                report_progress = partial(self._hear_progress, run)
                run.context = dataclasses.replace(read_context(run.order, timeout_s), tell=report_progress)
                given[action.context_parameter] = run.context
        except (UnfitValue, TypeError) as error:
            self._end(run, describe_failure(f"{action.name}: {error}"))
            return
        if action.blocking:
            self._keep(run, timeout_s)
            if action.isolated:
                run.child = Child(action, run.order, timeout_s, partial(self._hear, run))
                run.future = self._threads.submit(run.child.run)
            else:
                run.future = self._threads.submit(_run_blocking, action, given)
            run.future.add_done_callback(lambda _: self._thread_ended(run))
            return
        try:
            returned = action.function(**given)
        except BaseException as error:  # also an exit, which would end all other actions
            self._end(run, _raised(run, error))
            return
        if type(returned) in _PLAIN or not inspect.isawaitable(returned):
            self._end(run, describe_result(returned))
            return
        self._keep(run, timeout_s)
        run.task = self._loop.create_task(_wait_for(returned))
        run.task.add_done_callback(lambda task: self._task_ended(run, returned, task))

    def stop(self, key: Key, reason: str, *, late: bool = False) -> bool:
        """Stop an action, as cancelled, or as failed if it is late. Return False if this delivery does not run."""
        run = self._runs.get(key[0])
        if run is None or run.order.delivery != key[1] or run.stopped:
            return False
        run.stopped, run.late = reason, late
        if run.context is not None:
            run.context.cancelled.set()
        if run.task is not None:
            run.task.cancel()  # reported when it has ended
            self._loop.call_later(CLEANUP_S, self._give_up, run)
        elif self._waiting.pop(run, None) is not None:
            self._end(run, _stopped(run))
        elif run.future is not None and not run.future.cancel():
            if run.child is not None:
                run.child.kill()
            self._settle(run, _stopped(run))
            self._leftovers.add(run)
        return True

    def _give_up(self, run: Run) -> None:
        if run.task is not None and not run.task.done():
            _log.warning("%s goes on %g s after it was stopped", run.order.action, CLEANUP_S)
            self._settle(run, _stopped(run))
            self._leftovers.add(run)

    def drop(self, key: Key) -> bool:
        """Stop an action without reporting its outcome. Return False if this delivery does not run."""
        run = self._runs.get(key[0])
        if run is None or run.order.delivery != key[1]:
            return False
        run.reported = True
        self._leftovers.add(run)
        self.stop(key, "superseded")
        self._runs.pop(key[0], None)
        return True

    def drop_all(self) -> None:
        """Stop all actions without reporting their outcomes."""
        for key in self.keys():
            self.drop(key)

    async def close(self, wait_s: float) -> None:
        """Stop all actions, and wait at most `wait_s` seconds until the async ones have cleaned up."""
        self.drop_all()
        tasks = [run.task for run in self._leftovers if run.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=wait_s)
            await asyncio.sleep(0)  # for what is called when they have ended
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _hear_progress(self, run: Run, text: str, fraction: float | None) -> None:
        """Forward a progress report; called in the action's thread, or on the event loop."""
        self._hear(run, describe_progress(text, fraction))

    def _hear(self, run: Run, progress: TaskDone) -> None:
        self._told.append((run, progress))
        if not self._is_telling:  # otherwise the event loop is awake already: an action may report without a pause
            self._is_telling = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._tell_progress)

    def _tell_progress(self) -> None:
        self._is_telling = False  # before the look, so that nothing is missed
        for _ in range(len(self._told)):
            run, progress = self._told.popleft()
            progress.action_execution_id, progress.delivery = run.order.action_execution_id, run.order.delivery
            if not run.reported:
                self._tell(progress, run)

    def _keep(self, run: Run, timeout_s: float | None) -> None:
        key = run.order.action_execution_id, run.order.delivery
        if self._runs.get(key[0]) is run:
            return  # since it waited for its turn
        self._runs[key[0]] = run
        if timeout_s is not None:
            expire = partial(self.stop, key, f"timed out after {timeout_s:.3f} s", late=True)
            run.timer = self._loop.call_later(timeout_s, expire)

    def _task_ended(self, run: Run, awaited: Awaitable[object], task: asyncio.Task[object]) -> None:
        if inspect.iscoroutine(awaited):
            awaited.close()  # a task that is cancelled before its first step does not close it
        if run.stopped:
            if not task.cancelled():
                task.exception()  # retrieved, or it is logged as never retrieved
            done = _stopped(run)
        elif task.cancelled():
            done = describe_cancel("cancelled by the action")
        elif (error := task.exception()) is not None:
            done = _raised(run, error)
        else:
            done = describe_result(task.result())
        self._end(run, done)

    def _thread_ended(self, run: Run) -> None:
        """Forward the end; called in the action's thread, or on the event loop if it was cancelled before."""
        try:
            self._loop.call_soon_threadsafe(self._take_result, run)
        except RuntimeError:  # the loop is closed: the executor has stopped
            _log.debug("%s ended after the executor had", run.order.action)

    def _take_result(self, run: Run) -> None:
        assert run.future is not None
        if run.future.cancelled() or run.stopped:
            done = _stopped(run)
        elif (error := run.future.exception()) is not None:
            done = _raised(run, error)
        else:
            done = run.future.result()
        self._end(run, done)

    def _end(self, run: Run, done: TaskDone) -> None:
        self._settle(run, done)
        self._leftovers.discard(run)
        self._free(run)

    def _settle(self, run: Run, done: TaskDone) -> None:
        """Report the outcome if it is not reported, and remove the run from the awaited ones."""
        order = run.order
        if self._runs.get(order.action_execution_id) is run:
            del self._runs[order.action_execution_id]
        if run.timer is not None:
            run.timer.cancel()
        if run.reported:
            return
        if self._told:
            self._tell_progress()  # what it reported before its end is told before it
        run.reported = True
        done.action_execution_id = order.action_execution_id
        done.delivery = order.delivery
        elapsed_s = time.monotonic() - run.started_s
        seconds = int(elapsed_s)
        done.elapsed.seconds = seconds
        done.elapsed.nanos = int((elapsed_s - seconds) * 1e9)
        self._report(done, run)


def _run_blocking(action: AnyAction, given: dict[str, object]) -> TaskDone:
    """Run in a thread. It also encodes the result: a large one would block the event loop."""
    return describe_result(action.function(**given))


async def _wait_for(awaitable: Awaitable[object]) -> object:
    try:
        return await awaitable
    except SystemExit as error:  # it would end the event loop and all other actions
        raise ActionFailed(f"the action called exit({error.code})") from error
    except KeyboardInterrupt as error:
        raise ActionFailed("the action raised KeyboardInterrupt") from error


def _stopped(run: Run) -> TaskDone:
    return describe_failure(run.stopped) if run.late else describe_cancel(run.stopped or "cancelled")


def _raised(run: Run, error: BaseException) -> TaskDone:
    if not isinstance(error, ActionFailed):
        log_raised(_log, logging.INFO, run.order, error)
    return describe_exception(run.order.action, error)
