"""StartExecution: from the request to the event that creates an execution."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dalsegno.engine.batches.answers import Answer, ShownExecution
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.desk.choices import stop_names
from dalsegno.engine.desk.dry_runs import dry_run_message
from dalsegno.engine.desk.operations import Call, NamespaceOperation, RequestIdentity, check_in_namespace, resource_of
from dalsegno.engine.desk.requests import find_first_answer, keep_first_answer
from dalsegno.engine.desk.secret_members import hide_members, secret_names
from dalsegno.expressions.environment import evaluate_environment
from dalsegno.rpc import convert
from dalsegno.rpc.convert import missing_workflow
from dalsegno.store.records import DefinitionRow
from dalsegno.v1 import execution_pb2, execution_service_pb2
from dalsegno.workflow.changes import ExecutionCreated
from dalsegno.workflow.events import StartRequested
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import derived_id
from dalsegno.workflow.model import AdHocAction, Workflow
from dalsegno.workflow.outside import Given
from dalsegno.workflow.refusals import AlreadyExists, InvalidRequest, NotFound
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.secrets import Cipher, carries_secret, hide_named, recrypt
from dalsegno.workflow.value import EMPTY, Value

DESCRIPTION_LENGTH = 65_536


def new_execution_id(given: Given) -> str:
    """Return a UUIDv7 of the time when the work was first carried out. Carried out again, the work gets the same id."""
    return derived_id(given.now_s, given.seed)


# StartExecution

NAME = "start_execution"
StartRequest = execution_service_pb2.StartExecutionRequest
StartResponse = execution_service_pb2.StartExecutionResponse


@dataclass(frozen=True, slots=True)
class StartPlan:
    """The values of a request to start an execution."""

    input: Value
    params: Value
    deadline_s: float | None
    """By the store's clock."""
    stop_at: tuple[str, ...]
    """The checkpoints at which it is to stop."""


class StartExecution(NamespaceOperation[StartRequest, StartPlan, StartResponse]):
    """See StartExecution in execution_service.proto."""

    def check(self, call: Call[StartRequest], batch: Batch) -> StartPlan:
        request = call.request
        fields = check_in_namespace(request)
        fields.text("workflow", request.workflow)
        if not request.workflow and not request.definition_id:
            fields.refuse("workflow", "is missing")
        if request.workflow and request.definition_id:
            fields.refuse("definition_id", "cannot be given together with a workflow's name")
        if request.version and request.definition_id:
            fields.refuse("version", "cannot be given together with a definition id, which names a version")
        fields.number("version", request.version)
        if request.definition_id:
            fields.uuid("definition_id", request.definition_id)
        if request.execution_id:
            fields.uuid("execution_id", request.execution_id)
        elif request.on_conflict:
            fields.refuse("on_conflict", "is allowed with an execution id only")
        fields.labels("labels", request.labels)
        fields.text("environment", request.environment)
        fields.text("description", request.description, DESCRIPTION_LENGTH)
        plan = StartPlan(
            fields.json_object("input", request.input),
            fields.json_object("params", request.params),
            fields.moment("deadline", request.deadline) if request.HasField("deadline") else None,
            stop_names(fields, request.stop_at),
        )
        secret_names(fields, request.secrets, _given_names(plan))
        fields.done()
        return plan

    def claims(self, call: Call[StartRequest], plan: StartPlan) -> Collection[str]:
        return (call.request.execution_id,) if call.request.execution_id else ()

    def identity(self, call: Call[StartRequest], plan: StartPlan, batch: Batch) -> RequestIdentity | None:
        return None if call.request.dry_run else super().identity(call, plan, batch)

    def execution_id(self, request: StartRequest) -> str:
        return request.execution_id

    def turn(self, request: StartRequest) -> str:
        return f"{request.namespace}/{request.workflow or request.definition_id}"

    def carry_out(self, call: Call[StartRequest], plan: StartPlan, batch: Batch) -> Answer[StartResponse]:
        request = call.request
        chosen_id = request.execution_id
        if chosen_id and batch.exists(chosen_id):
            if request.on_conflict == execution_service_pb2.ON_CONFLICT_USE_EXISTING:
                return _answer_existing(request, batch.open(chosen_id).copy.execution)
            return find_first_answer(batch, NAME, chosen_id, request, StartResponse)
        workflow, row = _find_workflow(request, batch)
        execution_id = chosen_id or new_execution_id(batch.given)
        creation = _creation(call, plan, batch, row, execution_id)
        event = StartRequested(actor=call.actor, comment=request.comment, creation=creation)
        if request.dry_run:
            outcome = batch.try_create(workflow, event)
            return Answer(StartResponse(dry_run=dry_run_message(workflow, outcome)))
        execution = batch.create(workflow, event).copy.execution
        response = StartResponse(created=True)
        answer = Answer(response, ShownExecution(execution_id, response.execution), (resource_of(execution),))
        if chosen_id:
            keep_first_answer(batch, NAME, chosen_id, request, answer)
        return answer


def _given_names(plan: StartPlan) -> set[str]:
    """Return the names of the inputs, and of the variables in `params.env`."""
    params = plan.params.data
    given = (plan.input.data, params.get("env") if isinstance(params, dict) else None)
    return {name for each in given if isinstance(each, dict) for name in each}


