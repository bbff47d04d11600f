"""What third parties tell of an action execution: how it ended, or that it is paused or runs again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from dalsegno.engine.answers import attempt_message
from dalsegno.engine.batch import Batch
from dalsegno.engine.inquiries import answered, is_other_answer
from dalsegno.engine.reports import ERROR_CHARACTERS_MAX
from dalsegno.engine.requests import Asked, Kind, about_action, check_shared_fields, namespaces_of
from dalsegno.rpc.convert import Fields
from dalsegno.v1 import action_service_pb2 as actions
from dalsegno.v1 import execution_pb2
from dalsegno.workflow.events import TaskDone
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey, attempt_id
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.refusals import InvalidRequest, NotFound, Refused, Violation
from dalsegno.workflow.states import COMPLETED_ATTEMPT

_OUTCOMES = {
    actions.COMPLETION_OUTCOME_SUCCEEDED: "succeeded",
    actions.COMPLETION_OUTCOME_FAILED: "failed",
    actions.COMPLETION_OUTCOME_CANCELLED: "cancelled",
}
_PROGRESS = {
    execution_pb2.ACTION_STATE_PAUSED: "paused",
    execution_pb2.ACTION_STATE_RUNNING: "running",
}


def _find(asked: Asked, fields: Fields, batch: Batch) -> Collection[str]:
    """The execution whose attempt is meant, by id, token or alias. Raises InvalidRequest with all that is wrong."""
    request, memo = asked.request, asked.memo
    given = [bool(request.action_execution_id), bool(request.task_token), bool(request.alias)]
    if sum(given) != 1:
        fields.refuse("task_token", "give either it, or action_execution_id, or alias")
    memo["delivery"] = None
    if sum(given) == 1 and request.action_execution_id:
        execution_id, numbers = fields.numbered_id("action_execution_id", request.action_execution_id, 3)
        memo["execution_id"], memo["key"] = execution_id, numbers
    fields.done()
    if request.task_token:
        memo["execution_id"], memo["key"], memo["delivery"] = asked.tokens.read(request.task_token)
    elif request.alias:
        memo["execution_id"], memo["key"] = _find_alias(request.alias, request.namespace, batch)
    return (memo["execution_id"],)


def _find_alias(alias: str, namespace: str, batch: Batch) -> tuple[str, AttemptKey]:
    """The attempt that waits under this name; when none does, the last one that did. Raises NotFound and Refused."""
    found = batch.transaction.queries.aliased_attempts(alias, namespace)
    if not found:
        raise NotFound("alias", alias)
    waiting = [each for each in found if each.state not in COMPLETED_ATTEMPT]
    if len(waiting) > 1:
        raise Refused(
            [
                Violation(f"action execution {attempt_id(each.execution_id, each.key)}", f"waits as {alias!r}", "ALIAS")
                for each in waiting
            ]
        )
    return found[0].execution_id, found[0].key


def _namespaces(asked: Asked, batch: Batch) -> Sequence[str]:
    return namespaces_of(asked.memo["execution_id"], batch)


def _report(asked: Asked, batch: Batch, outcome: str, **more: Any) -> tuple[Execution, Attempt]:
    """Tell an execution of its attempt. Raises NotFound, InvalidRequest and Refused."""
    request, memo = asked.request, asked.memo
    execution_id, key = memo["execution_id"], memo["key"]
    name = attempt_id(execution_id, key)
    if not batch.exists(execution_id):
        raise NotFound("action execution", name)
    execution = batch.open(execution_id).copy.execution
    attempt = execution.attempts.get(key)
    if attempt is None:
        raise NotFound("action execution", name)
    if attempt.child_id:
        raise InvalidRequest.of("action_execution_id", f"names an execution of a workflow: {attempt.child_id}")
    event = TaskDone(
        key=key,
        outcome=outcome,
        # By id it is whatever delivery there is; said so, an exact repeat is recognized as one.
        delivery=attempt.delivery if memo["delivery"] is None else memo["delivery"],
        actor=asked.actor,
        comment=request.comment,
        **more,
    )
    if is_other_answer(execution, event, batch.outside):
        raise Refused.of(f"action execution {name}", f"has ended already: {attempt.state}, with another result")
    if not attempt.delegated:  # whoever answers may be faster than the executor that says so (P26)
        event = answered(execution, event, batch.outside)
    verdict = batch.step(execution_id, event).verdict
    if verdict == "superseded":
        told = f"has ended already: {attempt.state}" if attempt.delivery == event.delivery else "was handed out again"
        raise Refused.of(f"action execution {name}", told)
    return execution, attempt


# CompleteAction


def _complete_needs(asked: Asked, batch: Batch) -> Collection[str]:
    request = asked.request
    fields = check_shared_fields(request)
    if request.outcome not in _OUTCOMES:
        fields.refuse("outcome", "must be SUCCEEDED, FAILED or CANCELLED")
    fields.text("error", request.error, ERROR_CHARACTERS_MAX)
    if request.error and request.outcome == actions.COMPLETION_OUTCOME_SUCCEEDED:
        fields.refuse("error", "goes with FAILED and CANCELLED only")
    asked.memo["result"] = fields.json("result", request.result) if request.result else None
    return _find(asked, fields, batch)


def _complete(asked: Asked, batch: Batch) -> actions.CompleteActionResponse:
    request = asked.request
    outcome, result = _OUTCOMES[request.outcome], asked.memo["result"]
    told = _report(asked, batch, outcome, result=result, error=request.error)
    return actions.CompleteActionResponse(action_execution=attempt_message(*told))


# UpdateAction


def _update_needs(asked: Asked, batch: Batch) -> Collection[str]:
    fields = check_shared_fields(asked.request)
    if asked.request.state not in _PROGRESS:
        fields.refuse("state", "must be PAUSED or RUNNING")
    return _find(asked, fields, batch)


def _update(asked: Asked, batch: Batch) -> actions.UpdateActionResponse:
    told = _report(asked, batch, _PROGRESS[asked.request.state])
    return actions.UpdateActionResponse(action_execution=attempt_message(*told))


KINDS = {
    "complete_action": Kind(_complete_needs, _complete, about_action, _namespaces),
    "update_action": Kind(_update_needs, _update, about_action, _namespaces),
}
