"""One attempt: which action or sub-workflow with which input, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping

from dalsegno.workflow.changes import (
    AttemptAdded,
    AttemptMoved,
    ExecutionCreated,
    Link,
    RoundPlanned,
    TaskMoved,
)
from dalsegno.workflow.commands import CancelAction, CreateChild, Send
from dalsegno.workflow.events import (
    CancelRequested,
    ChildMoved,
    DeliveryLost,
    HandedOut,
    RerunRequested,
    TaskDone,
)
from dalsegno.workflow.identity import attempt_id, derived_id
from dalsegno.workflow.model import Task, Workflow
from dalsegno.workflow.outside import FoundWorkflow
from dalsegno.workflow.records import Attempt, TaskExecution
from dalsegno.workflow.refusals import NotFound, Refused
from dalsegno.workflow.running import adhoc, policies
from dalsegno.workflow.running.step import HardFailure, Step
from dalsegno.workflow.running.view import View, task_view
from dalsegno.workflow.scope import Constant, EvaluationError, Template
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import NULL, UnfitValue, Value, made

OUTCOMES = {
    "succeeded": AttemptState.SUCCESS,
    "failed": AttemptState.ERROR,
    "cancelled": AttemptState.CANCELLED,
}
PROGRESS = frozenset({"delegated", "paused", "running"})
"""Reports that do not end the attempt."""

DEPTH_MAX = 500
"""So deep may sub-workflows be nested. One that calls itself without end would outrun every cancel, which follows it
down one level after the other."""

SHOWN = frozenset({TaskState.RUNNING, TaskState.PAUSED})
"""A task in one of these shows whether its only attempt is paused."""

# Looking a member up in its class is slow, and these are asked for in every step (see execution.py).
_READY, _RUNNING = AttemptState.READY, AttemptState.RUNNING
_SUCCESS, _ERROR = AttemptState.SUCCESS, AttemptState.ERROR


def add(step: Step, task: TaskExecution, item: int, extra: Mapping[str, object] | None) -> bool:
    """Create the attempt of an item. False when the task has failed instead, in a way its handlers may catch."""
    spec = step.spec(task)
    plain = task_view(step, task)
    try:
        given = _planned_input(task, item)
        if given is None and task.round is not None:
            repeated = _repeat(step, task, item, task.round)
            if repeated is not None:
                return repeated
        prepared = step.prepared.pop((task.number, item), None) if given is None else None
        if prepared is not None:
            name, is_workflow, given = prepared
        else:
            given = _input(spec, task_view(step, task, extra)) if given is None else given
            named_in = task_view(step, task, extra) if step.workflow.rules.asks_for_items else plain
            name, is_workflow = _name(step, spec, named_in)
        if not is_workflow:
            action = adhoc.resolve(step, name, given, plain)
            _add_action(step, task, item, action, extra)
            return True
    except EvaluationError as error:
        told = f"cannot evaluate the action or the input of task '{task.name}': {error}"
        if not spec.items or step.workflow.rules.fails_fast:
            raise HardFailure(told) from None
        step.later("end", task, TaskState.ERROR, told)  # grade 1 with items (MISTRAL.md section 5)
        return False
    except adhoc.Unresolved as error:
        step.later("end", task, TaskState.ERROR, str(error))
        return False
    return _add_child(step, task, item, name, given)


def prepare(step: Step, task: TaskExecution, extra: Mapping[str, object] | None) -> tuple[str, bool, dict[str, object]]:
    """The action or workflow that a task will run, and its input. EvaluationError, HardFailure."""
    spec = step.spec(task)
    scope = task_view(step, task, extra)
    try:
        given = _input(spec, scope)
        return *_name(step, spec, scope), given
    except EvaluationError as error:
        raise HardFailure(f"cannot evaluate the action or the input of task '{task.name}': {error}") from None


def _planned_input(task: TaskExecution, item: int) -> dict[str, object] | None:
    """The input that an operation gave the item or the whole task (R8, R11, R12)."""
    if task.round is None:
        return None
    given = task.round.inputs.get(item) or task.round.given
    if given is None:
        return None
    assert isinstance(given.data, dict)
    return given.data


def _repeat(step: Step, task: TaskExecution, item: int, plan: RoundPlanned) -> bool | None:
    """As the attempt before: the same action or sub-workflow with the same input (R7), or the very same child.

    None when the plan wants otherwise, or nothing was attempted before.
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
    if former.child_id:
        assert isinstance(former.input.data, dict)
        return _add_child(step, task, item, former.action, former.input.data)
    comment, actor = launched(step, task)
    step.change(
        AttemptAdded(
            key=(task.number, item, task.attempt),
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
    """The newest attempt of the item in an earlier round; what stands in for a skipped task ran nothing."""
    for number in range(task.attempt - 1, 0, -1):
        found = step.execution.attempts.get((task.number, item, number))
        if found is not None and not found.stands_in:
            return found
    return None


def adopt(step: Step, task: TaskExecution, former: Attempt, child_revision: int = 0) -> None:
    """The child of an attempt that had ended runs again: the same child, as the next attempt."""
    comment, actor = launched(step, task)
    step.change(
        AttemptAdded(
            key=(task.number, former.key[1], task.attempt),
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
    """The comment and the actor of an attempt: an operation's own for those that it launched, and no others (R23)."""
    if task.round is not None and not task.retries:
        return task.round.comment, task.round.actor
    return "", step.event.actor


def _input(spec: Task, scope: View) -> dict[str, object]:
    if spec.input is None:
        return {}
    given = spec.input.evaluate(scope)
    if not isinstance(given, dict):
        raise HardFailure(f"the input of task '{spec.name}' must be a dict, not {given!r:.100}")
    return given


def _name(step: Step, spec: Task, scope: View) -> tuple[str, bool]:
    """The name of the action or workflow, and whether it is a workflow. An empty one is std.noop."""
    template: Template | None = spec.workflow if spec.workflow is not None else spec.action
    if template is None:
        return "std.noop", False
    name = template.evaluate(scope)
    if not name:
        return "std.noop", False
    is_workflow = spec.workflow is not None or (
        step.workflow.rules.finds_workflows and find_workflow(step, str(name)) is not None
    )
    return str(name), is_workflow


def _add_action(
    step: Step, task: TaskExecution, item: int, action: adhoc.Resolved, extra: Mapping[str, object] | None
) -> None:
    spec = step.spec(task)
    safe = action.description.safe_to_rerun
    if spec.safe_rerun is not None:
        safe = bool(spec.safe_rerun.evaluate(task_view(step, task, extra)))
    elif step.execution.created.safe_rerun is not None:
        safe = step.execution.created.safe_rerun
    target = "" if spec.target is None else str(spec.target.evaluate(task_view(step, task, extra)) or "")
    comment, actor = launched(step, task)
    step.change(
        AttemptAdded(
            key=(task.number, item, task.attempt),
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


def _add_child(step: Step, task: TaskExecution, item: int, name: str, given: dict[str, object]) -> bool:
    created = step.execution.created
    found = find_workflow(step, name)
    if found is None:
        step.later("end", task, TaskState.ERROR, f"workflow '{name}' was not found")
        return False
    if created.depth >= DEPTH_MAX:
        told = f"workflow '{name}' would be {DEPTH_MAX + 1} sub-workflows deep; at most {DEPTH_MAX} are allowed"
        step.later("end", task, TaskState.ERROR, told)
        return False
    declared = {parameter.name for parameter in found.workflow.input}
    missing = missing_input(found.workflow, given)
    if missing:
        step.later("end", task, TaskState.ERROR, f"workflow '{name}' lacks input: {', '.join(missing)}")
        return False
    key = (task.number, item, task.attempt)
    child_id = derived_id(step.given.now_s, attempt_id(step.execution.id, key))
    params = {name: value for name, value in given.items() if name not in declared}
    for inherited in ("notify",):
        own = created.params.data
        if isinstance(own, dict) and inherited in own:
            params.setdefault(inherited, own[inherited])
    comment, actor = launched(step, task)
    child = ExecutionCreated(
        execution_id=child_id,
        definition_id=found.definition_id,
        workflow=found.workflow.name,
        version=found.version,
        language=found.workflow.language,
        namespace=created.namespace,
        input=made(with_defaults(found.workflow, given)),
        params=Value(data=params),
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


def with_defaults(workflow: Workflow, given: Mapping[str, object]) -> dict[str, object]:
    """The declared inputs with their values or defaults. (Defaults are not evaluated: MISTRAL.md section 1.)"""
    values: dict[str, object] = {}
    for parameter in workflow.input:
        if parameter.name in given:
            values[parameter.name] = given[parameter.name]
        elif isinstance(parameter.default, Constant):
            values[parameter.name] = parameter.default.value
    return values


def find_workflow(step: Step, name: str) -> FoundWorkflow | None:
    """A member of the same workbook is found first; each in the namespace, then in the default one."""
    for candidate in adhoc.candidates(step.workflow.workbook, name):
        found = step.outside.find_workflow(candidate, step.execution.created.namespace)
        if found is not None:
            return found
    return None


def missing_input(workflow: Workflow, given: Mapping[str, object]) -> list[str]:
    """The declared inputs that have neither a value nor a default."""
    return [parameter.name for parameter in workflow.input if parameter.required and parameter.name not in given]


def report(step: Step, event: TaskDone) -> None:
    """Somebody says what became of an attempt. Late and repeated reports change nothing (P24)."""
    attempt = step.execution.attempts.get(event.key)
    if attempt is None:
        raise NotFound("action execution", attempt_id(step.execution.id, event.key))
    if attempt.state in COMPLETED_ATTEMPT:
        same = event.delivery == attempt.delivery and _told_state(attempt, event, attempt.ended_s) is attempt.state
        step.verdict = "duplicate" if same else "superseded"
    elif event.delivery is not None and event.delivery != attempt.delivery:
        step.verdict = "superseded"
    elif event.outcome in PROGRESS:
        _report_progress(step, attempt, event)
    else:
        state = _told_state(attempt, event, step.at_s)
        assert state is not None
        close(step, attempt, state, event.result, event.error)


def _told_state(attempt: Attempt, event: TaskDone, at_s: float | None) -> AttemptState | None:
    """The state that a report means; None: it goes on.

    What an executor stops at its deadline has failed (BEHAVIOURS decision 8). Older ones call it cancelled; but what
    this engine wants cancelled has ended before it is told to stop, and so only the deadline can have stopped it.
    """
    state = OUTCOMES.get(event.outcome)
    is_executors = event.delivery is not None and not attempt.delegated
    if state is AttemptState.CANCELLED and is_executors and attempt.deadline_s is not None:
        return _ERROR if at_s is not None and at_s >= attempt.deadline_s else state
    return state


def _report_progress(step: Step, attempt: Attempt, event: TaskDone) -> None:
    """It goes on in another way. What nobody has got yet cannot; what is to be cancelled has just come to its end."""
    outcome = event.outcome
    if attempt.state is AttemptState.READY and (outcome != "delegated" or not attempt.delivery):
        name = attempt_id(step.execution.id, attempt.key)
        raise Refused.of(f"action execution {name}", f"has not been handed out: it cannot be {outcome}")
    waits = step.execution.waits_for_delegates and (outcome == "delegated" or attempt.delegated)
    if step.execution.state is ExecutionState.CANCELLING and outcome != "running" and not waits:
        close(step, attempt, AttemptState.CANCELLED, None, step.execution.info)
        return
    state = AttemptState.PAUSED if outcome == "paused" else AttemptState.RUNNING
    limit_s = None
    if outcome == "delegated" and not attempt.delegated and event.completion_timeout_s is not None:
        limit_s = _limit(step, attempt, event.completion_timeout_s)
    is_delegated = attempt.delegated or outcome == "delegated"
    progress(step, attempt, state, delegated=is_delegated, alias=event.alias, deadline_s=limit_s)


def _limit(step: Step, attempt: Attempt, completion_timeout_s: float) -> float:
    """It is told of its failure in advance: once it has been completed, that comes too late. Gives the time of it."""
    late = TaskDone(
        key=attempt.key,
        outcome="failed",
        delivery=attempt.delivery,
        error=f"nobody has completed the action within {completion_timeout_s:g} s",
    )
    due_s = step.at_s + completion_timeout_s
    step.command(Send(step.execution.id, late, due_s))
    return due_s


def progress(
    step: Step,
    attempt: Attempt,
    state: AttemptState,
    *,
    delegated: bool = False,
    reported: bool = True,
    alias: str = "",
    deadline_s: float | None = None,
) -> None:
    """The attempt is paused, or runs again after a pause; a task of one attempt shows it."""
    if attempt.state is state and attempt.delegated == delegated:
        return
    _move(step, attempt, state, delegated=delegated, reported=reported, alias=alias, deadline_s=deadline_s)
    task = step.execution.tasks[attempt.key[0]]
    if step.workflow.rules.follows_reports and step.execution.is_current(attempt.key) and reported | delegated:
        _follow(step, task)
    if step.execution.is_current(attempt.key) and task.state in SHOWN:
        shown = TaskState.PAUSED if _is_paused(step, task, state) else TaskState.RUNNING
        if task.state is not shown:
            step.change(TaskMoved(task=task.number, state=shown, at_s=step.at_s))
    pauses = step.workflow.rules.pauses_with_actions
    if state is AttemptState.RUNNING and (pauses or not attempt.delegated) and _is_paused_by_report(step):
        step.later("go_on", task)
    is_its_own = state is AttemptState.PAUSED and not attempt.child_id  # what a child does stays with it (decision 12)
    if is_its_own and pauses and step.execution.state is ExecutionState.RUNNING:
        step.pause(f"task '{task.name}' is paused by its action", reported=True)


def _is_paused(step: Step, task: TaskExecution, state: AttemptState) -> bool:
    """Whether nothing of the task goes on until something resumes it; `state` is what its last attempt came to."""
    if task.item_count is None:
        return state is AttemptState.PAUSED
    if step.workflow.rules.stops_items:
        return task.state is TaskState.PAUSED  # items are weighed
    if len(task.quiet_items) < task.added_count - task.ended_count or task.begun_count < len(task.pending):
        return False
    found = (step.execution.current(task, item) for item in task.quiet_items)
    return all(attempt is not None and attempt.state is AttemptState.PAUSED for attempt in found)


def _follow(step: Step, task: TaskExecution) -> None:
    """A task that has become a delegate's pauses its execution; of items the one decides that is left last."""
    if task.item_count is not None:
        step.later("weigh", task)
    elif step.execution.delegates and step.execution.state is ExecutionState.RUNNING:
        step.pause(reported=True)


def close(step: Step, attempt: Attempt, state: AttemptState, result: Value | None, error: str) -> None:
    """The attempt has ended. Its task is told only while it waits for this very round of attempts."""
    if state is _SUCCESS:
        result = result or NULL
        if attempt.adhoc:
            state, result, error = _transformed(step, attempt, result)
    elif state is _ERROR:
        error = error or "the action failed without saying why"
        result = result or Value(data=error)
        step.note("Execution failed. See result for details.", step.execution.tasks[attempt.key[0]], result=result)
    rules = step.workflow.rules
    answered = attempt.delegated or (rules.pauses_with_actions and attempt.state is AttemptState.PAUSED)
    _move(step, attempt, state, result=result, error=error)
    task = step.execution.tasks[attempt.key[0]]
    if answered and _is_paused_by_report(step) and not (rules.follows_reports and step.execution.delegates):
        step.later("go_on", task)
    if attempt.accepted and not task.is_completed and task.timer != "wait_after":
        step.later("attempt_ended", task, attempt.key)


def _is_paused_by_report(step: Step) -> bool:
    return step.execution.is_paused_by_report and step.execution.state in (
        ExecutionState.PAUSING,
        ExecutionState.PAUSED,
    )


def _transformed(step: Step, attempt: Attempt, result: Value) -> tuple[AttemptState, Value, str]:
    try:
        return AttemptState.SUCCESS, made(adhoc.output(step, attempt.adhoc, result.data)), ""
    except (EvaluationError, UnfitValue) as error:
        text = f"cannot evaluate the output of action '{attempt.adhoc}': {error}"
        return AttemptState.ERROR, Value(data=text), text


def _move(
    step: Step,
    attempt: Attempt,
    state: AttemptState,
    *,
    result: Value | None = None,
    error: str = "",
    delegated: bool = False,
    reported: bool = False,
    alias: str = "",
    deadline_s: float | None = None,
) -> None:
    moved = AttemptMoved(
        key=attempt.key,
        state=state,
        result=result,
        error=error,
        delegated=delegated,
        reported=reported,
        alias=alias,
        deadline_s=deadline_s,
        child_revision=step.event.revision if isinstance(step.event, ChildMoved) and attempt.child_id else 0,
        at_s=step.at_s,
    )
    step.change(moved)


def hand_out(step: Step, event: HandedOut) -> None:
    """An executor's session gets the attempt: the next delivery of it."""
    attempt = step.execution.attempts[event.key]
    if attempt.state is not _READY:
        step.verdict = "superseded"
        return
    task = step.execution.tasks[event.key[0]]
    policies.start_limit(step, task, attempt)
    step.change(
        AttemptMoved(
            key=event.key,
            state=_RUNNING,
            delivery=attempt.delivery + 1,
            session_id=event.session_id,
            executor_id=event.executor_id,
            deadline_s=task.timeout_due_s,
            at_s=step.at_s,
        )
    )


def lose(step: Step, event: DeliveryLost) -> None:
    """The executor is gone: hand the attempt out again if that is safe, else it failed, and says whose fault it is."""
    attempt = step.execution.attempts.get(event.key)
    if attempt is None or not attempt.is_active or attempt.delivery != event.delivery:
        step.verdict = "superseded"  # a delegate, and what has paused itself, is no executor's to lose
    elif step.execution.state in (ExecutionState.CANCELLING, ExecutionState.CANCELLED):
        close(step, attempt, AttemptState.CANCELLED, None, f"executor '{event.executor_id}' was lost while cancelling")
    elif attempt.safe or not event.received:
        _move(step, attempt, AttemptState.READY)
    else:
        reason = (
            f"executor '{event.executor_id}' was lost while it ran this action, and running "
            f"'{attempt.action}' twice is not known to be safe (set safe-rerun on the task if it is)"
        )
        close(step, attempt, AttemptState.ERROR, None, reason)


def stop(step: Step, attempt: Attempt, reason: str, *, by_force: bool = False) -> None:
    """End an attempt: CANCELLED, and whoever works on it is told; a sub-workflow in its turn, by force or not."""
    if attempt.child_id:
        terminate = ExecutionState.CANCELLED.value if by_force else ""
        event = CancelRequested(at_s=step.at_s, actor=step.event.actor, comment=reason, terminate=terminate)
        step.tell_child(attempt.child_id, event)
    elif attempt.state is AttemptState.RUNNING and not attempt.delegated:
        step.command(CancelAction(attempt.key, attempt.delivery, attempt.session_id))
    step.change(
        AttemptMoved(key=attempt.key, state=AttemptState.CANCELLED, error=reason, discarded=True, at_s=step.at_s)
    )
