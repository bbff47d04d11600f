"""Rows of the store as messages of the API: the only module that knows both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import orjson

from dalsegno.rpc import convert, sizes
from dalsegno.store.records import (
    AttemptRow,
    CheckpointRow,
    DefinitionRow,
    EnvironmentRow,
    ExecutionFacts,
    ExecutionRow,
    Progress,
    TaskFacts,
    TaskResult,
    TaskRow,
)
from dalsegno.v1 import definition_pb2, environment_service_pb2, execution_pb2
from dalsegno.workflow.identity import attempt_id, task_id
from dalsegno.workflow.secrets import secret_members
from dalsegno.workflow.value import encode

EXECUTION_VALUES = ("input", "output", "params", "errors")
"""The fields that an execution omits if it is too large."""

ACTION_VALUES = ("text", "parameters", "description")
"""The fields that an action omits if it is too large."""

NO_RESULT = TaskResult(None)

CHILDREN_MAX = 100
"""The maximum number of children that a task lists."""

_ACTIVE = ("RUNNING", "RUNNING_DELAYED", "WAITING", "IDLE", "PAUSED")


class Awaited(NamedTuple):
    """What an execution waits for: the first names, and how many more there are."""

    names: Sequence[str] = ()
    further: int = 0


NOTHING = Awaited()


def execution_message(
    row: ExecutionRow, task_counts: Mapping[str, int], awaited: Awaited = NOTHING
) -> execution_pb2.Execution:
    """Return the message of an execution. `environment` is a name that only the params have."""
    message = execution_pb2.Execution(
        id=row.id,
        namespace=row.namespace,
        workflow=row.workflow,
        workflow_version=row.version,
        definition_id=row.definition_id,
        language=convert.language(row.language),
        state=convert.execution_state(row.state),
        state_info=row.info,
        input=row.input or "",
        output=row.output or "",
        params=row.params or "",
        environment=_environment_name(row.params),
        labels=orjson.loads(row.labels or "{}"),
        parent_execution_id=row.parent_id,
        parent_task_number=row.parent_task,
        root_id=row.root_id or row.id,
        revision=row.revision,
        active_count=row.active_count,
        created_at=convert.timestamp(row.created_s),
        started_at=convert.timestamp(row.started_s),
        ended_at=convert.timestamp(row.ended_s),
        deadline=convert.timestamp(row.deadline_s),
        task_counts=[
            execution_pb2.TaskCount(state=convert.task_state(state), count=count)
            for state, count in sorted(task_counts.items())
        ],
        waiting_for=awaited.names,
        further_waiting_for=awaited.further,
        actor=row.actor,
        comment=row.comment,
        updated_at=convert.timestamp(row.updated_s),
        description=row.description,
        errors=row.errors or "",
        paused_at=reference_message(row.paused_at, row.paused_at_sequence),
        not_reached=row.not_reached,
        stop_at=orjson.loads(row.stop_at),
        reverting_to=reference_message(row.reverting_to, row.reverting_to_sequence),
        next_at=convert.timestamp(row.goes_on_s),
        first_sequence=row.first_sequence,
        forked_from=_origin_message(row),
    )
    return sizes.fitted(message, EXECUTION_VALUES, ("state_info", "description"))


def _origin_message(row: ExecutionRow) -> execution_pb2.ForkOrigin | None:
    if not row.forked_from:
        return None
    return execution_pb2.ForkOrigin(
        execution_id=row.forked_from, sequence=row.forked_from_sequence, checkpoint=row.forked_from_checkpoint
    )


def reference_message(name: str, sequence: int) -> execution_pb2.CheckpointReference | None:
    """Return the message of an entry of a checkpoint; None if the sequence number is 0."""
    return execution_pb2.CheckpointReference(name=name, sequence=sequence) if sequence else None


def checkpoint_message(
    row: CheckpointRow, task_name: str, tasks_since: int, *, is_ahead: bool
) -> execution_pb2.CheckpointEntry:
    """Return the message of an entry of a checkpoint. `is_ahead`: its checkpoint may be reached again."""
    return execution_pb2.CheckpointEntry(
        sequence=row.sequence,
        name=row.name,
        data=row.data or "",
        task_number=row.task,
        task_name=task_name,
        route=row.route,
        at=convert.timestamp(row.at_s),
        tasks_since=tasks_since,
        stands=not row.undone,
        reachable=is_ahead,
    )


def _environment_name(params: str | None) -> str:
    if not params or '"env"' not in params:
        return ""
    name = orjson.loads(params).get("env")
    return name if isinstance(name, str) else ""


def task_message(
    row: TaskRow,
    leading: AttemptRow | None = None,
    result: TaskResult = NO_RESULT,
    children: Sequence[str] = (),
    waiting_for: str = "",
) -> execution_pb2.TaskExecution:
    """Return the message of a task execution. `leading`, the first attempt of the round, has what it runs and why."""
    runs_workflow = leading is not None and leading.runs_workflow
    running = row.state in _ACTIVE
    message = execution_pb2.TaskExecution(
        id=task_id(row.execution_id, row.number),
        execution_id=row.execution_id,
        number=row.number,
        name=row.name,
        state=convert.task_state(row.state),
        state_info=row.info,
        action=leading.action if leading is not None and not runs_workflow else "",
        workflow=leading.action if leading is not None and runs_workflow else "",
        result=result.text or "",
        published=row.published or "",
        error_handled=row.handled,
        generation=row.generation,
        route=row.route,
        superseded=bool(row.superseded_by),
        superseded_by=row.superseded_by,
        attempts=row.attempt,
        items=_items(row),
        created_at=convert.timestamp(row.created_s),
        started_at=convert.timestamp(row.started_s),
        ended_at=convert.timestamp(row.ended_s),
        child_execution_ids=children[:CHILDREN_MAX],
        further_child_executions=max(0, len(children) - CHILDREN_MAX),
        next_at=convert.timestamp(row.due_s if row.state == "RUNNING_DELAYED" else None),
        waiting_for=waiting_for if running else "",
        comment=leading.comment if leading is not None else "",
        actor=leading.actor if leading is not None else "",
        deadline=convert.timestamp(row.timeout_due_s),
        progress=progress_message(leading) if running and row.item_count is None else None,
        left_out=("result",) if result.is_too_large else (),
        tags=orjson.loads(row.tags),
    )
    return sizes.fitted(message, ("result", "published"), ("state_info",))


def _items(row: TaskRow) -> execution_pb2.ItemCounts | None:
    if row.item_count is None:
        return None
    failed = row.failed_count + row.cancelled_count
    return execution_pb2.ItemCounts(
        total=row.item_count,
        succeeded=row.ended_count - failed,
        failed=failed,
        running=row.added_count - row.ended_count,
    )


def action_message(
    row: AttemptRow, execution: ExecutionRow | ExecutionFacts, task: TaskRow | TaskFacts, waiting_for: str = ""
) -> execution_pb2.ActionExecution:
    """Return the message of an action execution. A standalone one has neither a task nor an execution."""
    standalone = execution.is_standalone_action
    message = execution_pb2.ActionExecution(
        id=attempt_id(row.execution_id, row.key),
        execution_id="" if standalone else row.execution_id,
        task_number=0 if standalone else row.task,
        task_name="" if standalone else task.name,
        item=None if task.item_count is None else row.item,
        attempt=row.attempt,
        action=row.action,
        state=convert.action_state(row.state),
        accepted=row.accepted,
        input=row.input or "",
        result=row.result or "",
        error=row.error,
        delivery=row.delivery,
        executor_id=row.executor_id,
        session_id=row.session_id,
        delegated=row.delegated,
        ready_at=convert.timestamp(row.created_s),
        started_at=convert.timestamp(row.started_s),
        ended_at=convert.timestamp(row.ended_s),
        comment=execution.comment if standalone else row.comment,
        actor=execution.actor if standalone else row.actor,
        waiting_for=waiting_for,
        namespace=execution.namespace,
        deadline=convert.timestamp(deadline_s(row.ended_s, task.timeout_due_s, row.deadline_s)),
        labels=orjson.loads(execution.labels) if standalone else {},
        alias=row.alias,
        timeout=None if row.timeout_s is None else convert.duration(row.timeout_s),
        progress=progress_message(row, full=True),
        revert=bool(row.reverts),
        copied=row.copied,
    )
    return sizes.fitted(message, ("input", "result"), ("error",))


def progress_message(row: AttemptRow | None, *, full: bool = False) -> execution_pb2.ActionProgress | None:
    """Return the progress that the current delivery of an attempt reported; None: none. `full`: with details."""
    if row is None or not row.progress:
        return None
    told = msgspec.json.decode(row.progress, type=Progress)
    if told.delivery != row.delivery:
        return None
    return execution_pb2.ActionProgress(
        text=told.text, fraction=told.fraction, details=told.details if full else "", at=convert.timestamp(told.at_s)
    )


def deadline_s(ended_s: float | None, timeout_due_s: float | None, handed_s: float | None) -> float | None:
    """Return when an attempt is stopped: the deadline of its task while it is open, else `handed_s` of its executor.

    They differ only if the task's timer stopped during a pause while a third party worked on the attempt.
    """
    return timeout_due_s if ended_s is None and timeout_due_s is not None else handed_s


def workflow_message(row: DefinitionRow) -> definition_pb2.Workflow:
    """Return the message of a version of a workflow."""
    message = definition_pb2.Workflow(
        definition_id=row.definition_id,
        namespace=row.namespace,
        name=row.name,
        version=row.version,
        language=convert.language(row.language),
        description=row.description,
        tags=orjson.loads(row.tags or "[]"),
        parameters=parameter_messages(row.input),
        text=row.text or "",
        created_at=convert.timestamp(row.created_s),
        actor=row.actor,
        comment=row.comment,
    )
    return sizes.fitted(message, ("text", "parameters", "description", "tags"))


def adhoc_message(row: DefinitionRow) -> definition_pb2.Action:
    """Return the message of a version of an ad-hoc action."""
    message = definition_pb2.Action(
        namespace=row.namespace,
        name=row.name,
        kind=definition_pb2.ACTION_KIND_AD_HOC,
        parameters=parameter_messages(row.input),
        description=row.description,
        definition_id=row.definition_id,
        version=row.version,
        text=row.text or "",
    )
    return sizes.fitted(message, ACTION_VALUES)


def parameter_messages(text: str) -> list[definition_pb2.Parameter]:
    """Return parameters from JSON text: a list of {name, required, default, description}; the last two are optional."""
    return [
        definition_pb2.Parameter(
            name=each["name"],
            required=each["required"],
            default=encode(each["default"]) if "default" in each else "",
            description=each.get("description", ""),
        )
        for each in orjson.loads(text or "[]")
    ]


def environment_message(row: EnvironmentRow) -> environment_service_pb2.Environment:
    """Return the message of an environment."""
    message = environment_service_pb2.Environment(
        namespace=row.namespace,
        name=row.name,
        description=row.description,
        variables=row.value or "",
        revision=row.revision,
        created_at=convert.timestamp(row.created_s),
        updated_at=convert.timestamp(row.updated_s),
        actor=row.actor,
        comment=row.comment,
        secrets=secret_members(row.value or ""),
    )
    return sizes.fitted(message, ("variables",), ("description",))
