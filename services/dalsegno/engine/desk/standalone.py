"""Actions without a workflow (S17): RunAction, and CancelAction for them and for all others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dalsegno.engine.batches.answers import Answer, ShownAction
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.cache import standalone_workflow
from dalsegno.engine.batches.outbox import Cancel
from dalsegno.engine.desk.operations import (
    Call,
    NamespaceOperation,
    Operation,
    RequestIdentity,
    check_in_namespace,
    check_repeatable,
    namespaces_of,
    resource_of,
)
from dalsegno.engine.desk.secret_members import hide_members, secret_names
from dalsegno.engine.desk.starts import new_execution_id
from dalsegno.rpc.convert import Fields
from dalsegno.v1 import action_service_pb2
from dalsegno.workflow.changes import ExecutionCreated
from dalsegno.workflow.commands import CancelAction as CancelCommand
from dalsegno.workflow.events import CancelRequested, Event, ForcedEnd, StartRequested, TaskDone, TaskOutcome
from dalsegno.workflow.identity import AttemptKey, attempt_id
from dalsegno.workflow.model import ActionDescription, AdHocAction
from dalsegno.workflow.refusals import InvalidRequest, NotFound, Refused, Violation
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState
from dalsegno.workflow.targets import UnfitTarget, parse_target
from dalsegno.workflow.value import Value

TIMEOUT_S_MAX = 10 * 365 * 24 * 3600.0
RETRIES_MAX = 1_000
TARGET_LENGTH = 1_024

STANDALONE_KEY = (1, 0, 1)
"""The first attempt of a standalone action."""

RunRequest = action_service_pb2.RunActionRequest
RunResponse = action_service_pb2.RunActionResponse


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The values of a request to run an action."""

    input: dict[str, object]
    terms: dict[str, object]
    """What the params of its execution have beside the action and its input."""


class RunAction(NamespaceOperation[RunRequest, RunPlan, RunResponse]):
    """See RunAction in action_service.proto."""

    def check(self, call: Call[RunRequest], batch: Batch) -> RunPlan:
        request = call.request
        fields = check_in_namespace(request)
        fields.name("action", request.action)
        fields.labels("labels", request.labels)
        given = fields.json_object("input", request.input).data
        terms = _terms(fields, request)
        secret_names(fields, request.secrets, given if isinstance(given, dict) else ())
        fields.done()
        assert isinstance(given, dict)
        return RunPlan(given, terms)

    def claims(self, call: Call[RunRequest], plan: RunPlan) -> Collection[str]:
        return ()

    def turn(self, request: RunRequest) -> str:
        return f"{request.namespace}/{request.action}"

    def carry_out(self, call: Call[RunRequest], plan: RunPlan, batch: Batch) -> Answer[RunResponse]:
        request = call.request
        found = batch.outside.find_action(request.action, request.namespace)
        if found is None:
            raise NotFound("action", request.action)
        wrong = _input_violations(found, plan.input)
        if wrong:
            raise InvalidRequest(wrong)
        creation = _standalone(call, plan, batch)
        event = StartRequested(actor=call.actor, comment=request.comment, creation=creation)
        workflow = standalone_workflow(creation)
        outcome = batch.try_create(workflow, event)
        execution = outcome.execution
        if STANDALONE_KEY not in execution.attempts:  # an ad-hoc action that leads to no action
            raise InvalidRequest.of("action", execution.info or "cannot be run")
        batch.adopt(workflow, event, outcome)
        response = RunResponse()
        shown = ShownAction(execution.id, STANDALONE_KEY, response.action_execution)
        return Answer(response, shown, (resource_of(execution),))


def _terms(fields: Fields, request: RunRequest) -> dict[str, object]:
    """Return the timeout, the retry and the target of a request, as the params keep them."""
    terms: dict[str, object] = {}
    if request.HasField("timeout"):
        terms["timeout_s"] = timeout_s = fields.length("timeout", request.timeout)
        if not 0 < timeout_s <= TIMEOUT_S_MAX:
            fields.refuse("timeout", "must be more than 0 and at most ten years")
    if request.HasField("retry"):
        delay_s = fields.length("retry.delay", request.retry.delay)
        if not 0 <= request.retry.count <= RETRIES_MAX:
            fields.refuse("retry.count", f"must be 0 to {RETRIES_MAX:,}")
        if delay_s > TIMEOUT_S_MAX:
            fields.refuse("retry.delay", "must be at most ten years")
        if request.retry.count:
            terms["retry"] = {"count": request.retry.count, "delay_s": delay_s}
    if fields.text("target", request.target, TARGET_LENGTH):
        terms["target"] = request.target
        try:
            parse_target(request.target)
        except UnfitTarget as error:
            fields.refuse("target", str(error))
    return terms


