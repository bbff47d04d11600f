"""What a go-to would undo, for dry runs: the ends behind an entry with what would be called for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dalsegno.workflow.checkpoints import ends
from dalsegno.workflow.events import Event
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.model import Workflow
from dalsegno.workflow.outside import Given, Surroundings
from dalsegno.workflow.records import End
from dalsegno.workflow.running import adhoc
from dalsegno.workflow.running.step import HardFailure, Step
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.value import UnfitValue, Value


@dataclass(frozen=True, slots=True)
class Planned:
    """One end that would be undone."""

    end: End
    child_id: str = ""
    """The sub-workflow that would be reverted first; empty: none."""
    action: str = ""
    """The revert action that would be called; empty: none."""
    input: Value | None = None
    fault: str = ""
    """Why the revert action could not be called."""


def ends_behind(execution: Execution, sequence: int) -> Iterator[End]:
    """Yield the ends of tasks and items behind an entry that are not undone yet, newest first."""
    lowest = 0 if execution.revert is None else execution.revert.lowest
    for end in reversed(execution.ended):
        if end.sequence <= sequence:
            return
        if not lowest or end.sequence < lowest:
            yield end


def planned(
    workflow: Workflow, execution: Execution, event: Event, surroundings: Surroundings, given: Given, end: End
) -> Planned | None:
    """Return how an end would be undone; None: it is that of a task whose items are undone by themselves, or of an
    attempt that was retried."""
    step = Step(workflow, execution, event, surroundings, given)
    spec = workflow.tasks[execution.tasks[end.task].name]
    attempt = ends.attempt_of(step, end)
    if (spec.items and end.item < 0) or (attempt is not None and attempt.is_retried):
        return None
    undo = ends.of_end(step, end)
    if undo is None:
        return Planned(end)
    if undo.revert is None:
        return Planned(end, undo.child_id)
    try:
        call = ends.call(step, undo, "")
    except (EvaluationError, HardFailure, adhoc.Unresolved, UnfitValue) as fault:
        return Planned(end, undo.child_id, fault=str(fault))
    return Planned(end, undo.child_id, call.action.adhoc or call.action.description.name, call.input)
