"""Edits of what later tasks see: what a task published, or the variables of the execution (decision 14)."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dalsegno.workflow.changes import ContextEdited
from dalsegno.workflow.events import ContextUpdated, TaskChoice
from dalsegno.workflow.operating import choosing
from dalsegno.workflow.operating.choosing import RequestFaults
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.refusals import Violation
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import Request


def update_context(step: Step, event: ContextUpdated) -> None:
    """Set and unset variables of a PAUSED or completed execution; refuse or carry out the request as a whole."""
    execution = step.execution
    faults = RequestFaults()
    if not execution.takes(Request.UPDATE_CONTEXT):
        description = f"its context can be edited while it is PAUSED or completed, it is {execution.state}"
        if execution.revert is not None:
            description = f"its context cannot be edited during a revert, it is {execution.state}"
        faults.obstacle(f"execution {execution.id}", description)
    edit = checked(step, event, faults)
    faults.refuse()
    step.change(edit)


def checked(step: Step, event: ContextUpdated, faults: RequestFaults) -> ContextEdited:
    """Return the change that an edit makes now, and add what is wrong with it to the faults."""
    execution = step.execution
    faults.wrong += unfit(event)
    task = _task(step, event, faults) if event.task else None
    if not event.task:
        declared = execution.input.data
        assert isinstance(declared, dict)
        faults.wrong += _absent(event, execution.globals.keys() | declared.keys(), "the execution")
    elif task is not None:
        faults.wrong += _absent(event, task.published, f"task '{task.name}'")
    return ContextEdited(
        task=0 if task is None else task.number,
        values=dict(event.values),
        removed=event.removed,
        entry=execution.entry_edited,
    )


def unfit(event: ContextUpdated) -> Iterator[Violation]:
    """Yield what is wrong with the edit in every state of the execution."""
    if not event.values and not event.removed:
        yield Violation("set", "is empty, and so is unset: there is nothing to edit")
    for name in event.values:
        if name.startswith("__"):
            yield Violation(f"set.{name}", "is no variable: names that begin with __ are the engine's own")
        if name in event.removed:
            yield Violation(f"set.{name}", "is to be unset too")


def _absent(event: ContextUpdated, names: Collection[str], owner: str) -> Iterator[Violation]:
    for name in event.removed:
        if name not in names:
            yield Violation("unset", f"{owner} has no variable '{name}'")


def _task(step: Step, event: ContextUpdated, faults: RequestFaults) -> TaskExecution | None:
    choice = TaskChoice(task=event.task, number=event.number)
    found = choosing.executions_of(step, choice, faults, failed=False)
    if not found:
        return None
    task = max(found, key=lambda each: each.number)
    if not task.is_completed:
        faults.obstacle(f"task {task.name}", f"has not ended: it is {task.state}")
    return task
