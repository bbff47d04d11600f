"""Checks whether a new input for a task fits what the task runs, as far as that is known before it runs.

What is unknown before (a computed name, an action that checks its own input) fails when it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dalsegno.workflow.events import RerunRequested, ResumeRequested, TaskChoice
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.refusals import Violation
from dalsegno.workflow.running import adhoc, launching
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.scope import Constant


def unfit_inputs(step: Step, place: str, choice: TaskChoice, task: TaskExecution) -> Iterator[Violation]:
    """Yield all faults of the new inputs of a choice (R8, R11, R12)."""
    given = [(f"{place}.input", choice.input)]
    given += [(f"{place}.item_inputs[{item}]", value) for item, value in choice.items.items()]
    for field, value in given:
        if value is None:
            continue
        if not isinstance(value.data, dict):
            yield Violation(field, "must be an object")
            continue
        for name, description in _faults(step, task, value.data):
            yield Violation(f"{field}.{name}", description)


def _faults(step: Step, task: TaskExecution, given: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    spec = step.spec(task)
    template = spec.workflow if spec.workflow is not None else spec.action
    if not isinstance(template, Constant) or not template.value:
        return
    name = str(template.value)
    found = launching.find_workflow(step, name) if spec.workflow or step.workflow.rules.calls.finds_workflows else None
    if found is not None:
        for missing in launching.missing_input(found.workflow, given):
            yield missing, f"is missing: workflow '{name}' needs it"
    elif spec.workflow is None and step.workflow.rules.calls.checks_input:
        yield from adhoc.faults(step, name, given, _environment(step))


def _environment(step: Step) -> Mapping[str, object]:
    """Return the environment as it will be after the operation."""
    before = step.execution.environment.data
    over = step.event.environment if isinstance(step.event, ResumeRequested | RerunRequested) else None
    assert isinstance(before, dict)
    return {**before, **over.data} if over is not None and isinstance(over.data, dict) else before
