"""Requests about an execution that exists: pause, resume, cancel, update its context."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from dalsegno.engine.batches.answers import Answer, Response, ShownExecution
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.desk.choices import environment_overlay, resume_choices, stop_names
from dalsegno.engine.desk.dry_runs import CHILDREN_MAX, left_paused_messages, try_operation
from dalsegno.engine.desk.operations import (
    Call,
    Operation,
    Plan,
    Repeatable,
    RequestIdentity,
    check_repeatable,
    namespaces_of,
    resource_of,
)
from dalsegno.rpc import sizes
from dalsegno.rpc.convert import COMMENT_LENGTH, Fields
from dalsegno.v1 import execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.workflow.events import (
    CancelRequested,
    ContextUpdated,
    Event,
    ForcedEnd,
    PauseRequested,
    ResumeRequested,
)
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.machine import StepResult
from dalsegno.workflow.refusals import NotFound, RevisionMoved
from dalsegno.workflow.value import Value

LEFT_PAUSED_BYTES_MAX = 1024 * 1024
"""The limit of what an answer says of sub-workflows that stay PAUSED, in bytes."""


class OfExecution(Repeatable, Protocol):
    """A request about one execution."""

    execution_id: str
    expected_revision: int
    dry_run: bool


ExecutionRequest = TypeVar("ExecutionRequest", bound=OfExecution)
ExecutionResponse = TypeVar(
    "ExecutionResponse",
    bound=executions.PauseExecutionResponse
    | executions.ResumeExecutionResponse
    | executions.CancelExecutionResponse
    | executions.UpdateContextResponse
    | executions.GoToCheckpointResponse
    | executions.DiscardHistoryResponse
    | executions.RerunExecutionResponse,
)


@dataclass(frozen=True, slots=True)
class ControlPlan:
    """One event for one execution."""

    event: Event
    children: tuple[str, ...] = ()
    """For a dry run: the descendants in which the effect is tried."""


class OnExecution(Operation[ExecutionRequest, Plan, Response]):
    """An operation on an execution that exists."""

    def identity(self, call: Call[ExecutionRequest], plan: Plan, batch: Batch) -> RequestIdentity | None:
        request = call.request
        if request.dry_run or not request.request_id:
            return None
        return RequestIdentity(request.request_id, namespaces_of(request.execution_id, batch))

    def execution_id(self, request: ExecutionRequest) -> str:
        return request.execution_id


class Control(OnExecution[ExecutionRequest, ControlPlan, ExecutionResponse]):
    """Steps one execution with one event."""

    def __init__(
        self,
        make: Callable[[Fields, ExecutionRequest], Event],
        response_kind: type[ExecutionResponse],
        add: Callable[[ExecutionResponse, StepResult], None] | None = None,
    ) -> None:
        """`make` makes the event; what is wrong with the request is in the fields. `add` adds to the response what only
        this operation answers."""
        self._make = make
        self._response_kind = response_kind
        self._add = add

    def check(self, call: Call[ExecutionRequest], batch: Batch) -> ControlPlan:
        fields = check_execution_request(call.request)
        event = self._make(fields, call.request)
        fields.done()
        return plan_control(call, event, batch)

    def claims(self, call: Call[ExecutionRequest], plan: ControlPlan) -> Collection[str]:
        return (call.request.execution_id, *plan.children)

    def carry_out(self, call: Call[ExecutionRequest], plan: ControlPlan, batch: Batch) -> Answer[ExecutionResponse]:
        return carry_out_control(call, plan, batch, self._response_kind(), self._add)


def plan_control(call: Call[ExecutionRequest], event: Event, batch: Batch) -> ControlPlan:
    """Return the plan: the event with its actor and comment, and for a dry run the descendants to claim."""
    request = call.request
    children: Sequence[str] = ()
    if request.dry_run:
        children = batch.transaction.queries.descendants(request.execution_id)[:CHILDREN_MAX]
    return ControlPlan(msgspec.structs.replace(event, actor=call.actor, comment=request.comment), tuple(children))


def carry_out_control(
    call: Call[ExecutionRequest],
    plan: ControlPlan,
    batch: Batch,
    response: ExecutionResponse,
    add: Callable[[ExecutionResponse, StepResult], None] | None = None,
) -> Answer[ExecutionResponse]:
    """Step the execution, or for a dry run a copy of it. Answer with its new state."""
    execution_id = call.request.execution_id
    execution = open_execution(batch, call.request)
    if call.request.dry_run:
        response.dry_run.CopyFrom(try_operation(batch, execution_id, plan.event, plan.children))
        return Answer(response)
    outcome = batch.step(execution_id, plan.event)
    if add is not None:
        add(response, outcome)
    return Answer(response, ShownExecution(execution_id, response.execution), (resource_of(execution),))


def add_left_paused(response: executions.ResumeExecutionResponse, outcome: StepResult) -> None:
    """Add the sub-workflows that stay PAUSED to an answer: as many as fit, and the number of the others."""
    response.left_paused.extend(left_paused_messages(outcome))
    sizes.cut(response.left_paused, LEFT_PAUSED_BYTES_MAX)
    response.further_left_paused = len(outcome.left_paused) - len(response.left_paused)


def check_execution_request(request: OfExecution) -> Fields:
    """Check the fields that every request about an execution has. The caller adds to these checks."""
    fields = check_repeatable(request)
    fields.number("expected_revision", request.expected_revision)
    fields.uuid("execution_id", request.execution_id)
    return fields


def open_execution(batch: Batch, request: OfExecution) -> Execution:
    """Return the execution of the request, if it has the expected revision. Raises NotFound and RevisionMoved."""
    copy = batch.open(request.execution_id).copy
    if not copy.execution.created.workflow:
        raise NotFound("execution", request.execution_id)  # an execution that only carries a standalone action
    check_revision(request, copy.execution.revision)
    return copy.execution


def check_revision(request: OfExecution, revision: int) -> None:
    """Raise RevisionMoved when another revision is expected."""
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
    return ResumeRequested(
        choices=resume_choices(fields, request.tasks),
        environment=environment_overlay(fields, request),
        stop_at=stop_names(fields, request.stop_at),
    )


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
        terminate=_ENDS.get(terminate.state, ForcedEnd.NONE),
        message=terminate.message,
        output=fields.json("terminate.output", terminate.output) if terminate.output else None,
    )


_ENDS = {
    execution_pb2.EXECUTION_STATE_UNSPECIFIED: ForcedEnd.CANCELLED,
    execution_pb2.EXECUTION_STATE_CANCELLED: ForcedEnd.CANCELLED,
    execution_pb2.EXECUTION_STATE_SUCCESS: ForcedEnd.SUCCESS,
    execution_pb2.EXECUTION_STATE_ERROR: ForcedEnd.ERROR,
}


# UpdateContext


def _context(fields: Fields, request: executions.UpdateContextRequest) -> Event:
    return context_edit(fields, request)


def context_edit(
    fields: Fields, edit: executions.UpdateContextRequest | executions.ContextEdit, place: str = ""
) -> ContextUpdated:
    """Return the edit of a request. What is wrong is in `fields`, with names that begin with `place`."""
    fields.text(f"{place}task", edit.task)
    fields.number(f"{place}task_number", edit.task_number)
    if edit.task_number and not edit.task:
        fields.refuse(f"{place}task", "is missing: the name of the task that has this number")
    data = fields.json_object(f"{place}set", edit.set).data
    given = data if isinstance(data, dict) else None
    for index, name in enumerate(edit.unset):
        fields.name(f"{place}unset[{index}]", name)
        if given and name in given:
            fields.refuse(f"{place}unset[{index}]", f"{name!r} is set as well")
    if given == {} and not edit.unset:
        fields.refuse(f"{place}set", "is missing: nothing is to be changed")
    return ContextUpdated(
        task=edit.task,
        number=edit.task_number,
        values={name: Value(data=value) for name, value in (given or {}).items()},
        removed=tuple(dict.fromkeys(edit.unset)),
    )


PAUSE = Control(_pause, executions.PauseExecutionResponse)
RESUME = Control(_resume, executions.ResumeExecutionResponse, add_left_paused)
CANCEL = Control(_cancel, executions.CancelExecutionResponse)
UPDATE_CONTEXT = Control(_context, executions.UpdateContextResponse)
