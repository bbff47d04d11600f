"""DiscardHistory (decision 24): from the request to the event of the core, and what a dry run tells."""

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
    open_execution,
    plan_control,
)
from dalsegno.engine.desk.operations import Call
from dalsegno.rpc import convert
from dalsegno.rpc.convert import Fields
from dalsegno.v1 import execution_pb2
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.workflow.checkpoints.entries import find_entry
from dalsegno.workflow.events import DiscardRequested
from dalsegno.workflow.execution import Execution

Request = executions.DiscardHistoryRequest
Response = executions.DiscardHistoryResponse


class DiscardHistory(OnExecution[Request, ControlPlan, Response]):
    """See DiscardHistory in execution_service.proto."""

    def check(self, call: Call[Request], batch: Batch) -> ControlPlan:
        fields = check_execution_request(call.request)
        event = _discard(fields, call.request)
        fields.done()
        return plan_control(call, event, batch)

    def claims(self, call: Call[Request], plan: ControlPlan) -> Collection[str]:
        return (call.request.execution_id,)

    def carry_out(self, call: Call[Request], plan: ControlPlan, batch: Batch) -> Answer[Response]:
        if not call.request.dry_run:
            return carry_out_control(call, plan, batch, Response())
        open_execution(batch, call.request)
        return Answer(Response(dry_run=_try(call.request, plan, batch)))


def _discard(fields: Fields, request: Request) -> DiscardRequested:
    target = request.WhichOneof("before")
    if target is None:
        fields.refuse("name", "is missing: name a checkpoint, or give the sequence number of an entry")
    elif target == "name":
        fields.name("name", request.name)
    elif request.sequence <= 0:
        fields.refuse("sequence", "must be the sequence number of an entry, which is at least 1")
    return DiscardRequested(name=request.name, sequence=request.sequence)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What an execution has that a discard may take."""

    first_sequence: int
    entries: frozenset[int]
    """By sequence, `start` included."""
    tasks: int
    actions: int
    children: frozenset[str]

    @classmethod
    def of(cls, execution: Execution) -> _Parts:
        start = execution.start_sequence
        children = frozenset(each.child_id for each in execution.attempts.values() if each.child_id)
        return cls(
            execution.first_sequence,
            frozenset(execution.entries) | ({start} if start >= execution.first_sequence else frozenset()),
            len(execution.tasks),
            sum(not each.runs_workflow for each in execution.attempts.values()),
            children,
        )


def _try(request: Request, plan: ControlPlan, batch: Batch) -> execution_pb2.DryRun:
    """Return what would be discarded. Raises Refusal."""
    private = batch.load_private(request.execution_id)
    workflow, execution = batch.workflow_of(private), private.execution
    before, revision = _Parts.of(execution), execution.revision
    outcome = batch.try_step(private, plan.event)
    after = _Parts.of(outcome.execution)
    entry = find_entry(workflow, outcome.execution, request.name, request.sequence)
    return execution_pb2.DryRun(
        state=convert.execution_state(execution.state.value),
        revision=revision,
        discards=execution_pb2.DryRunDiscard(
            before=execution_pb2.CheckpointReference(name=entry.name, sequence=entry.sequence),
            changes=after.first_sequence - before.first_sequence,
            entries=len(before.entries - after.entries),
            tasks=before.tasks - after.tasks,
            actions=before.actions - after.actions,
            children=_count_below(batch, request.execution_id, before.children - after.children),
        ),
    )


def _count_below(batch: Batch, execution_id: str, children: Collection[str]) -> int:
    """Return how many these children and their descendants are."""
    if not children:
        return 0
    queries = batch.transaction.queries
    below = queries.descendants(execution_id)
    parents = {each.id: each.parent_id for each in queries.executions_of(below, full=False).values()}
    gone = {each for each in children if each in parents}
    for each in below:  # parents come before their children
        if parents.get(each) in gone:
            gone.add(each)
    return len(gone)
