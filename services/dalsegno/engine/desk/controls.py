"""What people ask of an execution that is there: pause, resume, cancel, edit its context."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from dalsegno.engine.batches.answers import Answer, Response, Shown
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.desk.choices import environment_overlay, resume_choices
from dalsegno.engine.desk.dry_runs import CHILDREN_MAX, left_paused_messages, try_operation
from dalsegno.engine.desk.operations import (
    AnyOperation,
    Call,
    Operation,
    Plan,
    Request,
    check_shared_fields,
    namespaces_of,
    thing_of,
)
from dalsegno.rpc import sizes
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
from dalsegno.workflow.machine import Outcome
from dalsegno.workflow.refusals import NotFound, RevisionMoved
from dalsegno.workflow.value import Value

LEFT_PAUSED_BYTES_MAX = 1024 * 1024
"""What an answer tells of sub-workflows that stay PAUSED is no larger."""

Make = Callable[[Fields, Any], Event]
"""The event that a request asks for; what is wrong with the request is in the fields."""


@dataclass(frozen=True, slots=True)
class ControlPlan:
    """One event for one execution."""

    event: Event
    children: tuple[str, ...] = ()
    """For a dry run: the descendants in which the effect is tried out."""


class OnExecution(Operation[Request, Plan, Response]):
    """What is asked of an execution that is there."""

    def namespaces(self, call: Call[Request], plan: Plan, batch: Batch) -> Sequence[str]:
        return namespaces_of(call.request.execution_id, batch)  # type: ignore[attr-defined]


class Control(OnExecution[Request, ControlPlan, Response]):
    """How one event is asked of one execution, and its answer."""

    def __init__(self, make: Make, response_kind: type[Response]) -> None:
        self._make = make
        self._response_kind = response_kind

    def check(self, call: Call[Request], batch: Batch) -> ControlPlan:
        fields = checked(call.request)
        event = self._make(fields, call.request)
        fields.done()
        return plan_control(call, event, batch)

    def claims(self, call: Call[Any], plan: ControlPlan) -> Collection[str]:
        return (call.request.execution_id, *plan.children)

    def carry_out(self, call: Call[Any], plan: ControlPlan, batch: Batch) -> Answer[Response]:
        return carry_out_control(call, plan, batch, self._response_kind())


def plan_control(call: Call[Any], event: Event, batch: Batch) -> ControlPlan:
    """The event in the name of who asks, and, for a dry run, the descendants that are claimed."""
    request = call.request
    children: Sequence[str] = ()
    if request.dry_run:
        children = batch.transaction.queries.descendants(request.execution_id)[:CHILDREN_MAX]
    return ControlPlan(msgspec.structs.replace(event, actor=call.actor, comment=request.comment), tuple(children))


def carry_out_control(call: Call[Any], plan: ControlPlan, batch: Batch, response: Any) -> Answer[Any]:
    """Step the execution, or for a dry run a copy of it, and answer how it stands then."""
    execution_id = call.request.execution_id
    execution = opened(batch, call.request)
    if call.request.dry_run:
        response.dry_run.CopyFrom(try_operation(batch, execution_id, plan.event, plan.children))
        return Answer(response)
    outcome = batch.step(execution_id, plan.event)
    if outcome.left_paused:
        tell_left_paused(response, outcome)
    return Answer(response, Shown(execution_id), (thing_of(execution),))


def tell_left_paused(response: Any, outcome: Outcome) -> None:
    """Put into an answer which sub-workflows stay PAUSED: as many as may be, and how many more."""
    response.left_paused.extend(left_paused_messages(outcome))
    sizes.cut(response.left_paused, LEFT_PAUSED_BYTES_MAX)
    response.further_left_paused = len(outcome.left_paused) - len(response.left_paused)


def checked(request: Any) -> Fields:
    """The checks of a request about an execution, begun."""
    fields = check_shared_fields(request)
    fields.uuid("execution_id", request.execution_id)
    return fields


def opened(batch: Batch, request: Any) -> Execution:
    """The execution that is asked for, at the revision that is expected. Raises NotFound and RevisionMoved."""
    copy = batch.open(request.execution_id).copy
    if not copy.execution.created.workflow:
        raise NotFound("execution", request.execution_id)  # one that only carries a standalone action
    check_revision(request, copy.execution.revision)
    return copy.execution


def check_revision(request: Any, revision: int) -> None:
    """Raises RevisionMoved when another revision is expected."""
    if request.expected_revision and request.expected_revision != revision:
        raise RevisionMoved("execution", request.execution_id, request.expected_revision, revision)


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
    return ResumeRequested(choices=choices, environment=environment_overlay(fields, request))


def _cancel(fields: Fields, request: executions.CancelExecutionRequest) -> Event:
    if request.delegates not in _WHILE_CANCELLING:
        fields.refuse("delegates", "a cancel cancels delegates or waits for them: CANCEL or WAIT")
    waits = request.delegates == operation_pb2.DELEGATES_WAIT
    if not request.HasField("terminate"):
        return CancelRequested(waits_for_delegates=waits)
    terminate = request.terminate
    if request.delegates != _UNSAID:
        fields.refuse(
            "delegates", "cannot be given with terminate, which ends everything at once: leave one of them out"
        )
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


OPERATIONS: Mapping[str, AnyOperation] = {
    "pause_execution": Control(_pause, executions.PauseExecutionResponse),
    "resume_execution": Control(_resume, executions.ResumeExecutionResponse),
    "cancel_execution": Control(_cancel, executions.CancelExecutionResponse),
    "update_context": Control(_context, executions.UpdateContextResponse),
}
