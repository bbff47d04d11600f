"""Answers of third parties to the question of an action: checked by a schema, and made the action's result.

The description of an action says whether and how it asks: `answer_schema` names the parameter with the schema,
`answer_key` is the key of the answer in the result, which also contains all parameters.
"""

from __future__ import annotations

import msgspec

from dalsegno.expressions.pool_client import check_in_pool
from dalsegno.workflow.events import TaskDone, TaskOutcome
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.model import ActionDescription
from dalsegno.workflow.outside import Surroundings
from dalsegno.workflow.refusals import InvalidRequest, Violation
from dalsegno.workflow.scope import Constant, EvaluationError
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState
from dalsegno.workflow.value import NULL, Value, encode


def apply_answer(execution: Execution, event: TaskDone, surroundings: Surroundings) -> TaskDone:
    """Return the event with the action's result in place of the answer.

    Raises InvalidRequest with a violation for each wrong field when the answer does not fit.
    """
    attempt = execution.attempts.get(event.key)
    if event.outcome is not TaskOutcome.SUCCEEDED or attempt is None or attempt.state in COMPLETED_ATTEMPT:
        return event
    if event.delivery not in (None, attempt.delivery):
        return event  # it will be superseded
    action = surroundings.find_action(attempt.action, execution.created.namespace)
    if not isinstance(action, ActionDescription):
        return event
    action = action.of_digest(attempt.digest)
    if not (action.answer_schema or action.answer_key):
        return event
    asked: dict[str, object] = {
        each.name: each.default.value for each in action.parameters if isinstance(each.default, Constant)
    }
    shown_only = asked.get(action.answer_schema)  # the default shows only what an answer may look like
    if isinstance(attempt.input.data, dict):
        asked.update(attempt.input.data)
    answer = (event.result or NULL).data
    schema = asked.get(action.answer_schema)
    if schema is not None and schema != shown_only:
        _check(schema, answer)
    if not action.answer_key:
        return event
    result = {name: value for name, value in asked.items() if value is not None}
    return msgspec.structs.replace(event, result=Value(data={**result, action.answer_key: answer}))


def is_other_answer(execution: Execution, event: TaskDone, surroundings: Surroundings) -> bool:
    """Return whether the action has already succeeded with a different answer, so that this one would be lost
    silently."""
    attempt = execution.attempts.get(event.key)
    if attempt is None or attempt.state is not AttemptState.SUCCESS or event.delivery not in (None, attempt.delivery):
        return False
    if event.outcome is not TaskOutcome.SUCCEEDED or event.result is None or attempt.adhoc:
        return False  # the result of an ad-hoc action is made from the answer
    before = (attempt.result or NULL).data
    action = surroundings.find_action(attempt.action, execution.created.namespace)
    if isinstance(action, ActionDescription) and isinstance(before, dict):
        answer_key = action.of_digest(attempt.digest).answer_key
        before = before.get(answer_key) if answer_key else before
    return encode(before) != encode(event.result.data)


def _check(schema: object, answer: object) -> None:
    try:
        problems = check_in_pool(schema, answer)
    except EvaluationError as error:
        raise InvalidRequest.of("result", f"cannot be checked: {error}") from None
    if problems:
        raise InvalidRequest([Violation(f"result{place}", text) for place, text in problems])
