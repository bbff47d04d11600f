"""RerunExecution: runs tasks of an execution again within it, or all of it as a new execution (decision 1, O16-O36)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dalsegno.engine.batches.answers import Answer, ShownExecution
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.desk.choices import environment_overlay, rerun_choices, stop_names
from dalsegno.engine.desk.controls import (
    ControlPlan,
    OnExecution,
    carry_out_control,
    check_execution_request,
    open_execution,
    plan_control,
)
from dalsegno.engine.desk.dry_runs import dry_run_message
from dalsegno.engine.desk.operations import Call, resource_of
from dalsegno.engine.desk.requests import find_first_answer, keep_first_answer
from dalsegno.engine.desk.starts import new_execution_id
from dalsegno.rpc.convert import Fields, missing_workflow
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import operation_pb2
from dalsegno.workflow.changes import ExecutionCreated
from dalsegno.workflow.events import RerunRequested, StartRequested, TaskChoice
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.model import Workflow
from dalsegno.workflow.value import Value

RERUN_OF = "rerun-of"
"""The label of a new execution that names the one it repeats."""

NAME = "rerun_execution"

Request = executions.RerunExecutionRequest
Response = executions.RerunExecutionResponse


@dataclass(frozen=True, slots=True)
class RerunPlan:
    """A rerun within the execution, or as a new one."""

    control: ControlPlan
    input: Value
    """Overrides the input of a new execution."""
    environment: Value | None
    """Overrides the environment."""
    stop_at: tuple[str, ...]
    """The checkpoints at which a new execution is to stop."""


class RerunExecution(OnExecution[Request, RerunPlan, Response]):
    """See RerunExecution in execution_service.proto."""

    def check(self, call: Call[Request], batch: Batch) -> RerunPlan:
        request = call.request
        fields = check_execution_request(request)
        choices = _check_choices(fields, request)
        given = fields.json_object("input", request.input)
        environment = environment_overlay(fields, request)
        stops = stop_names(fields, request.stop_at)
        fields.done()
        event = RerunRequested(choices=choices, environment=environment, stop_at=stops)
        return RerunPlan(plan_control(call, event, batch), given, environment, stops)

    def claims(self, call: Call[Request], plan: RerunPlan) -> Collection[str]:
        claimed = (call.request.execution_id, *plan.control.children)
        return (*claimed, call.request.new_execution_id) if call.request.new_execution_id else claimed

    def carry_out(self, call: Call[Request], plan: RerunPlan, batch: Batch) -> Answer[Response]:
        if call.request.start_from == operation_pb2.RERUN_FROM_BEGINNING:
            return _begin_anew(call, plan, batch, open_execution(batch, call.request))
        return carry_out_control(call, plan.control, batch, Response())


def _check_choices(fields: Fields, request: Request) -> tuple[TaskChoice, ...]:
    """Return the choices for tasks. What is wrong with the request is in the fields."""
    beginning = request.start_from == operation_pb2.RERUN_FROM_BEGINNING
    named = request.start_from == operation_pb2.RERUN_FROM_TASKS
    if not beginning and not named and request.start_from != operation_pb2.RERUN_FROM_FAILED:
        fields.refuse("start_from", "must be BEGINNING, TASKS or FAILED")
    if named and not request.tasks:
        fields.refuse("tasks", "is missing: name the tasks to begin at")
    if request.tasks and not named:
        fields.refuse("tasks", "goes with TASKS only")
    only_from_beginning = {
        "input": request.input,
        "latest_definition": request.latest_definition,
        "new_execution_id": request.new_execution_id,
    }
    for name, given in only_from_beginning.items():
        if given and not beginning:
            fields.refuse(name, "goes with BEGINNING only")
    if request.new_execution_id:
        fields.uuid("new_execution_id", request.new_execution_id)
        if request.new_execution_id == request.execution_id:
            fields.refuse("new_execution_id", "is the id of the execution that is to be repeated")
    return rerun_choices(fields, request.tasks)


def _begin_anew(call: Call[Request], plan: RerunPlan, batch: Batch, original: Execution) -> Answer[Response]:
    """Start a new execution with the input of the original one, which does not change (O16, O17)."""
    request = call.request
    chosen_id = request.new_execution_id
    if chosen_id and batch.exists(chosen_id):
        return find_first_answer(batch, NAME, chosen_id, request, Response)
    workflow, creation = _creation(call, plan, batch, original.created)
    event = StartRequested(actor=call.actor, comment=request.comment, creation=creation)
    if request.dry_run:
        outcome = batch.try_create(workflow, event)
        return Answer(Response(dry_run=dry_run_message(workflow, outcome)))
    execution = batch.create(workflow, event).copy.execution
    response = Response()
    answer = Answer(response, ShownExecution(execution.id, response.execution), (resource_of(execution),))
    if chosen_id:
        keep_first_answer(batch, NAME, chosen_id, request, answer)
    return answer


def _creation(
    call: Call[Request], plan: RerunPlan, batch: Batch, created: ExecutionCreated
) -> tuple[Workflow, ExecutionCreated]:
    request = call.request
    definition_id, version = created.definition_id, created.version
    if request.latest_definition:
        workflow, definition_id, version = _newest(batch, created)
    else:
        workflow = batch.lookups.workflows.of(created, batch.transaction.queries)
    declared = {parameter.name for parameter in workflow.input}
    given = _object(created.input)
    if (
        request.latest_definition
    ):  # an input that is no longer declared may only have been a default of the older version
        given = {name: value for name, value in given.items() if name in declared}
    return workflow, ExecutionCreated(
        execution_id=request.new_execution_id or new_execution_id(batch.given),
        definition_id=definition_id,
        workflow=created.workflow,
        namespace=created.namespace,
        version=version,
        language=created.language,
        input=Value(data={**given, **_object(plan.input)}),
        params=created.params,
        environment=_override(created.environment, plan.environment),
        labels={**created.labels, RERUN_OF: created.execution_id},
        description=created.description,
        at_s=batch.at_s,
        actor=call.actor,
        comment=request.comment,
        safe_rerun=created.safe_rerun,
        stop_at=plan.stop_at,
    )


def _newest(batch: Batch, created: ExecutionCreated) -> tuple[Workflow, str, int]:
    """Return the newest version of the workflow that the execution ran, in the namespace where that is defined.

    For a sub-workflow that may be the default namespace. Raises NotFound.
    """
    queries = batch.transaction.queries
    had = queries.definition(created.definition_id)
    namespace = created.namespace if had is None else had.namespace
    found = batch.lookups.definition("workflow", created.workflow, namespace, 0, queries)
    if found is None:
        raise missing_workflow(created.workflow, namespace=namespace)
    row, workflow = found
    assert isinstance(workflow, Workflow)
    return workflow, row.definition_id, row.version


def _override(environment: Value, over: Value | None) -> Value:
    return environment if over is None else Value(data={**_object(environment), **_object(over)})


def _object(value: Value) -> dict[str, object]:
    assert isinstance(value.data, dict)
    return value.data
