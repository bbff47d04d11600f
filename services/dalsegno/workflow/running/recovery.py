"""What a failure that nothing handles sets off, if the definition says so: back to an entry (C9-C13, decision 22)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dalsegno.workflow.changes import AfterRevert, RevertBegun
from dalsegno.workflow.contexts.context import EMPTY_CONTEXT
from dalsegno.workflow.model import LAST, START, Strategy, Then
from dalsegno.workflow.records import Entry, Start, TaskExecution
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.running.view import View, task_view
from dalsegno.workflow.scope import EvaluationError, Template
from dalsegno.workflow.states import ExecutionState

_AFTER = {Then.STOP: AfterRevert.END, Then.PAUSE: AfterRevert.PAUSE, Then.RETRY: AfterRevert.GO_ON}


@dataclass(frozen=True, slots=True)
class Recovery:
    """Where the execution goes back to, and what follows."""

    sequence: int
    then: AfterRevert
    delay_s: float = 0.0


def recover(step: Step, failure: str) -> str | None:
    """Go back to an entry because of this failure. Return the reason when the execution fails instead."""
    execution = step.execution
    found = (_of_checkpoint(step) or _of_strategy(step)) if execution.is_live else None
    if found is None:
        lost = _lost(step) if execution.is_live else ""
        return f"{failure}\n{lost}" if lost else failure
    children = discarded_children(step, found.sequence)
    if children:
        return f"{failure}\ncannot go back: {describe_discarded(children[0])}"
    step.change(
        RevertBegun(
            sequence=found.sequence, then=found.then, delay_s=found.delay_s, failure=failure or "failed", at_s=step.at_s
        )
    )
    step.move_execution(ExecutionState.REVERTING, failure)
    return None


def discarded_children(step: Step, sequence: int) -> Sequence[str]:
    """Return the sub-workflows that ended behind the entry, or that are below these, and have discarded their
    beginning: they cannot be reverted."""
    execution = step.execution
    children: list[str] = []
    for end in reversed(execution.ended):
        if end.sequence <= sequence:
            break
        attempt = execution.attempts.get((end.task, max(end.item, 0), end.attempt))
        if attempt is not None and attempt.child_id and not attempt.is_retried:
            children.append(attempt.child_id)
    return step.surroundings.discarded_below(children) if children else ()


def describe_discarded(execution_id: str) -> str:
    """Return why an execution cannot be reverted."""
    return f"sub-workflow {execution_id} has discarded its history, so it cannot be reverted"


def _lost(step: Step) -> str:
    """Return why the strategy of the workflow cannot be carried out; empty when it asks for nothing that is
    discarded."""
    strategy, execution = step.workflow.strategy, step.execution
    if strategy is None or _entry(step, strategy) is not None:
        return ""
    is_start = strategy.to in (START, LAST) and execution.first_sequence > 1
    if not is_start and strategy.to not in execution.lost:
        return ""
    return f"cannot go back to checkpoint '{strategy.to}': its history is discarded"


def is_tried_again(step: Step) -> bool:
    """Return whether a failure goes back to an entry whose checkpoint has retries left: these come first."""
    return _of_checkpoint(step) is not None


def _of_checkpoint(step: Step) -> Recovery | None:
    """Return the way back to the newest entry that stands and whose checkpoint has retries left."""
    execution = step.execution
    for entry in reversed(execution.entries.values()):
        task = execution.tasks[entry.task]
        checkpoint = step.spec(task).checkpoint
        if entry.is_undone or checkpoint is None or not checkpoint.retry:
            continue
        used = max(_tries(step, task, item) for item in range(task.progress.item_count or 1))
        if entry.retries + used >= checkpoint.retry:
            continue
        delay_s = _seconds(checkpoint.delay_s, task_view(step, task))
        return None if delay_s is None else Recovery(entry.sequence, AfterRevert.GO_ON, delay_s)
    return None


def may_try_again(step: Step, task: TaskExecution, item: int) -> bool:
    """Return whether the sub-workflow of the item may be reverted and tried again: the retries of the checkpoint are
    for that and for going back to it."""
    checkpoint, entry = step.spec(task).checkpoint, step.execution.entries.get(task.entry)
    if checkpoint is None:
        return False
    return _tries(step, task, item) + (0 if entry is None else entry.retries) < checkpoint.retry


def _tries(step: Step, task: TaskExecution, item: int) -> int:
    """Return how often a sub-workflow of the item was reverted to be tried again since its whole task began."""
    attempts = step.execution.attempts
    count = 0
    for number in range(task.progress.attempt, 0, -1):
        attempt = attempts.get((task.number, item, number))
        if attempt is not None and not attempt.is_undone and not attempt.reverts:
            if not attempt.child_is_reverted and number < task.progress.round_of(item):
                break  # an operation has begun it anew
            count += attempt.child_is_reverted
    return count


def _of_strategy(step: Step) -> Recovery | None:
    strategy = step.workflow.strategy
    entry = None if strategy is None else _entry(step, strategy)
    if strategy is None or entry is None or (strategy.then is Then.RETRY and entry.retries >= strategy.count):
        return None
    delay_s = _seconds(strategy.delay_s, View(step, None, EMPTY_CONTEXT))
    return None if delay_s is None else Recovery(entry.sequence, _AFTER[strategy.then], delay_s)


def _entry(step: Step, strategy: Strategy) -> Entry | Start | None:
    """Return the entry that a strategy means; None when no entry of that name stands."""
    execution = step.execution
    if strategy.to != START:
        for entry in reversed(execution.entries.values()):
            if not entry.is_undone and strategy.to in (LAST, entry.name):
                return entry
    return execution.start if strategy.to in (START, LAST) else None


def _seconds(template: Template | None, scope: View) -> float | None:
    """Return the delay; None when it cannot be evaluated: then the failure takes its course."""
    if template is None:
        return 0.0
    try:
        value = template.evaluate(scope)
    except EvaluationError:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and value >= 0 else None  # type: ignore[arg-type, operator]
