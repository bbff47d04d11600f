"""Dry runs of going back: what would be reverted, what would be called for that, and what else would be undone."""

from __future__ import annotations

from collections.abc import Iterator

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.cache import Copy
from dalsegno.engine.desk.operations import LIST_MAX
from dalsegno.v1 import execution_pb2
from dalsegno.workflow.changes import AttemptMoved, ContextEdited, EnvironmentChanged, RevertBegun
from dalsegno.workflow.checkpoints import preview
from dalsegno.workflow.checkpoints.preview import Planned
from dalsegno.workflow.events import Event
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.machine import StepResult
from dalsegno.workflow.model import START
from dalsegno.workflow.states import AttemptState
from dalsegno.workflow.value import byte_length

NAMES_MAX = 100
"""The maximum number of variables that are named of an edit."""

INPUT_BYTES_MAX = 16 * 1024
"""The maximum size of the input of a revert action in the answer."""


def find_begun(outcome: StepResult) -> RevertBegun | None:
    """Return the change with which the step begins to go back; None: it does not."""
    return next((each for each in outcome.changes if isinstance(each, RevertBegun)), None)


def tell_going_back(
    batch: Batch, before: Copy, event: Event, outcome: StepResult, message: execution_pb2.DryRun
) -> list[Planned]:
    """Add what would be undone to the message of a step that begins to go back. `before`: a copy that was not stepped.

    Return what would be reverted, as far as the message names it.
    """
    begun = find_begun(outcome)
    assert begun is not None
    execution, sequence = before.execution, begun.sequence
    entry = execution.entries.get(sequence)
    message.back_to.name, message.back_to.sequence = START if entry is None else entry.name, sequence
    planned: list[Planned] = []
    count = 0
    for end in preview.ends_behind(execution, sequence):
        count += 1
        if len(planned) < LIST_MAX:
            plan = preview.planned(batch.workflow_of(before), execution, event, batch.outside, batch.given, end)
            if plan is None:
                count -= 1
            else:
                planned.append(plan)
                message.reverts.append(_revert_message(execution, plan))
    _count(message, "reverts", count, len(planned))
    _add_superseded(execution, sequence, message)
    _add_edits(batch, execution, sequence, message)
    _add_delegates(execution, outcome, message)
    return planned


def _count(message: execution_pb2.DryRun, name: str, count: int, told: int) -> None:
    if count > told:
        message.further[name] += count - told


def _revert_message(execution: Execution, plan: Planned) -> execution_pb2.DryRunTask:
    message = execution_pb2.DryRunTask(
        name=execution.tasks[plan.end.task].name, number=plan.end.task, action=plan.action, reason=_reason(plan)
    )
    if plan.end.item >= 0:
        message.items.append(plan.end.item)
    if plan.input is not None and byte_length(plan.input.text) <= INPUT_BYTES_MAX:
        message.input = plan.input.text
    return message


def _reason(plan: Planned) -> str:
    if plan.fault:
        return f"its revert action cannot be called: {plan.fault}"
    return f"its sub-workflow {plan.child_id} is reverted first" if plan.child_id else ""


def _add_superseded(execution: Execution, sequence: int, message: execution_pb2.DryRun) -> None:
    """Add the task executions that did not exist at the entry."""
    numbers = [
        number for number, task in execution.tasks.items() if task.added_at >= sequence and not task.superseded_by
    ]
    del message.superseded[:]
    message.superseded.extend(
        execution_pb2.DryRunTask(name=execution.tasks[number].name, number=number) for number in numbers[:LIST_MAX]
    )
    message.further.pop("superseded", None)
    _count(message, "superseded", len(numbers), len(message.superseded))


def _add_edits(batch: Batch, execution: Execution, sequence: int, message: execution_pb2.DryRun) -> None:
    edits = list(_edits(batch, execution, sequence))
    message.undone_edits.extend(edits[:LIST_MAX])
    _count(message, "undone_edits", len(edits), len(message.undone_edits))


def _edits(batch: Batch, execution: Execution, sequence: int) -> Iterator[execution_pb2.DryRunEdit]:
    """Yield the edits behind the entry that do not belong to it. The journal is read only if there are any edits."""
    known = 0 if sequence == execution.start_sequence else execution.as_at(sequence).edit_count
    if execution.edit_count == known:
        return
    for number, change in enumerate(batch.journals.after(execution.id, sequence), sequence + 1):
        if not isinstance(change, ContextEdited | EnvironmentChanged) or change.entry == sequence:
            continue
        if isinstance(change, EnvironmentChanged):
            yield execution_pb2.DryRunEdit(sequence=number, environment=True)
            continue
        names = [*change.values, *change.removed]
        yield execution_pb2.DryRunEdit(
            sequence=number,
            task=execution.tasks[change.task].name if change.task else "",
            names=names[:NAMES_MAX],
            further_names=max(0, len(names) - NAMES_MAX),
        )


def _add_delegates(execution: Execution, outcome: StepResult, message: execution_pb2.DryRun) -> None:
    """Add the delegated attempts that the step cancels at once."""
    for change in outcome.changes:
        if not isinstance(change, AttemptMoved) or change.state is not AttemptState.CANCELLED:
            continue
        attempt = execution.attempts.get(change.key)
        if attempt is None or not attempt.delegated:
            continue
        if len(message.cancelled_delegates) == LIST_MAX:
            message.further["cancelled_delegates"] += 1
            continue
        task = execution.tasks[change.key[0]]
        entry = message.cancelled_delegates.add(name=task.name, number=task.number)
        if task.progress.item_count is not None:
            entry.items.append(change.key[1])
