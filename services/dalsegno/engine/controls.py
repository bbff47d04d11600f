"""What people ask of an execution that is there: pause, resume, cancel, rerun, edit its context, delete."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
from google.protobuf.message import Message

from dalsegno.engine import reruns
from dalsegno.engine.answers import execution_message
from dalsegno.engine.batch import Batch
from dalsegno.engine.choices import resume_choices
from dalsegno.engine.dry_runs import CHILDREN_MAX, left_paused_messages, try_operation
from dalsegno.engine.requests import (
    Asked,
    Kind,
    about_execution,
    about_nothing,
    check_shared_fields,
    forget,
    namespaces_of,
)
from dalsegno.rpc import convert
from dalsegno.rpc.convert import COMMENT_LENGTH, Fields
from dalsegno.v1 import execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.workflow.events import (
    CancelRequested,
    ContextUpdated,
    Event,
    PauseRequested,
    ResumeRequested,
)
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.refusals import NotFound, Refused, RevisionMoved, Violation
from dalsegno.workflow.value import Value

Make = Callable[[Fields, Any], Event]
"""The event that a request asks for; what is wrong with the request is in the fields."""


def _control(make: Make, response_kind: Any) -> Kind:
    """How one event is asked of one execution, and its answer."""

    def needs(asked: Asked, batch: Batch) -> Collection[str]:
        fields = _checked(asked.request)
        asked.memo["event"] = make(fields, asked.request)
        fields.done()
        return _claims(asked, batch)

    def carry_out(asked: Asked, batch: Batch) -> Message:
        response: Message = response_kind()
        _carry_out(asked, batch, response)
        return response

    return Kind(needs, carry_out, about_execution, _namespaces)


def _claims(asked: Asked, batch: Batch) -> Collection[str]:
    """The execution, and for a dry run those of its descendants in which the effect is tried out."""
    request, memo = asked.request, asked.memo
    memo["children"] = []
    if request.dry_run:
        memo["children"] = batch.transaction.queries.descendants(request.execution_id)[:CHILDREN_MAX]
    return (request.execution_id, *memo["children"])


def _carry_out(asked: Asked, batch: Batch, response: Any) -> None:
    """Step the execution, or for a dry run a copy of it, and say in the response how it stands then."""
    request = asked.request
    execution = _open(batch, request)
    event = msgspec.structs.replace(asked.memo["event"], actor=asked.actor, comment=request.comment)
    if request.dry_run:
        response.dry_run.CopyFrom(try_operation(batch, request.execution_id, event, asked.memo["children"]))
    else:
        outcome = batch.step(request.execution_id, event)
        response.execution.CopyFrom(execution_message(execution, execution.latest_s))
        if outcome.left_paused:
            response.left_paused.extend(left_paused_messages(outcome))


def _checked(request: Any) -> Fields:
    fields = check_shared_fields(request)
    fields.uuid("execution_id", request.execution_id)
    return fields


def _open(batch: Batch, request: Any) -> Execution:
    """The execution that is asked for, at the revision that is expected. Raises NotFound and RevisionMoved."""
    copy = batch.open(request.execution_id).copy
    if not copy.execution.created.workflow:
        raise NotFound("execution", request.execution_id)  # one that only carries a standalone action
    _check_revision(request, copy.execution.revision)
    return copy.execution


def _check_revision(request: Any, revision: int) -> None:
    if request.expected_revision and request.expected_revision != revision:
        raise RevisionMoved("execution", request.execution_id, request.expected_revision, revision)


def _namespaces(asked: Asked, batch: Batch) -> Sequence[str]:
    return namespaces_of(asked.request.execution_id, batch)


# Pause, resume, cancel

_UNSAID = operation_pb2.DELEGATES_UNSPECIFIED
_WHILE_PAUSING = (_UNSAID, operation_pb2.DELEGATES_LEAVE, operation_pb2.DELEGATES_WAIT)
_WHILE_CANCELLING = (_UNSAID, operation_pb2.DELEGATES_CANCEL, operation_pb2.DELEGATES_WAIT)


def _pause(fields: Fields, request: executions.PauseExecutionRequest) -> Event:
    if request.delegates not in _WHILE_PAUSING:
        fields.refuse("delegates", "a pause leaves delegates or waits for them: LEAVE or WAIT")
    return PauseRequested(waits_for_delegates=request.delegates == operation_pb2.DELEGATES_WAIT)


def _resume(fields: Fields, request: executions.ResumeExecutionRequest) -> Event:
    choices = resume_choices(fields, request.tasks)
    return ResumeRequested(choices=choices, environment=_overlay(fields, request))


def _cancel(fields: Fields, request: executions.CancelExecutionRequest) -> Event:
    if request.delegates not in _WHILE_CANCELLING:
        fields.refuse("delegates", "a cancel cancels delegates or waits for them: CANCEL or WAIT")
    waits = request.delegates == operation_pb2.DELEGATES_WAIT
    if not request.HasField("terminate"):
        return CancelRequested(waits_for_delegates=waits)
    terminate = request.terminate
    if request.delegates != _UNSAID:
        fields.refuse("delegates", "goes without terminate, which ends everything at once: leave one of them out")
    if terminate.state not in _ENDS:
        fields.refuse("terminate.state", "must be CANCELLED, SUCCESS or ERROR")
    fields.text("terminate.message", terminate.message, COMMENT_LENGTH)
    return CancelRequested(
        terminate=_ENDS.get(terminate.state, ""),
        message=terminate.message,
        output=fields.json("terminate.output", terminate.output) if terminate.output else None,
    )


_ENDS = {
    execution_pb2.EXECUTION_STATE_UNSPECIFIED: "CANCELLED",
    execution_pb2.EXECUTION_STATE_CANCELLED: "CANCELLED",
    execution_pb2.EXECUTION_STATE_SUCCESS: "SUCCESS",
    execution_pb2.EXECUTION_STATE_ERROR: "ERROR",
}


def _overlay(fields: Fields, request: Any) -> Value | None:
    overlay = request.environment_overlay
    return fields.json_object("environment_overlay", overlay) if overlay else None


# UpdateContext


def _context(fields: Fields, request: executions.UpdateContextRequest) -> Event:
    fields.text("task", request.task)
    fields.number("task_number", request.task_number)
    if request.task_number and not request.task:
        fields.refuse("task", "is missing: the name of the task that has this number")
    data = fields.json_object("set", request.set).data
    given = data if isinstance(data, dict) else None
    for index, name in enumerate(request.unset):
        fields.name(f"unset[{index}]", name)
        if given and name in given:
            fields.refuse(f"unset[{index}]", f"{name!r} is set as well")
    if given == {} and not request.unset:
        fields.refuse("set", "is missing: nothing is to be changed")
    return ContextUpdated(
        task=request.task,
        number=request.task_number,
        values={name: Value(data=value) for name, value in (given or {}).items()},
        removed=tuple(dict.fromkeys(request.unset)),
    )


# RerunExecution


def _rerun_needs(asked: Asked, batch: Batch) -> Collection[str]:
    request, memo = asked.request, asked.memo
    fields = _checked(request)
    memo["event"] = reruns.check_rerun(fields, request, memo)
    fields.done()
    return (*_claims(asked, batch), *reruns.new_ids(request))


def _rerun(asked: Asked, batch: Batch) -> executions.RerunExecutionResponse:
    if reruns.is_from_beginning(asked.request):
        return reruns.begin_anew(asked, batch, _open(batch, asked.request))
    response = executions.RerunExecutionResponse()
    _carry_out(asked, batch, response)
    return response


# DeleteExecution


def _delete_needs(asked: Asked, batch: Batch) -> Collection[str]:
    fields = _checked(asked.request)
    fields.done()
    execution_id = asked.request.execution_id
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
    forget(batch, family)
    for each in family:
        batch.delete(each.id)
    return executions.DeleteExecutionResponse()


KINDS = {
    "pause_execution": _control(_pause, executions.PauseExecutionResponse),
    "resume_execution": _control(_resume, executions.ResumeExecutionResponse),
    "cancel_execution": _control(_cancel, executions.CancelExecutionResponse),
    "rerun_execution": Kind(_rerun_needs, _rerun, about_execution, _namespaces),
    "update_context": _control(_context, executions.UpdateContextResponse),
    # What is deleted cannot say its namespace when the request is repeated.
    "delete_execution": Kind(_delete_needs, _delete, about_nothing, lambda asked, batch: ("",)),
}
