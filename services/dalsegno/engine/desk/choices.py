"""What a resume or rerun does with each task: from the request to the choices of the core.

Contradictions within a request are refused here, with the name of the field. The core refuses what the execution does
not have or is not ready for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dalsegno.rpc.convert import Fields
from dalsegno.v1 import operation_pb2
from dalsegno.v1.execution_service_pb2 import RerunExecutionRequest, ResumeExecutionRequest
from dalsegno.workflow.events import ChildChoice, Choice, TaskChoice
from dalsegno.workflow.value import Value

_CHILD = {
    operation_pb2.CHILD_RERUN_UNSPECIFIED: ChildChoice.FRESH,
    operation_pb2.CHILD_RERUN_FRESH: ChildChoice.FRESH,
    operation_pb2.CHILD_RERUN_FAILED: ChildChoice.RERUN_FAILED,
}

Chosen = operation_pb2.ResumeTask | operation_pb2.RerunTask


def resume_choices(fields: Fields, tasks: Iterable[operation_pb2.ResumeTask]) -> tuple[TaskChoice, ...]:
    """Return the choices of a resume. What is wrong is in `fields` (R14, R16)."""
    return tuple(_resume_choice(fields, f"tasks[{index}]", task) for index, task in enumerate(tasks))


def _resume_choice(fields: Fields, place: str, task: operation_pb2.ResumeTask) -> TaskChoice:
    has_output = bool(task.output)
    output = fields.json(f"{place}.output", task.output) if has_output else None
    if task.skip and not has_output:
        fields.refuse(f"{place}.output", "is missing: the result to use instead (write null for none)")
    if has_output and not task.skip:
        fields.refuse(f"{place}.skip", "must be set for a task with an output")
    if task.skip and task.leave:
        fields.refuse(f"{place}.leave", "does not go with skip")
    if not task.skip and not task.leave:
        return _run_choice(fields, place, task)
    _name(fields, place, task)
    for name in ("input", "items", "item_inputs", "child"):
        if getattr(task, name):
            fields.refuse(f"{place}.{name}", "does not go with skip or leave")
    if task.HasField("reset"):
        fields.refuse(f"{place}.reset", "does not go with skip or leave")
    choice = Choice.SKIP if task.skip else Choice.LEAVE
    return TaskChoice(task=task.task, number=task.task_number, choice=choice, output=output)


def rerun_choices(fields: Fields, tasks: Iterable[operation_pb2.RerunTask]) -> tuple[TaskChoice, ...]:
    """Return the choices of a rerun. What is wrong is in `fields` (R14)."""
    return tuple(_run_choice(fields, f"tasks[{index}]", task) for index, task in enumerate(tasks))


def _run_choice(fields: Fields, place: str, task: Chosen) -> TaskChoice:
    _name(fields, place, task)
    if task.child not in _CHILD:
        fields.refuse(f"{place}.child", "is not a way to run a sub-workflow again")
    given = fields.json_object(f"{place}.input", task.input) if task.input else None
    items = _items(fields, place, task)
    if items and given is not None:
        fields.refuse(f"{place}.input", "is for the task as a whole: give the inputs of items in item_inputs")
    if items and task.HasField("reset"):
        fields.refuse(f"{place}.reset", "is for the task as a whole, not for items of it")
    return TaskChoice(
        task=task.task,
        number=task.task_number,
        input=given,
        items=items,
        reset=task.reset if task.HasField("reset") else None,
        child=_CHILD.get(task.child, ChildChoice.FRESH),
    )


def environment_overlay(fields: Fields, request: ResumeExecutionRequest | RerunExecutionRequest) -> Value | None:
    """Return the variables that override those of the execution's environment. None: there are none."""
    overlay = request.environment_overlay
    return fields.json_object("environment_overlay", overlay) if overlay else None


STOPS_MAX = 100
"""The maximum number of checkpoints at which a request has an execution stop."""


def stop_names(fields: Fields, names: Sequence[str]) -> tuple[str, ...]:
    """Return the checkpoints at which the execution is to stop, each once. What is wrong is in `fields`."""
    if len(names) > STOPS_MAX:
        fields.refuse("stop_at", f"has {len(names)} names; at most {STOPS_MAX} are allowed")
    for index, name in enumerate(names[:STOPS_MAX]):
        fields.name(f"stop_at[{index}]", name)
    return tuple(dict.fromkeys(names))


def _name(fields: Fields, place: str, task: Chosen) -> None:
    fields.name(f"{place}.task", task.task)
    fields.number(f"{place}.task_number", task.task_number)


def _items(fields: Fields, place: str, task: Chosen) -> dict[int, Value | None]:
    """Return the named items with their inputs (R11, R12, R14)."""
    items: dict[int, Value | None] = {}
    for position, index in enumerate(task.items):
        fields.number(f"{place}.items[{position}]", index)
        if index in items:
            fields.refuse(f"{place}.items[{position}]", f"item {index} is named twice")
        items[index] = None
    for index in sorted(task.item_inputs):
        field = f"{place}.item_inputs[{index}]"
        given = fields.json_object(field, task.item_inputs[index])
        if index in items:
            items[index] = given
        else:
            fields.refuse(field, f"item {index} is not among the items to be run again")
    return items
