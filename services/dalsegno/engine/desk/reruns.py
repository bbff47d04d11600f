"""RerunExecution: runs tasks of an execution again within it, or all of it, or all behind a checkpoint, as a new
execution (decisions 1 and 21, O16-O36)."""

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
from dalsegno.engine.desk.dry_runs import Before, dry_run_message
from dalsegno.engine.desk.forks import check_fork
from dalsegno.engine.desk.operations import Call, resource_of
from dalsegno.engine.desk.requests import find_first_answer, keep_first_answer
from dalsegno.engine.desk.starts import new_execution_id
from dalsegno.rpc.convert import Fields, missing_workflow
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import operation_pb2
from dalsegno.v1.execution_pb2 import DryRun
from dalsegno.workflow.changes import ExecutionCreated
from dalsegno.workflow.checkpoints import forking
from dalsegno.workflow.checkpoints.forking import ForkWish
from dalsegno.workflow.events import ContextUpdated, RerunRequested, StartRequested, TaskChoice
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.model import Workflow
from dalsegno.workflow.secrets import Cipher, hide_like
from dalsegno.workflow.states import COMPLETED_TASK
from dalsegno.workflow.value import Value

RERUN_OF = "rerun-of"
"""The label of a new execution that names the one it repeats."""

NAME = "rerun_execution"

Request = executions.RerunExecutionRequest
Response = executions.RerunExecutionResponse


_AS_NEW = (operation_pb2.RERUN_FROM_BEGINNING, operation_pb2.RERUN_FROM_CHECKPOINT)
"""These reruns create an execution."""


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
    edit: ContextUpdated | None
    """What a new execution that begins at a checkpoint edits there."""


class RerunExecution(OnExecution[Request, RerunPlan, Response]):
    """See RerunExecution in execution_service.proto."""

    def check(self, call: Call[Request], batch: Batch) -> RerunPlan:
        request = call.request
        fields = check_execution_request(request)
        choices = _check_choices(fields, request)
        _check_creation(fields, request)
        edit = check_fork(fields, request)
        given = fields.json_object("input", request.input)
        environment = environment_overlay(fields, request)
        stops = stop_names(fields, request.stop_at)
        fields.done()
        event = RerunRequested(choices=choices, environment=environment, stop_at=stops)
        return RerunPlan(plan_control(call, event, batch), given, environment, stops, edit)

    def claims(self, call: Call[Request], plan: RerunPlan) -> Collection[str]:
        claimed = (call.request.execution_id, *plan.control.children)
        return (*claimed, call.request.new_execution_id) if call.request.new_execution_id else claimed

    def carry_out(self, call: Call[Request], plan: RerunPlan, batch: Batch) -> Answer[Response]:
        if call.request.start_from in _AS_NEW:
            return _create(call, plan, batch, open_execution(batch, call.request))
        return carry_out_control(call, plan.control, batch, Response())


def _check_choices(fields: Fields, request: Request) -> tuple[TaskChoice, ...]:
    """Return the choices for tasks. What is wrong with the request is in the fields."""
    named = request.start_from == operation_pb2.RERUN_FROM_TASKS
    if request.start_from not in (*_AS_NEW, operation_pb2.RERUN_FROM_TASKS, operation_pb2.RERUN_FROM_FAILED):
        fields.refuse("start_from", "must be BEGINNING, TASKS, FAILED or CHECKPOINT")
    if named and not request.tasks:
        fields.refuse("tasks", "is missing: name the tasks to begin at")
    if request.tasks and not named:
        fields.refuse("tasks", "goes with TASKS only")
    return rerun_choices(fields, request.tasks)


def _check_creation(fields: Fields, request: Request) -> None:
    """Check the fields that say how a new execution is to be."""
    only_as_new = {
        "input": request.input,
        "latest_definition": request.latest_definition,
        "new_execution_id": request.new_execution_id,
        "labels": request.labels,
    }
    for name, given in only_as_new.items():
        if given and request.start_from not in _AS_NEW:
            fields.refuse(name, "goes with BEGINNING and CHECKPOINT only")
    fields.labels("labels", request.labels)
    if request.new_execution_id:
        fields.uuid("new_execution_id", request.new_execution_id)
        if request.new_execution_id == request.execution_id:
            fields.refuse("new_execution_id", "is the id of the execution that is to be repeated")


