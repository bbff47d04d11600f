"""The attempts of a task: one, or one per item. Items begin in slices, so that no step grows with the list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import nsmallest

from dalsegno.workflow.changes import AttemptsBegun, TaskMoved, Timer
from dalsegno.workflow.commands import Send
from dalsegno.workflow.events import SliceDue
from dalsegno.workflow.model import Items
from dalsegno.workflow.records import Attempt, TaskExecution
from dalsegno.workflow.running import launching, policies
from dalsegno.workflow.running.follow_ups import End, WindDown
from dalsegno.workflow.running.step import HardFailure, Step
from dalsegno.workflow.running.view import of_item, task_view
from dalsegno.workflow.scope import EvaluationError, Suspended
from dalsegno.workflow.secrets import hide, is_secret, show
from dalsegno.workflow.states import AS_TASK, AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import Value, made

# A lookup of a member in its class is slow, and every step needs these (see execution.py).
_EXECUTION_RUNNING, _RUNNING, _ITEM_CANCELLED = ExecutionState.RUNNING, TaskState.RUNNING, AttemptState.CANCELLED

SLICE = 250
"""The most items that a SliceDue begins. The conductor carries out one SliceDue in a batch, beside other works, which
wait for it."""

AT_ONCE = 100
"""The most items that any other step begins, of all its tasks together."""


def launch(step: Step, task: TaskExecution, retries: int) -> None:
    """Begin a round of attempts: the first one, or the next one of a retry.

    In an execution that is not RUNNING the task becomes IDLE instead; its timer records what it has waited for already.
    """
    progress = task.progress
    if step.execution.state is not _EXECUTION_RUNNING:
        waited = Timer.RETRY if retries > progress.retries else Timer.WAIT_BEFORE
        step.change(TaskMoved(task=task.number, state=TaskState.IDLE, timer=waited, at_s=step.at_s))
        return
    step.change(TaskMoved(task=task.number, state=_RUNNING, at_s=step.at_s))
    spec = step.spec(task)
    concurrency = policies.concurrency(step, task)
    policies.check(step, task)
    only = _only(task, retries)
    items: Value | None = None
    try:
        if only is None:
            items = _items(step, task)
    except EvaluationError as error:
        if step.workflow.rules.failures.ends_at_once:
            raise
        step.later(End(task, TaskState.ERROR, str(error)))
        return
    begun = AttemptsBegun(
        task=task.number,
        attempt=task.next_attempt,
        items=items,
        only=only,
        concurrency=concurrency,
        retries=0 if progress.plan is not None else retries,
        at_s=step.at_s,
    )
    step.change(begun)
    policies.arm_timeout(step, task)
    items = progress.items
    if items is None and spec.action is None and spec.workflow is None and not step.workflow.rules.calls.runs_noop:
        step.later(End(task, TaskState.SUCCESS, ""))
    elif items is None:
        launching.add(step, task, 0, None)
    elif progress.ended_count < len(items.data):  # type: ignore[arg-type]
        fill(step, task)
    else:
        step.later(End(task, TaskState.SUCCESS, ""))


def prepare(step: Step, task: TaskExecution) -> None:
    """Evaluate what the task will do, so that errors are found before anything begins.

    Raise EvaluationError or HardFailure.
    """
    spec = step.spec(task)
    policies.wait_before_s(step, task)
    policies.concurrency(step, task)
    if spec.items:
        rows = listed(step, task, spec.items[0])
        if rows:
            launching.prepare(step, task, of_item(spec.items[0].names, rows[0][0]))
    elif spec.action is not None or spec.workflow is not None:
        step.prepared[task.number, 0] = launching.prepare(step, task, None)


def _only(task: TaskExecution, retries: int) -> tuple[int, ...] | None:
    """Return the items that the round runs again: those that an operation named, or those that are retried; None:
    all."""
    progress = task.progress
    if progress.plan is not None:
        return progress.plan.only
    if retries and progress.round is not None and progress.round.only is not None:
        return tuple(item for item in progress.failed_items if progress.rounds.get(item) == progress.attempt)
    return None


def _items(step: Step, task: TaskExecution) -> Value | None:
    """Return the list of items of a round that runs all of them; None without items. Raise EvaluationError,
    HardFailure."""
    progress = task.progress
    if progress.plan is not None and progress.plan.keeps_items and progress.items is not None:
        return progress.items
    spec = step.spec(task)
    if not spec.items:
        return None
    return made(listed(step, task, spec.items[0]) if step.workflow.rules.items.by_function else zipped(step, task))


def listed(step: Step, task: TaskExecution, items: Items) -> list[list[object]]:
    """Return one row per item, with the item in it. Raise EvaluationError for a bad expression; it must be a list."""
    values = _members(step, task, items.values.evaluate(task_view(step, task)))
    if not isinstance(values, list | tuple):
        raise HardFailure(f"`with` of task '{task.name}' needs a list, not {values!r:.100}")
    return [[value] for value in values]


def _members(step: Step, task: TaskExecution, values: object) -> object:
    """Return the list of items; those of a list that is a secret are secrets. Raise HardFailure for another secret."""
    if not is_secret(values):
        return values
    shown = show(values, step.cipher)
    if isinstance(shown, str | dict):
        shown = list(shown)  # its characters or keys
    if not isinstance(shown, list):
        raise HardFailure(f"the items of task '{task.name}' are a secret that is no list")
    return [hide(value, step.cipher) for value in shown]


def zipped(step: Step, task: TaskExecution) -> list[list[object]]:
    """Return one row per item, with the values of all names. Raise EvaluationError for a bad expression, and
    HardFailure unless all lists have the same length."""
    items = step.spec(task).items
    columns: list[list[object]] = []
    scope = task_view(step, task)
    for one in items:
        values = _members(step, task, one.values.evaluate(scope))
        if isinstance(values, str | list | tuple | dict | set | frozenset):
            listed = list(values)
        else:
            raise HardFailure(
                f"with-items of task '{task.name}' needs a list for '{', '.join(one.names)}', not {values!r:.100}"
            )
        columns.append(listed)
    if len({len(column) for column in columns}) > 1:
        lengths = ", ".join(
            f"{', '.join(one.names)}: {len(column)}" for one, column in zip(items, columns, strict=True)
        )
        raise HardFailure(f"with-items of task '{task.name}' needs lists of the same length ({lengths})")
    return [list(row) for row in zip(*columns, strict=True)]


def variables(step: Step, task: TaskExecution, chosen: Sequence[int]) -> Iterator[dict[str, object]]:
    """Yield the variables of each of these items."""
    assert task.progress.items is not None
    rows = task.progress.items.data
    assert isinstance(rows, list)
    items = step.spec(task).items
    if step.workflow.rules.items.by_function:
        yield from (of_item(items[0].names, rows[item][0]) for item in chosen)
        return
    names = [one.names[0] for one in items]
    for item in chosen:
        yield dict(zip(names, rows[item], strict=True))


def fill(step: Step, task: TaskExecution) -> None:
    """Create the attempts that may run now, one slice of them; another event begins the rest."""
    progress = task.progress
    assert progress.item_count is not None
    if task.state is not _RUNNING or step.execution.state is not _EXECUTION_RUNNING:
        _leave(step, task)
        return
    under_way = progress.added_count - progress.ended_count
    room = len(progress.pending) - progress.begun_count
    if progress.concurrency is not None:
        room = min(room, progress.concurrency - under_way)
    if room <= 0:
        return
    count = max(0, min(room, (SLICE if isinstance(step.event, SliceDue) else AT_ONCE) - step.begun_items))
    step.begun_items += count
    chosen = progress.pending[progress.begun_count : progress.begun_count + count]
    if step.workflow.rules.calls.begins_together and progress.round is None:  # all of them, or none
        chosen = _prepare_slice(step, task, chosen)
    begun = progress.begun_count
    if _add_slice(step, task, chosen, room) and progress.begun_count - begun < room:
        due = SliceDue(at_s=step.at_s, task=task.number, attempt=progress.attempt, begun=progress.begun_count)
        step.command(Send(step.execution.id, due))


def _refill(step: Step, task: TaskExecution) -> None:
    """Begin the next item after one has ended, unless a SliceDue does it."""
    if not _slice_comes(step, task):
        fill(step, task)


def _slice_comes(step: Step, task: TaskExecution) -> bool:
    return task.progress.slice_due and task.state is _RUNNING and step.execution.state is _EXECUTION_RUNNING


def _prepare_slice(step: Step, task: TaskExecution, chosen: Sequence[int]) -> Sequence[int]:
    """Evaluate what these items will run, as long as the event has steps of evaluation left. Return the items done.

    Raise Suspended once the values of all of them have been requested.
    """
    is_suspended = False
    for place, (item, own) in enumerate(zip(chosen, variables(step, task, chosen), strict=True)):
        if place and step.is_spent:
            chosen = chosen[:place]
            break
        try:
            step.prepared[task.number, item] = launching.prepare(step, task, own)
        except Suspended:
            is_suspended = True
    if is_suspended:
        raise Suspended
    return chosen


def _add_slice(step: Step, task: TaskExecution, chosen: Sequence[int], room: int) -> bool:
    """Create the attempts of these items, as long as the event has steps of evaluation left. `room`: how many may
    begin, these and later ones. Return False when the task has failed instead. Raise Suspended once the values of
    all of them have been requested."""
    is_suspended = False
    is_prepared = bool(chosen) and (task.number, chosen[0]) in step.prepared
    for place, (item, own) in enumerate(zip(chosen, variables(step, task, chosen), strict=True)):
        step.is_slice_full = place == len(chosen) - 1
        step.items_left = room - place - 1 if step.is_slice_full or not is_prepared else 0
        try:
            if not launching.add(step, task, item, own):
                return False
        except Suspended:
            is_suspended = True
        finally:
            step.items_left, step.is_slice_full = 0, False
        if step.is_spent and not (is_prepared or is_suspended):
            break
    if is_suspended:
        raise Suspended
    return True


def _leave(step: Step, task: TaskExecution) -> None:
    """Make the task IDLE when the execution has ended and no item runs: the remaining items begin if the execution is
    run again (decision 3)."""
    progress = task.progress
    left = len(progress.pending) - progress.begun_count
    if step.execution.is_completed and task.state is _RUNNING and left and progress.added_count == progress.ended_count:
        of_all = f"{left} of {progress.item_count}"
        info = f"{of_all} items not begun: the execution ended first; they go on if that is run again"
        step.change(
            TaskMoved(task=task.number, state=TaskState.IDLE, timer=Timer.ITEMS_LEFT, info=info, at_s=step.at_s)
        )


def go_on(step: Step, task: TaskExecution) -> None:
    """Begin the items that remained when the execution ended."""
    step.change(TaskMoved(task=task.number, state=_RUNNING, at_s=step.at_s))
    fill(step, task)


def ended(step: Step, task: TaskExecution, attempt: Attempt) -> None:
    """Continue after an attempt of the present round has ended: end the task, or begin the next item."""
    progress = task.progress
    if progress.item_count is None:
        verdict = AS_TASK[attempt.state]
        step.later(End(task, verdict, attempt.error))
    elif step.workflow.rules.items.stops_early:
        settle_items(step, task)
    elif attempt.state is _ITEM_CANCELLED:
        step.later(End(task, TaskState.CANCELLED, attempt.error or f"item {attempt.key[1]} was cancelled"))
    elif progress.settled_count == progress.item_count:
        failed = progress.failed_count > 0
        info = _failure_info(step, task) if failed else ""
        step.later(End(task, TaskState.ERROR if failed else TaskState.SUCCESS, info))
    else:
        _refill(step, task)


def settle_items(step: Step, task: TaskExecution) -> None:
    """Let the task go on while items are active; then end it with the worst end of its items."""
    progress = task.progress
    if task.state not in (TaskState.RUNNING, TaskState.PAUSED):
        return
    execution = step.execution
    open_count = progress.added_count - progress.settled_count
    if open_count > len(progress.quiet_items) or _slice_comes(step, task):
        _go_on(step, task)
    elif progress.cancelled_count or (execution.state is ExecutionState.CANCELLING and progress.failed_count):
        step.later(End(task, TaskState.CANCELLED, "items were cancelled"))
    elif progress.failed_count:
        info = _failure_info(step, task)
        step.later(End(task, TaskState.ERROR, info))
    elif open_count:
        if task.state is not TaskState.PAUSED:
            step.change(TaskMoved(task=task.number, state=TaskState.PAUSED, at_s=step.at_s))
    elif progress.ended_count == progress.item_count:
        step.later(End(task, TaskState.SUCCESS, ""))
    elif execution.state is ExecutionState.CANCELLING:
        step.later(End(task, TaskState.CANCELLED, "not all items had begun when the execution was cancelled"))
    else:
        _go_on(step, task)


def _go_on(step: Step, task: TaskExecution) -> None:
    was_paused = task.state is TaskState.PAUSED
    if was_paused:
        step.change(TaskMoved(task=task.number, state=TaskState.RUNNING, at_s=step.at_s))
    if not task.progress.cancelled_count and was_paused:
        fill(step, task)
    elif not task.progress.cancelled_count:
        _refill(step, task)
    elif step.execution.state is ExecutionState.RUNNING and not _runs_children(step, task):
        step.later(WindDown(task, f"an item of task '{task.name}' was cancelled"))


def _runs_children(step: Step, task: TaskExecution) -> bool:
    """Return whether the items are sub-workflows: cancelling one of them does not cancel its parent (O8, decision
    12)."""
    attempt = step.execution.current(task, next(iter(task.progress.failed_items), 0))
    return attempt is not None and attempt.runs_workflow


def _failure_info(step: Step, task: TaskExecution) -> str:
    """Return which items failed and why, one line for each cause among the first failures."""
    progress = task.progress
    found = [step.execution.current(task, item) for item in nsmallest(_FAILURES_READ, progress.failed_items)]
    causes: dict[str, list[int]] = {}
    for attempt in found:
        if attempt is not None and attempt.state is AttemptState.ERROR:
            causes.setdefault(_cause(attempt.error), []).append(attempt.key[1])
    lines = []
    for cause, items in sorted(causes.items(), key=lambda each: -len(each[1]))[:_CAUSES_TOLD]:
        some = ", ".join(map(str, items[:_ITEMS_TOLD])) + (", …" if len(items) > _ITEMS_TOLD else "")
        lines.append(f"  {len(items)} of {progress.item_count} failed: {some}: {cause}")
    if len(causes) > _CAUSES_TOLD or progress.failed_count > len(found):
        lines.append(f"  {progress.failed_count} of {progress.item_count} failed in all")
    return "\n".join(["One or more actions had failed:", *lines])


def _cause(error: str) -> str:
    """Return why an item failed, on one line; of a chain of failures, the first cause."""
    lines = error.splitlines() or ["failed"]
    return (lines[-1] if lines[0].startswith("Failure caused by") else " ".join(lines)).strip()[:_CAUSE_MAX]


_FAILURES_READ = 1_000
_CAUSES_TOLD = 5
_ITEMS_TOLD = 5
_CAUSE_MAX = 1_000
