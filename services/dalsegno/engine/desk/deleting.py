"""DeleteExecution: deletes an execution at rest, with all its descendants."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice

from dalsegno.engine.batches.answers import Answer
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.desk.controls import OnExecution, check_execution_request, check_revision
from dalsegno.engine.desk.operations import LIST_MAX, Call, RequestIdentity
from dalsegno.engine.desk.requests import record_deletions
from dalsegno.rpc import convert
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.refusals import Obstacle, Refused, Violation

Request = executions.DeleteExecutionRequest
Response = executions.DeleteExecutionResponse


@dataclass(frozen=True, slots=True)
class DeletionPlan:
    """The executions to delete."""

    execution_id: str
    descendants: tuple[str, ...]


class DeleteExecution(OnExecution[Request, DeletionPlan, Response]):
    """See DeleteExecution in execution_service.proto."""

    def check(self, call: Call[Request], batch: Batch) -> DeletionPlan:
        check_execution_request(call.request).done()
        execution_id = call.request.execution_id
        return DeletionPlan(execution_id, tuple(batch.transaction.queries.descendants(execution_id)))

    def claims(self, call: Call[Request], plan: DeletionPlan) -> Collection[str]:
        return (plan.execution_id, *plan.descendants)

    def must_wait(self, plan: DeletionPlan, batch: Batch) -> bool:
        return not all(map(batch.is_settled, (plan.execution_id, *plan.descendants)))

    def identity(self, call: Call[Request], plan: DeletionPlan, batch: Batch) -> RequestIdentity | None:
        if call.request.dry_run or not call.request.request_id:
            return None
        # When the request is repeated, the execution is gone and its namespace is not known.
        return RequestIdentity(call.request.request_id, ("",))

    def carry_out(self, call: Call[Request], plan: DeletionPlan, batch: Batch) -> Answer[Response]:
        execution = batch.open(plan.execution_id).copy.execution
        check_revision(call.request, execution.revision)
        below = [batch.open(each).copy.execution for each in plan.descendants if batch.exists(each)]
        family = [execution, *below]
        _check_at_rest(family, batch)
        if call.request.dry_run:
            return Answer(Response(dry_run=_dry_run(execution, below)))
        record_deletions(batch, family)
        for each in family:
            batch.delete(each.id)
        return Answer(Response())


def _check_at_rest(family: Sequence[Execution], batch: Batch) -> None:
    """Raise Refused unless all of them are at rest and the first one has no parent."""
    obstacles = [
        Violation(
            f"execution {each.id}", f"is not at rest: {each.state}, {each.active_count} active", Obstacle.NOT_AT_REST
        )
        for each in family
        if not each.is_at_rest
    ]
    parent = family[0].created.parent
    if parent is not None and batch.transaction.claim([parent.execution_id]):
        obstacles.insert(
            0, Violation(f"execution {parent.execution_id}", "is its parent: delete that one", Obstacle.HAS_PARENT)
        )
    if obstacles:
        raise Refused(obstacles[:100])


def _dry_run(execution: Execution, below: Sequence[Execution]) -> execution_pb2.DryRun:
    message = execution_pb2.DryRun(
        state=convert.execution_state(execution.state.value),
        revision=execution.revision,
        children=[execution_pb2.DryRunChild(execution_id=each.id) for each in islice(below, LIST_MAX)],
    )
    if len(below) > LIST_MAX:
        message.further["children"] = len(below) - LIST_MAX
    return message