def _create(call: Call[Request], plan: RerunPlan, batch: Batch, original: Execution) -> Answer[Response]:
    """Start a new execution with the input of the original one, which does not change (O16, O17), at the beginning or
    at an entry of it (decision 21)."""
    request = call.request
    chosen_id = request.new_execution_id
    if chosen_id and batch.exists(chosen_id):
        return find_first_answer(batch, NAME, chosen_id, request, Response)
    workflow, creation = _creation(call, plan, batch, original.created)
    event = StartRequested(actor=call.actor, comment=request.comment, creation=creation)
    if request.start_from == operation_pb2.RERUN_FROM_CHECKPOINT:
        event = _forked(call, plan, batch, original, event)
    if request.dry_run:
        return Answer(Response(dry_run=_try(workflow, event, batch)))
    execution = batch.create(workflow, event).copy.execution
    response = Response()
    answer = Answer(response, ShownExecution(execution.id, response.execution), (resource_of(execution),))
    if chosen_id:
        keep_first_answer(batch, NAME, chosen_id, request, answer)
    return answer


def _try(workflow: Workflow, event: StartRequested, batch: Batch) -> DryRun:
    """Return what the new execution would do at once, and what it would have of the original one."""
    outcome = batch.try_create(workflow, event)
    if event.fork is None:
        return dry_run_message(workflow, outcome)
    had = frozenset(task.number for task in event.fork.consolidated.tasks if task.state in COMPLETED_TASK)
    message = dry_run_message(workflow, outcome, Before(ended=had))
    message.revision = 0
    return message


def _forked(
    call: Call[Request], plan: RerunPlan, batch: Batch, original: Execution, event: StartRequested
) -> StartRequested:
    """Return the start of an execution that begins at an entry of the original one."""
    request = call.request
    wanted = ForkWish(
        name=request.checkpoint,
        sequence=request.checkpoint_sequence,
        input=tuple(_object(plan.input)),
        environment=plan.environment,
        edit=plan.edit,
        stay=request.stay,
    )
    workflow = batch.workflow_of(batch.open(original.id).copy)
    return forking.fork(workflow, original, wanted, event, batch.outside, batch.given)


def _creation(
    call: Call[Request], plan: RerunPlan, batch: Batch, created: ExecutionCreated
) -> tuple[Workflow, ExecutionCreated]:
    request = call.request
    definition_id, version, language = created.definition_id, created.version, created.language
    if request.latest_definition:
        workflow, definition_id, version = _newest(batch, created)
        language = workflow.language
    else:
        workflow = batch.lookups.workflows.of(created, batch.transaction.queries)
    declared = {parameter.name for parameter in workflow.input}
    cipher = batch.lookups.ciphers.of(created.namespace)
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
        language=language,
        input=Value(data={**given, **_object(hide_like(given, plan.input, cipher))}),
        params=created.params,
        environment=_override(created.environment, plan.environment, cipher),
        labels=_labels(request, created),
        description=created.description,
        at_s=batch.at_s,
        actor=call.actor,
        comment=request.comment,
        safe_rerun=created.safe_rerun,
        stop_at=plan.stop_at,
    )


def _labels(request: Request, created: ExecutionCreated) -> dict[str, str]:
    """Return the labels of the new execution. What a fork is of, `forked_from` tells."""
    labels = {**created.labels, **request.labels}
    if request.start_from == operation_pb2.RERUN_FROM_BEGINNING:
        return labels | {RERUN_OF: created.execution_id}
    return labels


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


def _override(environment: Value, over: Value | None, cipher: Cipher) -> Value:
    if over is None:
        return environment
    own = _object(environment)
    return Value(data={**own, **_object(hide_like(own, over, cipher))})


def _object(value: Value) -> dict[str, object]:
    assert isinstance(value.data, dict)
    return value.data