def _answer_existing(request: StartRequest, execution: Execution) -> Answer[StartResponse]:
    """Answer with the execution that has the id. Raises AlreadyExists when it is not in the namespace of the
    request."""
    created = execution.created
    if not created.workflow or created.namespace != request.namespace:
        raise AlreadyExists("execution", request.execution_id)
    if request.dry_run:
        state = convert.execution_state(execution.state.value)
        return Answer(StartResponse(dry_run=execution_pb2.DryRun(state=state, revision=execution.revision)))
    response = StartResponse()
    return Answer(response, ShownExecution(execution.id, response.execution), (resource_of(execution),))


def _find_workflow(request: StartRequest, batch: Batch) -> tuple[Workflow, DefinitionRow]:
    """Return the workflow of the request. A name is looked up in exactly its namespace. Raises NotFound."""
    lookups, queries = batch.lookups, batch.transaction.queries
    if request.definition_id:
        row = queries.definition(request.definition_id)
        if row is None or row.deleted or row.kind != "workflow":
            raise NotFound("definition", request.definition_id)
        return _workflow(lookups.workflows.compile(row)), row
    found = lookups.definition("workflow", request.workflow, request.namespace, request.version, queries)
    if found is None:
        raise missing_workflow(request.workflow, request.version, request.namespace)
    return _workflow(found[1]), found[0]


def _workflow(compiled: Workflow | AdHocAction) -> Workflow:
    assert isinstance(compiled, Workflow)
    return compiled


def _creation(
    call: Call[StartRequest], plan: StartPlan, batch: Batch, row: DefinitionRow, execution_id: str
) -> ExecutionCreated:
    request = call.request
    deadline_s = plan.deadline_s
    if deadline_s is not None:
        deadline_s += batch.shift_s  # people use the store's clock
        if deadline_s <= batch.at_s:
            raise InvalidRequest.of("deadline", "has passed already")
    cipher = batch.lookups.ciphers.of(request.namespace)
    return ExecutionCreated(
        execution_id=execution_id,
        definition_id=row.definition_id,
        workflow=row.name,
        namespace=request.namespace,
        version=row.version,
        language=row.language,
        input=hide_members(plan.input, request.secrets, cipher),
        params=_params(request, plan, cipher),
        environment=_evaluate(plan, _environment(request, plan, batch, cipher), batch.given, cipher),
        labels=dict(request.labels),
        description=request.description,
        deadline_s=deadline_s,
        at_s=batch.at_s,
        actor=call.actor,
        comment=request.comment,
        stop_at=plan.stop_at,
    )


def _params(request: StartRequest, plan: StartPlan, cipher: Cipher) -> Value:
    """Return the params of the request, with the name of the environment under `env`, as the language expects it."""
    params = plan.params
    assert isinstance(params.data, dict)
    given = params.data.get("env")
    if isinstance(given, dict):
        hidden = hide_members(Value(data=given), request.secrets, cipher)
        return Value(data={**params.data, "env": hidden.data})
    if not request.environment or "env" in params.data:
        return params
    return Value(data={**params.data, "env": request.environment})


def _environment(request: StartRequest, plan: StartPlan, batch: Batch, cipher: Cipher) -> Value:
    """Return the stored environment of the request, overridden by `params.env`, which is a name or an object."""
    assert isinstance(plan.params.data, dict)
    given = plan.params.data.get("env")
    names = [request.environment] if request.environment else []
    if isinstance(given, str) and given:
        names.append(given)
    elif given is not None and not isinstance(given, dict):
        raise InvalidRequest.of("params.env", "must be the name of an environment, or an object")
    merged: dict[str, object] = {}
    for name in names:
        row = None
        for namespace in dict.fromkeys((request.namespace, "")):
            row = row or batch.transaction.queries.environment(namespace, name)
        if row is None:
            raise NotFound("environment", name)
        text = row.value or "{}"
        if row.namespace != request.namespace:
            text = recrypt(text, batch.lookups.ciphers.of(row.namespace), cipher)
        variables = Value(text=text)
        if len(names) == 1 and not isinstance(given, dict):
            return variables
        assert isinstance(variables.data, dict)
        merged.update(variables.data)
    if isinstance(given, dict):
        merged.update(hide_named(given, frozenset(request.secrets), cipher))
    return Value(data=merged) if merged else EMPTY


def _evaluate(plan: StartPlan, environment: Value, given: Given, cipher: Cipher) -> Value:
    """Evaluate the expressions in the environment, unless `params.evaluate_env` is false."""
    text = environment.text
    assert isinstance(plan.params.data, dict)
    if not plan.params.data.get("evaluate_env", True) or not any(mark in text for mark in ("<%", "{{", "{%")):
        return environment
    assert isinstance(environment.data, dict)
    try:
        secrets = cipher if carries_secret(environment) else None
        return Value(data=evaluate_environment(environment.data, given.now_s, given.seed, secrets))
    except EvaluationError as error:
        raise InvalidRequest.of("environment", str(error)) from None
