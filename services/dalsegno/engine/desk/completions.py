"""Reports of third parties on an action execution: it has ended, is paused, or runs again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol, TypeVar

from dalsegno.engine.batches.answers import Answer, Response, ShownAction
from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.batches.inquiries import apply_answer, is_other_answer
from dalsegno.engine.desk.operations import (
    AnyRequest,
    Call,
    InNamespace,
    Operation,
    RequestIdentity,
    check_in_namespace,
    namespaces_of,
    resource_of,
)
from dalsegno.engine.executors.callbacks import Callbacks
from dalsegno.engine.executors.progress import read_progress, wrong_progress
from dalsegno.engine.executors.reports import ERROR_CHARACTERS_MAX
from dalsegno.rpc import convert
from dalsegno.rpc.convert import Fields
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import execution_pb2
from dalsegno.workflow.events import TaskDone, TaskOutcome, Verdict
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey, attempt_id
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.refusals import InvalidRequest, NotFound, Obstacle, Refused, Violation
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState
from dalsegno.workflow.value import Value

_OUTCOMES = {
    actions.COMPLETION_OUTCOME_SUCCEEDED: TaskOutcome.SUCCEEDED,
    actions.COMPLETION_OUTCOME_FAILED: TaskOutcome.FAILED,
    actions.COMPLETION_OUTCOME_CANCELLED: TaskOutcome.CANCELLED,
}
_PROGRESS = {
    execution_pb2.ACTION_STATE_PAUSED: TaskOutcome.PAUSED,
    execution_pb2.ACTION_STATE_RUNNING: TaskOutcome.RUNNING,
}


@dataclass(frozen=True, slots=True)
class ReportPlan:
    """A report on an attempt."""

    execution_id: str
    key: AttemptKey
    delivery: int | None
    """None: the present delivery."""
    outcome: TaskOutcome
    result: Value | None = None
    error: str = ""


class NamesAction(AnyRequest, Protocol):
    """A request that names an action execution by its id, its token or its alias."""

    action_execution_id: str
    task_token: str
    alias: str
    namespace: str


class ReportsAction(NamesAction, InNamespace, Protocol):
    """A request that reports on an action execution."""


ActionRequest = TypeVar("ActionRequest", bound=NamesAction)
ReportRequest = TypeVar("ReportRequest", bound=ReportsAction)
ReportResponse = TypeVar("ReportResponse", bound=actions.CompleteActionResponse | actions.UpdateActionResponse)


class OnAction(Operation[ActionRequest, ReportPlan, Response]):
    """An operation on an action execution."""

    def __init__(self, callbacks: Callbacks) -> None:
        self._callbacks = callbacks

    def find(self, fields: Fields, request: NamesAction, batch: Batch) -> tuple[str, AttemptKey, int | None]:
        """Find the attempt, and its delivery if the token names one.

        Raises InvalidRequest with everything that is wrong, NotFound, Refused and PermissionDenied.
        """
        if sum(map(bool, (request.action_execution_id, request.task_token, request.alias))) != 1:
            fields.refuse("task_token", "give either it, or action_execution_id, or alias")
        named = ("", (0, 0, 0))
        if request.action_execution_id and not (request.task_token or request.alias):
            execution_id, (task, item, attempt) = fields.numbered_id(
                "action_execution_id", request.action_execution_id, 3
            )
            named = execution_id, (task, item, attempt)
        fields.done()
        if request.task_token:
            return self._callbacks.tokens.read(request.task_token)
        if request.alias:
            named = _find_alias(request.alias, request.namespace, batch)
        return (*named, None)

    def claims(self, call: Call[ActionRequest], plan: ReportPlan) -> Collection[str]:
        return (plan.execution_id,)

    def attempt(self, request: NamesAction, plan: ReportPlan, batch: Batch) -> tuple[Execution, Attempt]:
        """Return the attempt and its execution, once the signature is checked that the attempt has asked for.

        An id needs no signature; before the attempt is delegated, nothing needs one (P26). Raises NotFound,
        InvalidRequest, SignatureMissing and SignatureInvalid.
        """
        name = attempt_id(plan.execution_id, plan.key)
        execution, attempt = _attempt(plan, batch, name)
        if attempt.signature and not request.action_execution_id:
            delivery = attempt.delivery if plan.delivery is None else plan.delivery
            self._callbacks.signing_keys.check(
                name, delivery, attempt.signature, _signed(request), batch.at_s - batch.shift_s
            )
        return execution, attempt


class Report(OnAction[ReportRequest, ReportResponse]):
    """A report on an action execution, which is an event of its execution."""

    def identity(self, call: Call[ReportRequest], plan: ReportPlan, batch: Batch) -> RequestIdentity | None:
        request_id = call.request.request_id
        return RequestIdentity(request_id, namespaces_of(plan.execution_id, batch)) if request_id else None

    def report(
        self, call: Call[ReportRequest], plan: ReportPlan, batch: Batch, response: ReportResponse
    ) -> Answer[ReportResponse]:
        """Step the execution with the report. Raises NotFound, InvalidRequest and Refused."""
        name = attempt_id(plan.execution_id, plan.key)
        execution, attempt = self.attempt(call.request, plan, batch)
        event = TaskDone(
            key=plan.key,
            outcome=plan.outcome,
            # An id means the present delivery. With its number an exact repeat is recognized.
            delivery=attempt.delivery if plan.delivery is None else plan.delivery,
            actor=call.actor,
            comment=call.request.comment,
            result=plan.result,
            error=plan.error,
        )
        if is_other_answer(execution, event, batch.outside):
            raise Refused.of(f"action execution {name}", f"has ended already: {attempt.state}, with another result")
        if not attempt.delegated:  # the third party may be faster than the executor's report (P26)
            event = apply_answer(execution, event, batch.outside)
        verdict = batch.step(plan.execution_id, event).verdict
        if verdict is Verdict.SUPERSEDED:
            is_same = attempt.delivery == event.delivery
            reason = f"has ended already: {attempt.state}" if is_same else "was handed out again"
            raise Refused.of(f"action execution {name}", reason)
        shown = ShownAction(plan.execution_id, plan.key, response.action_execution)
        return Answer(response, shown, (resource_of(execution),))


def _attempt(plan: ReportPlan, batch: Batch, name: str) -> tuple[Execution, Attempt]:
    """Return the attempt and its execution. Raises NotFound and InvalidRequest."""
    if not batch.exists(plan.execution_id):
        raise NotFound("action execution", name)
    execution = batch.open(plan.execution_id).copy.execution
    attempt = execution.attempts.get(plan.key)
    if attempt is None:
        raise NotFound("action execution", name)
    if attempt.runs_workflow:
        named = attempt.child_id or "one of the execution that this one was forked from"
        raise InvalidRequest.of("action_execution_id", f"names an execution of a workflow: {named}")
    return execution, attempt


def _signed(request: NamesAction) -> execution_pb2.SignedBody | None:
    """Return the signed callback of a request; None if it has none."""
    if isinstance(
        request, actions.CompleteActionRequest | actions.UpdateActionRequest | actions.HeartbeatActionRequest
    ):
        return request.signed if request.HasField("signed") else None
    return None


def _hear(plan: ReportPlan, attempt: Attempt, batch: Batch) -> None:
    """Store that the third party was heard, if it must be: no event, no change and no journal entry."""
    if attempt.heartbeat_timeout_s is not None:
        batch.transaction.save_heartbeat(plan.execution_id, plan.key, batch.at_s)


def _find_alias(alias: str, namespace: str, batch: Batch) -> tuple[str, AttemptKey]:
    """Return the attempt that waits under this alias, otherwise the last one that did. Raises NotFound and Refused."""
    found = batch.transaction.queries.aliased_attempts(alias, namespace)
    if not found:
        raise NotFound("alias", alias)
    waiting = [each for each in found if each.state not in COMPLETED_ATTEMPT]
    if len(waiting) > 1:
        ids = [attempt_id(each.execution_id, each.key) for each in waiting]
        raise Refused([Violation(f"action execution {id}", f"waits as {alias!r}", Obstacle.ALIAS) for id in ids])
    return found[0].execution_id, found[0].key


class CompleteAction(Report[actions.CompleteActionRequest, actions.CompleteActionResponse]):
    """See CompleteAction in action_service.proto."""

    def check(self, call: Call[actions.CompleteActionRequest], batch: Batch) -> ReportPlan:
        request = call.request
        fields = check_in_namespace(request)
        if request.outcome not in _OUTCOMES:
            fields.refuse("outcome", "must be SUCCEEDED, FAILED or CANCELLED")
        fields.text("error", request.error, ERROR_CHARACTERS_MAX)
        if request.error and request.outcome == actions.COMPLETION_OUTCOME_SUCCEEDED:
            fields.refuse("error", "goes with FAILED and CANCELLED only")
        result = fields.json("result", request.result) if request.result else None
        attempt = self.find(fields, request, batch)
        return ReportPlan(*attempt, _OUTCOMES[request.outcome], result, request.error)

    def carry_out(
        self, call: Call[actions.CompleteActionRequest], plan: ReportPlan, batch: Batch
    ) -> Answer[actions.CompleteActionResponse]:
        return self.report(call, plan, batch, actions.CompleteActionResponse())


class UpdateAction(Report[actions.UpdateActionRequest, actions.UpdateActionResponse]):
    """See UpdateAction in action_service.proto."""

    def check(self, call: Call[actions.UpdateActionRequest], batch: Batch) -> ReportPlan:
        request = call.request
        fields = check_in_namespace(request)
        if request.state not in _PROGRESS:
            fields.refuse("state", "must be PAUSED or RUNNING")
        return ReportPlan(*self.find(fields, request, batch), _PROGRESS[request.state])

    def carry_out(
        self, call: Call[actions.UpdateActionRequest], plan: ReportPlan, batch: Batch
    ) -> Answer[actions.UpdateActionResponse]:
        answer = self.report(call, plan, batch, actions.UpdateActionResponse())
        _hear(plan, _attempt(plan, batch, "")[1], batch)
        return answer


class HeartbeatAction(OnAction[actions.HeartbeatActionRequest, actions.HeartbeatActionResponse]):
    """See HeartbeatAction in action_service.proto. It is no event and changes no execution."""

    def check(self, call: Call[actions.HeartbeatActionRequest], batch: Batch) -> ReportPlan:
        fields = Fields()
        fields.text("namespace", call.request.namespace)
        for name, fault in wrong_progress(call.request.progress):
            fields.refuse(f"progress.{name}", fault)
        return ReportPlan(*self.find(fields, call.request, batch), TaskOutcome.RUNNING)

    def identity(
        self, call: Call[actions.HeartbeatActionRequest], plan: ReportPlan, batch: Batch
    ) -> RequestIdentity | None:
        return None

    def carry_out(
        self, call: Call[actions.HeartbeatActionRequest], plan: ReportPlan, batch: Batch
    ) -> Answer[actions.HeartbeatActionResponse]:
        name = attempt_id(plan.execution_id, plan.key)
        _, attempt = self.attempt(call.request, plan, batch)
        if attempt.state in COMPLETED_ATTEMPT:
            raise Refused.of(f"action execution {name}", f"has ended already: {attempt.state}")
        if plan.delivery not in (None, attempt.delivery):
            raise Refused.of(f"action execution {name}", "was handed out again")
        if attempt.state is AttemptState.READY:
            raise Refused.of(f"action execution {name}", "has not been handed out: nobody works on it")
        if call.request.HasField("progress"):
            progress = read_progress(call.request.progress, attempt.delivery, batch.at_s)
            batch.progress[plan.execution_id, plan.key] = progress
        _hear(plan, attempt, batch)
        return Answer(actions.HeartbeatActionResponse(state=convert.action_state(attempt.state.value)))
