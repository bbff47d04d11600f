"""A new attempt: which action or sub-workflow runs, and with which input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from dalsegno.workflow.changes import AttemptAdded, ExecutionCreated, Link, RoundPlanned
from dalsegno.workflow.commands import CreateChild
from dalsegno.workflow.events import RerunRequested
from dalsegno.workflow.identity import attempt_id, derived_id
from dalsegno.workflow.model import Task, Workflow
from dalsegno.workflow.outside import FoundWorkflow
from dalsegno.workflow.records import Attempt, TaskExecution
from dalsegno.workflow.running import adhoc, policies
from dalsegno.workflow.running.follow_ups import End
from dalsegno.workflow.running.step import HardFailure, Step
from dalsegno.workflow.running.view import View, task_view
from dalsegno.workflow.scope import Constant, EvaluationError, Template
from dalsegno.workflow.secrets import hide_named, is_secret, members
from dalsegno.workflow.states import AttemptState, TaskState
from dalsegno.workflow.targets import UnfitTarget, parse_target
from dalsegno.workflow.value import UnfitValue, Value, made

DEPTH_MAX = 500
"""The most levels of nested sub-workflows. A workflow that calls itself without end would be faster than any cancel,
which follows it level by level."""

# A lookup of a member in its class is slow, and every step needs this (see execution.py).
_READY = AttemptState.READY


def add(step: Step, task: TaskExecution, item: int, extra: Mapping[str, object] | None) -> bool:
    """Create the attempt of an item. Return False when the task has failed instead; its handlers may catch that."""
    spec = step.spec(task)
    plain = partial(task_view, step, task)
    try:
        given = _planned_input(task, item)
        if given is None and task.progress.round is not None:
            repeated = _repeat(step, task, item, task.progress.round)
            if repeated is not None:
                return repeated
        prepared = step.prepared.pop((task.number, item), None) if given is None else None
        if prepared is not None:
            name, is_workflow, given = prepared
        else:
            given = _input(step, spec, task_view(step, task, extra)) if given is None else given
            named_in = partial(task_view, step, task, extra) if step.workflow.rules.items.by_function else plain
            name, is_workflow = _name(step, spec, named_in)
        if not is_workflow:
            action = adhoc.resolve(step, name, given, plain)
            _add_action(step, task, item, action, extra)
            return True
    except EvaluationError as error:
        message = f"cannot evaluate the action or the input of task '{task.name}': {error}"
        if not spec.items or step.workflow.rules.failures.ends_at_once:
            raise HardFailure(message) from None
        step.later(End(task, TaskState.ERROR, message))  # grade 1 with items (mistral/README.md#errors)
        return False
    except adhoc.Unresolved as error:
        step.later(End(task, TaskState.ERROR, str(error)))
        return False
    return _add_child(step, task, item, name, given)


def prepare(step: Step, task: TaskExecution, extra: Mapping[str, object] | None) -> tuple[str, bool, dict[str, object]]:
    """Return the action or workflow that a task will run, and its input. Raise EvaluationError or HardFailure."""
    spec = step.spec(task)
    scope = task_view(step, task, extra)
    try:
        given = _input(step, spec, scope)
        return *_name(step, spec, lambda: scope), given
    except EvaluationError as error:
        raise HardFailure(f"cannot evaluate the action or the input of task '{task.name}': {error}") from None


def _planned_input(task: TaskExecution, item: int) -> dict[str, object] | None:
    """Return the input that an operation gave to the item or the whole task (R8, R11, R12); None: it gave none."""
    progress = task.progress
    if progress.round is None:
        return None
    given = progress.round.inputs.get(item) or progress.round.given
    if given is None:
        return None
    assert isinstance(given.data, dict)
    return given.data


def _repeat(step: Step, task: TaskExecution, item: int, plan: RoundPlanned) -> bool | None:
    """Repeat the attempt before: the same action or sub-workflow with the same input (R7), or the same child.

    Return None when the plan wants something else, or there was no attempt before.
    """
    former = _before(step, task, item)
    if former is None:
        return None
    if plan.reruns_failed and former.child_id:
        adopt(step, task, former)
        event = RerunRequested(
            at_s=step.at_s,
            actor=plan.actor,
            comment=step.event.comment,
            environment=plan.environment,
            cascaded=True,
        )
        step.tell_child(former.child_id, event)
        return True
    if not plan.repeats:
        return None
    if former.runs_workflow:
        assert isinstance(former.input.data, dict)
        return _add_child(step, task, item, former.action, former.input.data)
    comment, actor = launched(step, task)
    step.change(
        AttemptAdded(
            key=(task.number, item, task.progress.attempt),
            action=former.action,
            input=former.input,
            state=AttemptState.READY,
            safe=former.safe,
            adhoc=former.adhoc,
            target=former.target,
            digest=former.digest,
            timeout_s=policies.time_left_s(step, task),
            comment=comment,
            actor=actor,
            more=step.ends_slice,
            at_s=step.at_s,
        )
    )
    return True


def _before(step: Step, task: TaskExecution, item: int) -> Attempt | None:
    """Return the newest attempt of the item in an earlier round, without those that stand for a skipped task."""
    for number in range(task.progress.attempt - 1, 0, -1):
        found = step.execution.attempts.get((task.number, item, number))
        if found is not None and not (found.stands_in or found.reverts or found.is_undone):
            return found
    return None


def adopt(step: Step, task: TaskExecution, former: Attempt, child_revision: int = 0) -> None:
    """Add the next attempt of an item with the child of a former attempt, which had ended and runs again."""
    comment, actor = launched(step, task)
    step.change(
        AttemptAdded(
            key=(task.number, former.key[1], task.progress.attempt),
            action=former.action,
            input=former.input,
            state=AttemptState.RUNNING,
            child_id=former.child_id,
            child_revision=max(child_revision, former.child_revision),
            comment=comment,
            actor=actor,
            more=step.ends_slice,
            at_s=step.at_s,
        )
    )


def launched(step: Step, task: TaskExecution) -> tuple[str, str]:
    """Return the comment and the actor of an attempt: those of the operation that launched it, if one did (R23)."""
    progress = task.progress
    if progress.round is not None and not progress.retries:
        return progress.round.comment, progress.round.actor
    return "", step.event.actor


def _input(step: Step, spec: Task, scope: View) -> dict[str, object]:
    if spec.input is None:
        return {}
    given = members(spec.input.evaluate(scope), step.cipher)
    if not isinstance(given, dict):
        raise HardFailure(f"the input of task '{spec.name}' must be a dict, not {given!r:.100}")
    return given


def _name(step: Step, spec: Task, scope: Callable[[], View]) -> tuple[str, bool]:
    """Return the name of the action or workflow, and whether it is a workflow. An empty name means std.noop.

    `scope` makes the scope in which the name is evaluated; most names are constant.
    """
    template: Template | None = spec.workflow if spec.workflow is not None else spec.action
    if template is None:
        return "std.noop", False
    name = template.value if isinstance(template, Constant) else template.evaluate(scope())
    if not name:
        return "std.noop", False
    if is_secret(name):
        raise EvaluationError("the name of what it runs is made of a secret: names are shown to everybody")
    is_workflow = spec.workflow is not None or (
        step.workflow.rules.calls.finds_workflows and find_workflow(step, str(name)) is not None
    )
    return str(name), is_workflow


def _add_action(
    step: Step, task: TaskExecution, item: int, action: adhoc.Resolved, extra: Mapping[str, object] | None
) -> None:
    spec = step.spec(task)
    safe = action.description.safe_to_rerun
    if spec.safe_rerun is not None:
        safe = step.decide(spec.safe_rerun, task_view(step, task, extra))
    elif step.execution.created.safe_rerun is not None:
        safe = step.execution.created.safe_rerun
    target = "" if spec.target is None else read_target(spec.target.evaluate(task_view(step, task, extra)))
    comment, actor = launched(step, task)
    step.change(
        AttemptAdded(
            key=(task.number, item, task.progress.attempt),
            action=action.description.name,
            input=made(action.input),
            state=_READY,
            safe=safe,
            adhoc=action.adhoc,
            target=target,
            digest=action.description.digest,
            timeout_s=policies.time_left_s(step, task),
            comment=comment,
            actor=actor,
            more=step.ends_slice,
            at_s=step.at_s,
        )
    )


def read_target(value: object) -> str:
    """Return the target that an expression gives. Raises HardFailure for one that cannot be read."""
    text = str(value or "")
    if is_secret(text):
        raise HardFailure("the target is made of a secret: targets are shown to everybody")
    try:
        parse_target(text)
    except UnfitTarget as error:
        raise HardFailure(f"the target: {error}") from None
    return text


def _add_child(step: Step, task: TaskExecution, item: int, name: str, given: dict[str, object]) -> bool:
    created = step.execution.created
    found = find_workflow(step, name)
    if found is None:
        step.later(End(task, TaskState.ERROR, f"workflow '{name}' was not found"))
        return False
    if created.depth >= DEPTH_MAX:
        message = f"workflow '{name}' would be {DEPTH_MAX + 1} sub-workflows deep; at most {DEPTH_MAX} are allowed"
        step.later(End(task, TaskState.ERROR, message))
        return False
    secrets = found.workflow.secrets
    try:
        given = hide_named(given, secrets, step.cipher)
        complete = hide_named(with_defaults(found.workflow, given), secrets, step.cipher)
    except (UnfitValue, EvaluationError) as error:
        step.later(End(task, TaskState.ERROR, f"workflow '{name}' cannot be given its secrets: {error}"))
        return False
    missing = missing_input(found.workflow, given)
    if missing:
        step.later(End(task, TaskState.ERROR, f"workflow '{name}' lacks input: {', '.join(missing)}"))
        return False
    key = (task.number, item, task.progress.attempt)
    child_id = derived_id(step.given.now_s, attempt_id(step.execution.id, key))
    comment, actor = launched(step, task)
    child = ExecutionCreated(
        execution_id=child_id,
        definition_id=found.definition_id,
        workflow=found.workflow.name,
        version=found.version,
        language=found.workflow.language,
        namespace=created.namespace,
        input=made(complete),
        params=_params(found.workflow, given, created),
        environment=step.execution.environment,
        root_id=step.execution.root_id,
        parent=Link(step.execution.id, key),
        depth=created.depth + 1,
        at_s=step.at_s,
        actor=actor,
        comment=comment,
    )
    step.change(
        AttemptAdded(
            key=key,
            action=found.workflow.name,
            input=made(given),
            state=AttemptState.RUNNING,
            child_id=child_id,
            comment=comment,
            actor=actor,
            more=step.ends_slice,
            at_s=step.at_s,
        )
    )
    step.command(CreateChild(child))
    return True


def _params(workflow: Workflow, given: Mapping[str, object], created: ExecutionCreated) -> Value:
    """Return the params of a child: what it is given beyond its inputs, and the receivers of its parent's notices."""
    declared = {parameter.name for parameter in workflow.input}
    params = {name: value for name, value in given.items() if name not in declared}
    own = created.params.data
    if isinstance(own, dict) and "notify" in own:
        params.setdefault("notify", own["notify"])
    return Value(data=params)


