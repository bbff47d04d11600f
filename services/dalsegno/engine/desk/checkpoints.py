"""GoToCheckpoint (decision 20): from the request to the event of the core."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dalsegno.engine.batches.answers import Answer
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.desk.controls import (
    ControlPlan,
    OnExecution,
    carry_out_control,
    check_execution_request,
    context_edit,
    plan_control,
)
from dalsegno.engine.desk.operations import Call
from dalsegno.rpc.convert import Fields
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import operation_pb2
from dalsegno.workflow.events import GoToRequested
from dalsegno.workflow.refusals import ParentWentOn
from dalsegno.workflow.states import COMPLETED_TASK

Request = executions.GoToCheckpointRequest
Response = executions.GoToCheckpointResponse

_DELEGATES = (operation_pb2.DELEGATES_UNSPECIFIED, operation_pb2.DELEGATES_WAIT)


@dataclass(frozen=True, slots=True)
class GoToPlan:
    """One event for one execution, and the place of the execution in its parent."""

    control: ControlPlan
    parent_id: str = ""
    """Empty if it has no parent."""
    parent_task: int = 0


class GoToCheckpoint(OnExecution[Request, GoToPlan, Response]):
    """See GoToCheckpoint in execution_service.proto."""

    def check(self, call: Call[Request], batch: Batch) -> GoToPlan:
        fields = check_execution_request(call.request)
        event = _go_to(fields, call.request)
        fields.done()
        control = plan_control(call, event, batch)
        row = batch.transaction.queries.execution(call.request.execution_id)
        return GoToPlan(control) if row is None else GoToPlan(control, row.parent_id, row.parent_task)

    def claims(self, call: Call[Request], plan: GoToPlan) -> Collection[str]:
        claimed = (call.request.execution_id, *plan.control.children)
        return (*claimed, plan.parent_id) if plan.parent_id else claimed

    def must_wait(self, plan: GoToPlan, batch: Batch) -> bool:
        return bool(plan.parent_id) and not batch.is_settled(plan.parent_id)

    def carry_out(self, call: Call[Request], plan: GoToPlan, batch: Batch) -> Answer[Response]:
        if plan.parent_id:
            _check_parent(plan, batch)
        return carry_out_control(call, plan.control, batch, Response())


def _check_parent(plan: GoToPlan, batch: Batch) -> None:
    """Raise ParentWentOn when the task that runs the execution has ended (decision 23)."""
    task = batch.transaction.queries.task(plan.parent_id, plan.parent_task)
    if task is not None and task.state in COMPLETED_TASK:
        reason = f"of execution {plan.parent_id}, which runs this one, has ended: send that execution back instead"
        raise ParentWentOn.of(f"task {task.name}", reason)


def _go_to(fields: Fields, request: Request) -> GoToRequested:
    is_named = request.WhichOneof("target") == "name"
    if request.WhichOneof("target") is None:
        fields.refuse("name", "is missing: name a checkpoint, or give the sequence number of an entry")
    elif is_named:
        fields.name("name", request.name)
    elif request.sequence <= 0:
        fields.refuse("sequence", "must be the sequence number of an entry, which is at least 1")
    if request.next and not is_named:
        fields.refuse("next", "goes with a name only")
    if request.delegates not in _DELEGATES:
        fields.refuse("delegates", "a go-to waits for delegates or does not: WAIT, or not set")
    edit = context_edit(fields, request.edit, "edit.") if request.HasField("edit") else None
    return GoToRequested(
        name=request.name,
        sequence=request.sequence,
        next=request.next,
        resumes=request.then == executions.ON_ARRIVAL_RESUME,
        waits_for_delegates=request.delegates == operation_pb2.DELEGATES_WAIT,
        edit=edit,
    )
