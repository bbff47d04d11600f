"""Executions and attempts in memory as the contract shows them, for the answers to those who asked for a change."""

from __future__ import annotations

from collections import Counter

from dalsegno.rpc import convert
from dalsegno.rpc.messages import deadline_s
from dalsegno.v1 import execution_pb2
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import attempt_id
from dalsegno.workflow.records import Attempt
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
        errors="" if execution.told_errors is None else execution.told_errors.text,
    )
    counts = Counter(task.state for task in execution.tasks.values() if not task.superseded_by)
    for state in TaskState:
        if counts[state]:
            message.task_counts.add(state=convert.task_state(state.value), count=counts[state])
    return message


def _environment_name(params: Value) -> str:
    name = params.data.get("env") if isinstance(params.data, dict) else None
    return name if isinstance(name, str) else ""


def _waiting_for(execution: Execution) -> list[str]:
    """What is awaited while an execution comes to rest: the attempts and children that are active.

    And children that are CANCELLING, of which their parent has last heard that they are PAUSED.
    """
    if execution.state not in (ExecutionState.PAUSING, ExecutionState.CANCELLING):
        return []
    awaited: list[str] = []
    for key, attempt in execution.attempts.items():
        is_child = execution.state is ExecutionState.CANCELLING and key in execution.children
        is_delegate = execution.waits_for_delegates and attempt.delegated and not attempt.ended_s
        if attempt.is_active or is_child or is_delegate:
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
        item=None if task.item_count is None else attempt.key[1],
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
        deadline=convert.timestamp(deadline_s(attempt.ended_s, task.timeout_due_s, attempt.deadline_s)),
        labels=created.labels if is_standalone else {},
        alias=attempt.alias,
    )


def _text(value: Value | None) -> str:
    return "" if value is None else value.text
