"""Executions and attempts in memory as the contract shows them, for the answers to those who asked for a change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from dalsegno.rpc import convert
from dalsegno.v1 import execution_pb2
from dalsegno.workflow import machine
from dalsegno.workflow.changes import AttemptAdded, TaskAdded, TaskMoved
from dalsegno.workflow.commands import Send
from dalsegno.workflow.execution import Attempt, Execution
from dalsegno.workflow.graph import dependants, outbound_tasks
from dalsegno.workflow.identity import attempt_id
from dalsegno.workflow.model import Workflow
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import Value

WAITING_MAX = 100


def execution_message(execution: Execution, updated_s: float) -> execution_pb2.Execution:
    """An execution with all its values."""
    created = execution.created
    message = execution_pb2.Execution(
        id=execution.id,
        namespace=created.namespace,
        workflow=created.workflow,
        workflow_version=created.version,
        definition_id=created.definition_id,
        language=convert.language(created.language),
        state=convert.execution_state(execution.state.value),
        state_info=execution.info,
        input=created.input.text,
        output="" if execution.output is None else execution.output.text,
        params=created.params.text,
        environment=_environment_name(created.params),
        labels=created.labels,
        parent_execution_id=created.parent.execution_id if created.parent else "",
        parent_task_number=created.parent.key[0] if created.parent else 0,
        root_id=execution.root_id,
        revision=execution.revision,
        active_count=execution.active_count,
        created_at=convert.timestamp(created.at_s),
        started_at=convert.timestamp(execution.started_s),
        ended_at=convert.timestamp(execution.ended_s),
        deadline=convert.timestamp(created.deadline_s),
        waiting_for=_waiting_for(execution),
        actor=created.actor,
        comment=created.comment,
        updated_at=convert.timestamp(updated_s),
        description=created.description,
    )
    counts = Counter(task.state for task in execution.tasks.values())
    for state in TaskState:
        if counts[state]:
            message.task_counts.add(state=convert.task_state(state.value), count=counts[state])
    return message


def _environment_name(params: Value) -> str:
    name = params.data.get("env") if isinstance(params.data, dict) else None
    return name if isinstance(name, str) else ""


def _waiting_for(execution: Execution) -> list[str]:
    """What is awaited while an execution comes to rest: the attempts and children that are active."""
    if execution.state not in (ExecutionState.PAUSING, ExecutionState.CANCELLING):
        return []
    awaited: list[str] = []
    for key, attempt in execution.attempts.items():
        if attempt.is_active:
            awaited.append(attempt.child_id or attempt_id(execution.id, key))
        if len(awaited) == WAITING_MAX:
            break
    return awaited


def attempt_message(execution: Execution, attempt: Attempt) -> execution_pb2.ActionExecution:
    """An action execution with all its values."""
    created = execution.created
    is_standalone = not created.workflow
    task = execution.tasks[attempt.key[0]]
    return execution_pb2.ActionExecution(
        id=attempt_id(execution.id, attempt.key),
        execution_id="" if is_standalone else execution.id,
        task_number=0 if is_standalone else task.number,
        task_name="" if is_standalone else task.name,
        item=attempt.key[1],
        attempt=attempt.key[2],
        action=attempt.action,
        state=convert.action_state(attempt.state.value),
        accepted=attempt.accepted,
        input=attempt.input.text,
        result=_text(attempt.result),
        error=attempt.error,
        delivery=attempt.delivery,
        executor_id=attempt.executor_id,
        session_id=attempt.session_id,
        delegated=attempt.delegated,
        ready_at=convert.timestamp(attempt.created_s),
        started_at=convert.timestamp(attempt.started_s),
        ended_at=convert.timestamp(attempt.ended_s),
        comment=created.comment if is_standalone else attempt.comment,
        actor=created.actor if is_standalone else attempt.actor,
        waiting_for="executor" if attempt.state is AttemptState.READY else "",
        namespace=created.namespace,
        deadline=convert.timestamp(task.timeout_due_s),
        labels=created.labels if is_standalone else {},
    )


def _text(value: Value | None) -> str:
    return "" if value is None else value.text


def dry_run_message(workflow: Workflow, outcome: machine.Outcome, existing: bool) -> execution_pb2.DryRun:
    """What a step would do, from what it did to a private copy."""
    execution = outcome.execution
    begun = _begun(outcome)
    message = execution_pb2.DryRun(
        state=convert.execution_state(execution.state.value),
        revision=execution.revision - len(outcome.changes) if existing else 0,
    )
    added = {change.task for change in outcome.changes if isinstance(change, TaskAdded)}
    for number in begun:
        task = execution.tasks[number]
        message.starts.add(name=task.name, number=0 if number in added else number)
    starts = [execution.tasks[number].name for number in begun]
    message.may_follow.extend(name for name in _reachable(workflow, starts))
    for number in execution.waiting:
        message.joins_waiting.add(name=execution.tasks[number].name, number=0 if number in added else number)
    _add_children(message, outcome)
    return message


def _reachable(workflow: Workflow, starts: list[str]) -> list[str]:
    """The tasks that the definition may lead to from these, in the order of the definition."""
    onward: Mapping[str, Collection[str]] = dependants(workflow) if workflow.reverse else outbound_tasks(workflow)
    found: set[str] = set()
    ahead = [target for name in starts for target in onward[name]]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(onward[name])
    return [name for name in workflow.tasks if name in found]


def _begun(outcome: machine.Outcome) -> list[int]:
    """The tasks that would start or be delayed at once, in order."""
    begun: dict[int, None] = {}
    for change in outcome.changes:
        if isinstance(change, AttemptAdded):
            begun[change.key[0]] = None
        elif isinstance(change, TaskMoved) and change.state is TaskState.RUNNING_DELAYED:
            begun[change.task] = None
    return list(begun)


def _add_children(message: execution_pb2.DryRun, outcome: machine.Outcome) -> None:
    execution = outcome.execution
    told: Iterable[str] = dict.fromkeys(command.to for command in outcome.commands if isinstance(command, Send))
    by_child = {execution.attempts[key].child_id: key for key in execution.children}
    for child_id in told:
        key = by_child.get(child_id)
        if key is not None:
            task = execution.tasks[key[0]]
            message.children.add(execution_id=child_id, task_name=task.name, task_number=task.number)
