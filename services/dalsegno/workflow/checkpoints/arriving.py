"""The last part of going back: the state of the entry is restored, and the execution stands there or goes on
(decision 19)."""

from __future__ import annotations

from collections.abc import Set

from dalsegno.workflow.changes import (
    AfterRevert,
    AttemptsBegun,
    ContextEdited,
    Restored,
    RevertBegun,
    TaskMoved,
    TaskTimed,
    Timer,
)
from dalsegno.workflow.checkpoints import reaching
from dalsegno.workflow.commands import Send
from dalsegno.workflow.events import TimerFired
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.model import START
from dalsegno.workflow.operating.control import go_on
from dalsegno.workflow.records import UNDONE_BY, Kept, TaskExecution
from dalsegno.workflow.routing import joins
from dalsegno.workflow.running import lifecycle, policies
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import COMPLETED_ATTEMPT, ExecutionState, TaskState
from dalsegno.workflow.value import Value


def arrive(step: Step) -> None:
    """Restore the state at the entry; then edit, and stand there, end there or go on."""
    execution = step.execution
    revert = execution.revert
    assert revert is not None
    aim, published = revert.aim, dict(revert.published)
    entry = execution.entries.get(aim.sequence)
    kept = execution.as_at(aim.sequence)
    _restore(step, aim.sequence, kept)
    begin_anew(step, kept.at_s, _open_then(kept))
    if published:
        _edit(step, aim.sequence, published)
    if aim.arrival is not None and aim.arrival.edit is not None and not aim.next:
        reaching.edit(step, aim.arrival.edit, aim.sequence)
    deadline_s = execution.created.deadline_s
    if deadline_s is not None and deadline_s <= step.at_s:
        lifecycle.terminate(step, ExecutionState.ERROR, "the execution's deadline has passed")
    else:
        _go_on(step, aim, START if entry is None else entry.name)


def _restore(step: Step, sequence: int, kept: Kept) -> None:
    execution = step.execution
    undone = [task.number for task in execution.added_since(kept) if task.superseded_by != UNDONE_BY]
    step.change(
        Restored(
            sequence=sequence,
            tasks=(*sorted(kept.tasks), *undone),
            attempts=tuple(sorted(kept.attempts)),
            at_s=step.at_s,
        )
    )


def _open_then(kept: Kept) -> Set[AttemptKey]:
    """Return the attempts that were open at the entry and have been altered since."""
    return {key for key, each in kept.attempts.items() if each is not None and each.state not in COMPLETED_ATTEMPT}


def begin_anew(step: Step, entry_s: float, open_then: Set[AttemptKey]) -> None:
    """Have what was active at the entry begin again when the execution goes on; timers have the time that they had
    left.

    `entry_s`: when the execution was at the entry last. `open_then`: the attempts that were open there and are not left
    alone.
    """
    for join in step.tasks_in(TaskState.WAITING):
        if len(join.arrivals.arrived) >= joins.needed(step, join):  # it was about to begin
            step.change(TaskMoved(task=join.number, state=TaskState.IDLE, at_s=step.at_s))
    for task in step.tasks_in(TaskState.IDLE, TaskState.RUNNING, TaskState.PAUSED, TaskState.RUNNING_DELAYED):
        timing = task.timing
        if timing.timeout_due_s is not None:
            due_s = step.at_s + max(0.0, timing.timeout_due_s - entry_s)
            step.change(TaskTimed(task=task.number, due_s=due_s))
            policies.wake(step, task, Timer.TIMEOUT, due_s)
        if task.state is TaskState.RUNNING_DELAYED:
            _delay_anew(step, task, entry_s)
        elif task.progress.item_count is not None:
            _begin_items_anew(step, task, open_then)
        elif task.state is not TaskState.IDLE and not _is_open(step, task, 0):
            step.change(TaskMoved(task=task.number, state=TaskState.IDLE, timer=Timer.WAIT_BEFORE, at_s=step.at_s))


def _is_open(step: Step, task: TaskExecution, item: int) -> bool:
    """Return whether a delegate is open that was open at the entry already."""
    attempt = step.execution.current(task, item)
    return attempt is not None and attempt.state not in COMPLETED_ATTEMPT


def _delay_anew(step: Step, task: TaskExecution, entry_s: float) -> None:
    timing = task.timing
    due_s = step.at_s + max(0.0, (timing.due_s or 0.0) - entry_s)
    step.change(
        TaskMoved(
            task=task.number,
            state=task.state,
            info=task.info,
            timer=timing.timer,
            due_s=due_s,
            verdict=timing.verdict,
            at_s=step.at_s,
        )
    )
    policies.wake(step, task, timing.timer, due_s)


def _begin_items_anew(step: Step, task: TaskExecution, open_then: Set[AttemptKey]) -> None:
    """Have the items run again that had not ended at the entry. Those that had not begun get new numbers with them."""
    execution, progress = step.execution, task.progress
    current = list(execution.current_attempts(task))
    again = tuple(each.key[1] for each in current if each.key in open_then and each.state in COMPLETED_ATTEMPT)
    if again or progress.begun_count < len(progress.pending):
        step.change(
            AttemptsBegun(
                task=task.number,
                attempt=task.next_attempt,
                only=again,
                concurrency=progress.concurrency,
                retries=progress.retries,
                at_s=step.at_s,
            )
        )
    is_open = any(each.state not in COMPLETED_ATTEMPT for each in current)
    if not is_open and task.state is not TaskState.IDLE:
        is_left = progress.begun_count < len(progress.pending)
        timer = Timer.ITEMS_LEFT if is_left else Timer.WAIT_BEFORE  # it was about to end: it begins as a whole
        step.change(TaskMoved(task=task.number, state=TaskState.IDLE, timer=timer, at_s=step.at_s))


def _edit(step: Step, sequence: int, values: dict[str, Value]) -> None:
    """Make what the reverts published an edit of what the entry's task published, or of the workflow's variables."""
    entry = step.execution.entries.get(sequence)
    step.change(ContextEdited(task=0 if entry is None else entry.task, values=values, entry=sequence))


def _has_gone_back(step: Step) -> bool:
    """Return whether this step went back before: each further try is an event of its own."""
    return sum(isinstance(change, Restored) for change in step.changes) > 1


def _go_on(step: Step, aim: RevertBegun, name: str) -> None:
    info = f"reverted to checkpoint '{name}'" + (f": {aim.failure}" if aim.failure else "")
    if aim.then is AfterRevert.END:
        step.move_execution(ExecutionState.REVERTED, info, paused_at=aim.sequence)
    elif aim.then is AfterRevert.PAUSE:
        step.move_execution(ExecutionState.PAUSED, info, paused_at=aim.sequence)
    elif aim.delay_s > 0 or _has_gone_back(step):
        due_s = step.at_s + aim.delay_s
        step.move_execution(ExecutionState.PAUSED, info, paused_at=aim.sequence, goes_on_s=due_s)
        step.command(Send(step.execution.id, TimerFired(task=0, timer=Timer.GO_ON, due_s=due_s), due_s))
    else:
        if aim.next:
            step.set_stops((aim.next,), aim.arrival)
        step.move_execution(ExecutionState.RUNNING)
        go_on(step)
