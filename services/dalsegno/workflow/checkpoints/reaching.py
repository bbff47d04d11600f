"""Reaching a checkpoint: where its entry stands, what it holds, and whether the execution stops there (decision 16)."""

from __future__ import annotations

from dalsegno.workflow.changes import CheckpointReached, ContextEdited, Edit, TaskMoved
from dalsegno.workflow.model import Checkpoint, CheckpointPlace, Command
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.running import launching
from dalsegno.workflow.running.follow_ups import RunCommand
from dalsegno.workflow.running.step import HardFailure, Step
from dalsegno.workflow.running.view import task_view
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.states import ExecutionState, TaskState
from dalsegno.workflow.value import Value, made

_SUCCESS, _SKIPPED = TaskState.SUCCESS, TaskState.SKIPPED


def reach_before(step: Step, task: TaskExecution) -> None:
    """Reach the checkpoint before a task that would begin now; the task waits if the execution stops there."""
    checkpoint = step.spec(task).checkpoint
    if checkpoint is None or task.entry or step.execution.state is not ExecutionState.RUNNING:
        return
    if _stands_before(step, task, checkpoint) and not _ends(step):
        if task.state is TaskState.WAITING:  # its join is filled
            step.change(TaskMoved(task=task.number, state=TaskState.IDLE, at_s=step.at_s))
        _reach(step, task, checkpoint)


def stops_after(step: Step, task: TaskExecution) -> bool:
    """Reach the checkpoint after a task that has ended well. Return whether its transitions wait, because the execution
    stops there."""
    checkpoint = step.spec(task).checkpoint
    if checkpoint is None or task.entry or task.routed or not step.execution.is_live:
        return False
    if (task.state is not _SUCCESS and task.state is not _SKIPPED) or _stands_before(step, task, checkpoint):
        return False
    if _ends(step):
        return False
    return _reach(step, task, checkpoint)


def _ends(step: Step) -> bool:
    """Return whether an engine command is about to end the execution in this step: nothing goes on from here."""
    return any(isinstance(each, RunCommand) and each.command is not Command.PAUSE for each in step.todo)


def _stands_before(step: Step, task: TaskExecution, checkpoint: Checkpoint) -> bool:
    if checkpoint.place is None:
        return launching.runs_workflow(step, step.spec(task))
    return checkpoint.place is CheckpointPlace.BEFORE


def _reach(step: Step, task: TaskExecution, checkpoint: Checkpoint) -> bool:
    """Record the entry. Return whether the execution stops there."""
    data = _data(step, task, checkpoint)
    step.change(CheckpointReached(name=checkpoint.name, task=task.number, data=data, route=task.route, at_s=step.at_s))
    if checkpoint.keep is not None:
        step.keeps = checkpoint.name, checkpoint.keep
    if checkpoint.name not in step.execution.stop_at:
        return False
    return arrive(step, step.execution.revision)


def _data(step: Step, task: TaskExecution, checkpoint: Checkpoint) -> Value | None:
    if not checkpoint.data:
        return None
    scope = task_view(step, task)
    try:
        return made({name: template.evaluate(scope) for name, template in checkpoint.data})
    except EvaluationError as error:
        raise HardFailure(f"cannot evaluate the data of checkpoint '{checkpoint.name}': {error}") from None


def arrive(step: Step, sequence: int) -> bool:
    """Do what is to be done at an entry at which the execution is to stop: edit, then stop or go on (decision 20).

    Return whether it stops.
    """
    execution = step.execution
    arrival = execution.arrival
    if arrival is not None and arrival.edit is not None:
        edit(step, arrival.edit, sequence)
    if arrival is not None and arrival.resumes:
        step.set_stops()
        return False
    waits = arrival is not None and arrival.waits_for_delegates
    name = execution.entries[sequence].name
    step.pause(f"stopped at checkpoint '{name}'", waits_for_delegates=waits, paused_at=sequence)
    return True


def edit(step: Step, wanted: Edit, sequence: int) -> None:
    """Make an edit that was asked for before the execution got here. A task that has not run has nothing to edit."""
    execution = step.execution
    task = execution.tasks.get(wanted.number) if wanted.number else execution.latest(wanted.task)
    if wanted.task and (task is None or task.name != wanted.task or not task.is_completed):
        return
    number = task.number if wanted.task and task is not None else 0
    step.change(ContextEdited(task=number, values=dict(wanted.values), removed=wanted.removed, entry=sequence))