def _standalone(call: Call[RunRequest], plan: RunPlan, batch: Batch) -> ExecutionCreated:
    """Return the execution that carries the action."""
    request = call.request
    given = hide_members(Value(data=plan.input), request.secrets, batch.lookups.ciphers.of(request.namespace))
    params: dict[str, object] = {"action": request.action, "input": given.data, **plan.terms}
    return ExecutionCreated(
        execution_id=new_execution_id(batch.given),
        definition_id="",
        workflow="",
        namespace=request.namespace,
        language="",
        params=Value(data=params),
        labels=dict(request.labels),
        safe_rerun=request.safe_to_rerun if request.HasField("safe_to_rerun") else None,
        at_s=batch.at_s,
        actor=call.actor,
        comment=request.comment,
    )


def _input_violations(action: ActionDescription | AdHocAction, given: dict[str, object]) -> list[Violation]:
    if isinstance(action, ActionDescription):
        action = action.fitting(given)
    parameters = action.parameters if isinstance(action, ActionDescription) else action.input
    accepts_any = isinstance(action, ActionDescription) and action.accepts_any
    names = {each.name for each in parameters}
    wrong = [
        Violation(f"input.{each.name}", "is missing") for each in parameters if each.required and each.name not in given
    ]
    if not accepts_any:
        known = f"the action takes {', '.join(sorted(names))}" if names else "the action takes no input"
        wrong += [
            Violation(f"input.{name}", f"is not an input of the action: {known}") for name in given if name not in names
        ]
    return wrong


# CancelAction

CancelRequest = action_service_pb2.CancelActionRequest
CancelResponse = action_service_pb2.CancelActionResponse


@dataclass(frozen=True, slots=True)
class CancelPlan:
    """The attempt to cancel."""

    execution_id: str
    key: AttemptKey


class CancelAction(Operation[CancelRequest, CancelPlan, CancelResponse]):
    """See CancelAction in action_service.proto."""

    def check(self, call: Call[CancelRequest], batch: Batch) -> CancelPlan:
        fields = check_repeatable(call.request)
        execution_id, (task, item, attempt) = fields.numbered_id(
            "action_execution_id", call.request.action_execution_id, 3
        )
        fields.done()
        return CancelPlan(execution_id, (task, item, attempt))

    def claims(self, call: Call[CancelRequest], plan: CancelPlan) -> Collection[str]:
        return (plan.execution_id,)

    def identity(self, call: Call[CancelRequest], plan: CancelPlan, batch: Batch) -> RequestIdentity | None:
        request_id = call.request.request_id
        return RequestIdentity(request_id, namespaces_of(plan.execution_id, batch)) if request_id else None

    def carry_out(self, call: Call[CancelRequest], plan: CancelPlan, batch: Batch) -> Answer[CancelResponse]:
        name = attempt_id(plan.execution_id, plan.key)
        execution = batch.open(plan.execution_id).copy.execution if batch.exists(plan.execution_id) else None
        attempt = execution.attempts.get(plan.key) if execution is not None else None
        if execution is None or attempt is None or attempt.runs_workflow:
            raise NotFound("action execution", name)
        is_alone = not execution.created.workflow
        if attempt.state not in COMPLETED_ATTEMPT or (is_alone and not execution.is_completed):
            reason = call.request.comment or "cancelled"
            event: Event = CancelRequested(actor=call.actor, comment=reason, terminate=ForcedEnd.CANCELLED)
            if not is_alone:
                event = TaskDone(
                    key=plan.key,
                    outcome=TaskOutcome.CANCELLED,
                    delivery=attempt.delivery,
                    error=reason,
                    actor=call.actor,
                    comment=call.request.comment,
                )
                if attempt.is_active:
                    command = CancelCommand(plan.key, attempt.delivery, attempt.session_id)
                    batch.outbox.cancels.append(Cancel(attempt.session_id, plan.execution_id, command, reason))
            batch.step(plan.execution_id, event)
        elif attempt.state is not AttemptState.CANCELLED:
            raise Refused.of(f"action execution {name}", f"has ended already: {attempt.state}")
        response = CancelResponse()
        shown = ShownAction(plan.execution_id, plan.key, response.action_execution)
        return Answer(response, shown, (resource_of(execution),))