def with_defaults(workflow: Workflow, given: Mapping[str, object]) -> dict[str, object]:
    """Return the declared inputs with their values or defaults. (Defaults are not evaluated:
    mistral/README.md#workflows.)"""
    values: dict[str, object] = {}
    for parameter in workflow.input:
        if parameter.name in given:
            values[parameter.name] = given[parameter.name]
        elif isinstance(parameter.default, Constant):
            values[parameter.name] = parameter.default.value
    return values


def runs_workflow(step: Step, spec: Task) -> bool:
    """Return whether the task runs a sub-workflow, as far as that is known before it begins."""
    if spec.workflow is not None:
        return True
    if not step.workflow.rules.calls.finds_workflows or not isinstance(spec.action, Constant):
        return False
    return find_workflow(step, str(spec.action.value)) is not None


def find_workflow(step: Step, name: str) -> FoundWorkflow | None:
    """Find a workflow: first a member of the same workbook; each in the namespace, then in the default one."""
    for candidate in adhoc.candidates(step.workflow.workbook, name):
        found = step.surroundings.find_workflow(candidate, step.execution.created.namespace)
        if found is not None:
            return found
    return None


def missing_input(workflow: Workflow, given: Mapping[str, object]) -> list[str]:
    """Return the declared inputs that have neither a value nor a default."""
    return [parameter.name for parameter in workflow.input if parameter.required and parameter.name not in given]
