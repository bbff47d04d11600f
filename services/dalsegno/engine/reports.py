"""What executors say, from the wire: Hello and TaskDone, checked, and the acknowledgement of the latter."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping

from dalsegno.engine.outside import write_description
from dalsegno.engine.sessions import Delivery, Greeting
from dalsegno.rpc import convert
from dalsegno.rpc.gate import wrong_fields
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.events import TaskDone
from dalsegno.workflow.identity import parse_attempt_id
from dalsegno.workflow.model import ActionDescription, Parameter
from dalsegno.workflow.refusals import InvalidRequest, Violation
from dalsegno.workflow.scope import Constant
from dalsegno.workflow.value import VALUE_BYTES_MAX, UnfitValue, Value, byte_length, checked

ERROR_CHARACTERS_MAX = 65_536
NAME_CHARACTERS_MAX = 255

_NAME = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")

_OUTCOMES: dict[int, str] = {
    wire.TASK_OUTCOME_SUCCEEDED: "succeeded",
    wire.TASK_OUTCOME_FAILED: "failed",
    wire.TASK_OUTCOME_CANCELLED: "cancelled",
    wire.TASK_OUTCOME_DELEGATED: "delegated",
    wire.TASK_OUTCOME_PAUSED: "paused",
    wire.TASK_OUTCOME_RUNNING: "running",
}

_VERDICTS: dict[str, wire.AckVerdict.ValueType] = {
    "accepted": wire.ACK_VERDICT_ACCEPTED,
    "duplicate": wire.ACK_VERDICT_DUPLICATE,
    "superseded": wire.ACK_VERDICT_SUPERSEDED,
    "refused": wire.ACK_VERDICT_REFUSED,
}


def read_report(told: wire.TaskDone) -> tuple[str, TaskDone]:
    """The execution and the event of an outcome. One that cannot be kept as it is told is a failure that says why.

    Raises ValueError when the outcome is not well formed.
    """
    wrong = {violation.subject: violation.description for violation in wrong_fields(told)}
    if "action_execution_id" in wrong:
        raise ValueError(f"the id {wrong['action_execution_id']}")
    execution_id, key = parse_attempt_id(told.action_execution_id)
    outcome = _OUTCOMES.get(told.outcome)
    if outcome is None:
        raise ValueError("it says no outcome")
    if told.delivery < 1:
        raise ValueError("it names no delivery")
    result: Value | None = None
    error = told.error
    try:
        result = _read_result(told, wrong)
    except UnfitValue as unfit:
        outcome, error = "failed", str(unfit)
    waits = outcome == "delegated"
    return execution_id, TaskDone(
        key=key,
        outcome=outcome,
        delivery=told.delivery,
        result=result,
        error=error[:ERROR_CHARACTERS_MAX],
        alias=told.alias if waits else "",
        completion_timeout_s=max(0.0, convert.length_s(told.completion_timeout))
        if waits and told.HasField("completion_timeout")
        else None,
    )


def _read_result(told: wire.TaskDone, wrong: Mapping[str, str]) -> Value | None:
    """The result. Raises UnfitValue, which says what of the outcome cannot be kept; `wrong` is what the gate found."""
    if "error" in wrong:
        shown = told.error.replace("\0", "\\0")
        raise UnfitValue(f"the error of the action {wrong['error']}: {shown}")
    for field in ("result", "alias", "completion_timeout"):
        if field in wrong:
            raise UnfitValue(f"the {field} {wrong[field]}")
    if len(told.alias) > NAME_CHARACTERS_MAX:
        raise UnfitValue(f"the alias is too long: at most {NAME_CHARACTERS_MAX} characters")
    if not told.result:
        return None
    try:
        return checked(told.result)
    except UnfitValue as unfit:
        is_too_large = byte_length(told.result) > VALUE_BYTES_MAX
        raise UnfitValue(f"result {unfit}" if is_too_large else f"result unfit: {unfit}") from None


def ack_of(action_execution_id: str, delivery: int, verdict: str, reason: str = "") -> wire.Ack:
    """The acknowledgement of an outcome."""
    return wire.Ack(
        action_execution_id=action_execution_id, delivery=delivery, verdict=_VERDICTS[verdict], reason=reason
    )


def read_greeting(hello: wire.Hello, peer: str = "") -> Greeting:
    """A Hello from this address, checked. Raises InvalidRequest with all that is wrong."""
    wrong = wrong_fields(hello, "hello")
    if not 1 <= len(hello.executor_id) <= NAME_CHARACTERS_MAX:
        wrong.append(Violation("hello.executor_id", f"must have 1 to {NAME_CHARACTERS_MAX} characters"))
    try:
        uuid.UUID(hello.session_id)
    except ValueError:
        wrong.append(Violation("hello.session_id", "must be a UUID in text form"))
    if hello.slots < 1:
        wrong.append(Violation("hello.slots", "must be at least 1"))
    if hello.credit < 0:
        wrong.append(Violation("hello.credit", "must not be negative"))
    descriptions: dict[str, str] = {}
    for index, action in enumerate(hello.actions):
        place = f"hello.actions[{index}]"
        if not _NAME.fullmatch(action.name) or len(action.name) > NAME_CHARACTERS_MAX:
            wrong.append(Violation(f"{place}.name", "must be a word, or words joined by dots"))
        if action.answer_schema and action.answer_schema not in {each.name for each in action.parameters}:
            wrong.append(Violation(f"{place}.answer_schema", "must be one of its parameters"))
        try:
            descriptions[action.name] = write_description(_description(action))
        except UnfitValue as unfit:
            wrong.append(Violation(f"{place}.parameters", str(unfit)))
    in_flight: set[Delivery] = set()
    for index, reference in enumerate(hello.in_flight):
        try:
            in_flight.add((*parse_attempt_id(reference.action_execution_id), reference.delivery))
        except ValueError:
            wrong.append(Violation(f"hello.in_flight[{index}]", "is not the id of an action execution"))
    if wrong:
        raise InvalidRequest(wrong)
    return Greeting(
        executor_id=hello.executor_id,
        session_id=hello.session_id,
        descriptions=descriptions,
        slots=hello.slots,
        labels=dict(hello.labels),
        in_flight=frozenset(in_flight),
        peer=peer,
    )


def _description(told: wire.ActionDescription) -> ActionDescription:
    parameters = tuple(
        Parameter(each.name, each.required, Constant(checked(each.default).data) if each.default else None)
        for each in told.parameters
    )
    return ActionDescription(
        told.name,
        parameters,
        told.accepts_any,
        told.safe_to_rerun,
        told.description,
        answer_schema=told.answer_schema,
        answer_key=told.answer_key,
    )
