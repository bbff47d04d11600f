"""What people ask of an execution or an action that is there: pause, resume, cancel, delete, complete."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from google.protobuf.message import Message

from dalsegno.engine.answers import attempt_message, dry_run_message, execution_message
from dalsegno.engine.batch import Batch
from dalsegno.engine.reports import ERROR_CHARACTERS_MAX
from dalsegno.engine.requests import Asked, Kind, check_shared_fields
from dalsegno.rpc import convert
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.workflow.events import CancelRequested, Event, PauseRequested, ResumeRequested, TaskDone
from dalsegno.workflow.identity import attempt_id
from dalsegno.workflow.refusals import InvalidRequest, NotFound, Refused, RevisionMoved, Violation

_OUTCOMES = {
    actions.COMPLETION_OUTCOME_SUCCEEDED: "succeeded",
    actions.COMPLETION_OUTCOME_FAILED: "failed",
    actions.COMPLETION_OUTCOME_CANCELLED: "cancelled",
}


def _control_needs(asked: Asked, batch: Batch) -> Collection[str]:
    request = asked.request
    fields = check_shared_fields(request)
    fields.uuid("execution_id", request.execution_id)
    fields.done()
    return (request.execution_id,)


def _namespace(asked: Asked, batch: Batch) -> str:
    """That of the execution that is asked for; the default one when it is not there."""
    execution_id = asked.request.execution_id
    if not batch.exists(execution_id):
        return ""
    return batch.open(execution_id).copy.execution.created.namespace


def _check_revision(request: Any, revision: int) -> None:
    if request.expected_revision and request.expected_revision != revision:
        raise RevisionMoved("execution", request.execution_id, request.expected_revision, revision)


def _control(event_kind: type[Event], response_kind: Any) -> Callable[[Asked, Batch], Message]:
    """How an event is asked of one execution, and its answer."""

    def carry_out(asked: Asked, batch: Batch) -> Message:
        request = asked.request
        touched = batch.open(request.execution_id)
        copy = touched.copy
        if not copy.workflow.name:
            raise NotFound("execution", request.execution_id)  # one that only carries a standalone action
        _check_revision(request, copy.execution.revision)
        event = event_kind(actor=asked.actor, comment=request.comment)
        response: Message
        if request.dry_run:
            private = batch.private(request.execution_id)
            outcome = batch.try_step(private, event)
            response = response_kind(dry_run=dry_run_message(private.workflow, outcome, existing=True))
        else:
            batch.step(request.execution_id, event)
            response = response_kind(execution=execution_message(copy.execution, copy.at_s))
        return response

    return carry_out


# DeleteExecution


def _delete_needs(asked: Asked, batch: Batch) -> Collection[str]:
    (execution_id,) = _control_needs(asked, batch)
    asked.memo["descendants"] = batch.transaction.queries.descendants(execution_id)
    return (execution_id, *asked.memo["descendants"])


def _delete(asked: Asked, batch: Batch) -> executions.DeleteExecutionResponse:
    request = asked.request
    execution = batch.open(request.execution_id).copy.execution
    _check_revision(request, execution.revision)
    family = [execution] + [batch.open(each).copy.execution for each in asked.memo["descendants"] if batch.exists(each)]
    obstacles = [
        Violation(f"execution {each.id}", f"is not at rest: {each.state}, {each.active_count} active", "NOT_AT_REST")
        for each in family
        if not each.is_at_rest
    ]
    parent = execution.created.parent
    if parent is not None and batch.transaction.claim([parent.execution_id]):
        obstacles.insert(
            0, Violation(f"execution {parent.execution_id}", "is its parent: delete that one", "HAS_PARENT")
        )
    if obstacles:
        raise Refused(obstacles[:100])
    if request.dry_run:
        dry_run = execution_pb2.DryRun(
            state=convert.execution_state(execution.state.value),
            revision=execution.revision,
        )
        for each in family[1:]:
            dry_run.children.add(execution_id=each.id)
        return executions.DeleteExecutionResponse(dry_run=dry_run)
    for each in family:
        batch.delete(each.id)
    return executions.DeleteExecutionResponse()


# CompleteAction


def _complete_needs(asked: Asked, batch: Batch) -> Collection[str]:
    request, memo = asked.request, asked.memo
    fields = check_shared_fields(request)
    if bool(request.action_execution_id) == bool(request.task_token):
        fields.refuse("task_token", "give either it or action_execution_id")
    if request.outcome not in _OUTCOMES:
        fields.refuse("outcome", "is missing")
    fields.text("error", request.error, ERROR_CHARACTERS_MAX)
    if request.error and request.outcome == actions.COMPLETION_OUTCOME_SUCCEEDED:
        fields.refuse("error", "goes with FAILED and CANCELLED only")
    memo["result"] = fields.json("result", request.result) if request.result else None
    memo["delivery"] = None
    if request.action_execution_id and not request.task_token:
        execution_id, numbers = fields.numbered_id("action_execution_id", request.action_execution_id, 3)
        memo["execution_id"], memo["key"] = execution_id, numbers
    fields.done()
    if request.task_token:
        memo["execution_id"], memo["key"], memo["delivery"] = asked.tokens.read(request.task_token)
    return (memo["execution_id"],)


def _complete_namespace(asked: Asked, batch: Batch) -> str:
    execution_id = asked.memo["execution_id"]
    return batch.open(execution_id).copy.execution.created.namespace if batch.exists(execution_id) else ""


def _complete(asked: Asked, batch: Batch) -> actions.CompleteActionResponse:
    request, memo = asked.request, asked.memo
    execution_id, key, outcome = memo["execution_id"], memo["key"], _OUTCOMES[request.outcome]
    name = attempt_id(execution_id, key)
    if not batch.exists(execution_id):
        raise NotFound("action execution", name)
    execution = batch.open(execution_id).copy.execution
    attempt = execution.attempts.get(key)
    if attempt is None:
        raise NotFound("action execution", name)
    if attempt.child_id:
        raise InvalidRequest.of("action_execution_id", f"names an execution of a workflow: {attempt.child_id}")
    event = TaskDone(
        key=key,
        outcome=outcome,
        # By id it is whatever delivery there is; said so, an exact repeat is recognized as one.
        delivery=attempt.delivery if memo["delivery"] is None else memo["delivery"],
        result=memo["result"],
        error=request.error,
        actor=asked.actor,
        comment=request.comment,
    )
    verdict = batch.step(execution_id, event).verdict
    if verdict == "superseded":
        told = f"has ended already: {attempt.state}" if attempt.delivery == event.delivery else "was handed out again"
        raise Refused.of(f"action execution {name}", told)
    return actions.CompleteActionResponse(action_execution=attempt_message(execution, attempt))


KINDS = {
    "pause_execution": Kind(_control_needs, _control(PauseRequested, executions.PauseExecutionResponse), _namespace),
    "resume_execution": Kind(_control_needs, _control(ResumeRequested, executions.ResumeExecutionResponse), _namespace),
    "cancel_execution": Kind(_control_needs, _control(CancelRequested, executions.CancelExecutionResponse), _namespace),
    # What is deleted cannot say its namespace when the request is repeated.
    "delete_execution": Kind(_delete_needs, _delete, lambda asked, batch: ""),
    "complete_action": Kind(_complete_needs, _complete, _complete_namespace),
}
