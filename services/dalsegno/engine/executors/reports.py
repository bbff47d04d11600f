"""The messages of executors: reads and checks Hello and TaskDone, and writes acknowledgements."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from dalsegno.engine.executors.progress import wrong_progress
from dalsegno.engine.executors.sessions import Delivery, Greeting
from dalsegno.engine.executors.signatures import SCHEMES
from dalsegno.rpc import convert
from dalsegno.rpc.field_checks import wrong_fields
from dalsegno.rpc.sizes import shortened
from dalsegno.store.descriptions import write_description
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.workflow.events import TaskDone, TaskOutcome, Verdict
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.model import ActionDescription, Parameter
from dalsegno.workflow.refusals import InvalidRequest, Violation
from dalsegno.workflow.scope import Constant
from dalsegno.workflow.value import VALUE_BYTES_MAX, UnfitValue, Value, byte_length, checked

ERROR_CHARACTERS_MAX = 65_536
ERROR_SHOWN = 4_096
"""How many characters are kept of the error of a refused outcome."""
NAME_CHARACTERS_MAX = 255
ID_BYTES_SHOWN = 1_000
DESCRIPTION_BYTES_MAX = 1_000_000
"""The limit for the description of one action, in bytes. It fits into every answer."""

_NAME = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*")
_ID = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\.([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})"
)

# A lookup of a member in its class is slow, and every report needs this.
_SUCCEEDED = TaskOutcome.SUCCEEDED

_OUTCOMES: dict[int, TaskOutcome] = {
    wire.TASK_OUTCOME_SUCCEEDED: TaskOutcome.SUCCEEDED,
    wire.TASK_OUTCOME_FAILED: TaskOutcome.FAILED,
    wire.TASK_OUTCOME_CANCELLED: TaskOutcome.CANCELLED,
    wire.TASK_OUTCOME_DELEGATED: TaskOutcome.DELEGATED,
    wire.TASK_OUTCOME_PAUSED: TaskOutcome.PAUSED,
    wire.TASK_OUTCOME_RUNNING: TaskOutcome.RUNNING,
}

_SECONDS_OF_A_YEAR = 366 * 86_400

_OF_DELEGATES = ("alias", "completion_timeout", "heartbeat_timeout", "signature")

_VERDICTS: dict[Verdict, wire.AckVerdict.ValueType] = {
    Verdict.ACCEPTED: wire.ACK_VERDICT_ACCEPTED,
    Verdict.DUPLICATE: wire.ACK_VERDICT_DUPLICATE,
    Verdict.SUPERSEDED: wire.ACK_VERDICT_SUPERSEDED,
    Verdict.REFUSED: wire.ACK_VERDICT_REFUSED,
}


class UnfitReport(Exception):
    """An outcome violates the contract and is refused. The text says why.

    `about`: the attempt that it ends anyway, because no other report follows. None: it ends nothing.
    """

    def __init__(self, reason: str, about: tuple[str, AttemptKey] | None = None, error: str = "") -> None:
        super().__init__(reason)
        self.about = about
        self.error = error or reason
        """The error of the attempt."""


def read_place(report: wire.TaskDone) -> tuple[str, AttemptKey] | None:
    """Return the execution id and the key that an outcome is about; None: its id cannot be read, so it is about
    nothing."""
    try:
        return _read_id(report, {violation.subject: violation.description for violation in wrong_fields(report)})
    except UnfitReport:
        return None


def read_report(report: wire.TaskDone) -> tuple[str, TaskDone]:
    """Return the execution id and the event of an outcome. Raises UnfitReport with everything that is wrong."""
    return read_plain_report(report) or check_report(report)


def check_report(report: wire.TaskDone) -> tuple[str, TaskDone]:
    """Do what `read_report` does for reports of all kinds."""
    wrong = {violation.subject: violation.description for violation in wrong_fields(report)}
    execution_id, key = _read_id(report, wrong)
    outcome = _OUTCOMES.get(report.outcome)
    faults = list(_faults(report, outcome, wrong))
    result = _read_result(report, wrong, faults)
    if faults:
        reason = "; ".join(faults)
        goes_on = outcome in (TaskOutcome.PAUSED, TaskOutcome.RUNNING)  # then another report follows
        raise UnfitReport(reason, None if goes_on else (execution_id, key), _failure(report, reason))
    assert outcome is not None, "else it is among the faults"
    return execution_id, TaskDone(
        key=key,
        outcome=outcome,
        delivery=report.delivery,
        result=result,
        error=report.error,
        alias=report.alias,
        completion_timeout_s=_length_s(report, "completion_timeout"),
        heartbeat_timeout_s=_length_s(report, "heartbeat_timeout"),
        signature=SCHEMES[report.signature],
    )


def read_plain_report(report: wire.TaskDone) -> tuple[str, TaskDone] | None:
    """Return the execution id and the event of a success that has nothing but a result; None: a report of another kind.

    Nearly all outcomes are of this kind. This takes a fifth of the time of `check_report`, and accepts nothing that
    `check_report` refuses.
    """
    # Each attribute of a message is read once, because each time makes a new object.
    named, delivery = _ID.fullmatch(report.action_execution_id), report.delivery
    if named is None or report.outcome != wire.TASK_OUTCOME_SUCCEEDED or delivery < 1:
        return None
    if report.error or report.alias or report.signature or report.HasField("progress"):
        return None
    if report.HasField("completion_timeout") or report.HasField("heartbeat_timeout"):
        return None
    elapsed = report.elapsed
    if not (0 <= elapsed.seconds < _SECONDS_OF_A_YEAR and 0 <= elapsed.nanos < 1_000_000_000):
        return None
    try:
        result = checked(text) if (text := report.result) else None
    except UnfitValue:
        return None
    execution_id, task, item, attempt = named.groups()
    key = int(task), int(item), int(attempt)
    return execution_id, TaskDone(key=key, outcome=_SUCCEEDED, delivery=delivery, result=result)


def _length_s(report: wire.TaskDone, name: Literal["completion_timeout", "heartbeat_timeout"]) -> float | None:
    return convert.length_s(getattr(report, name)) if report.HasField(name) else None


def _read_id(report: wire.TaskDone, wrong: Mapping[str, str]) -> tuple[str, AttemptKey]:
    if "action_execution_id" in wrong:
        raise UnfitReport(f"action_execution_id {wrong['action_execution_id']}")
    fields = convert.Fields()
    execution_id, numbers = fields.numbered_id("action_execution_id", report.action_execution_id, 3)
    try:
        fields.done()
    except InvalidRequest as error:
        raise UnfitReport(str(error)) from None
    task, item, attempt = numbers
    return execution_id, (task, item, attempt)


def _faults(report: wire.TaskDone, outcome: TaskOutcome | None, wrong: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong with an outcome, except its result."""
    if not outcome:
        yield f"outcome {report.outcome} is unknown to this engine" if report.outcome else "outcome is missing"
    if report.delivery < 1:
        yield "delivery is missing" if not report.delivery else "delivery must be at least 1"
    if "error" in wrong:
        yield f"the error of the action {wrong['error']}"
    elif len(report.error) > ERROR_CHARACTERS_MAX:
        yield f"error has {len(report.error):,} characters; at most {ERROR_CHARACTERS_MAX:,} are allowed"
    if report.error and outcome not in (TaskOutcome.FAILED, TaskOutcome.CANCELLED):
        yield "error goes with FAILED and CANCELLED only"
    if "alias" in wrong:
        yield f"the alias {wrong['alias']}"
    elif len(report.alias) > NAME_CHARACTERS_MAX:
        yield f"alias has {len(report.alias):,} characters; at most {NAME_CHARACTERS_MAX} are allowed"
    if report.signature not in SCHEMES:
        yield f"signature {report.signature} is unknown to this engine"
    if outcome is not TaskOutcome.DELEGATED:
        given = {each.name for each, _ in report.ListFields()}
        yield from (f"{name} goes with DELEGATED only" for name in _OF_DELEGATES if name in given)
    if report.HasField("progress"):
        yield from _progress_faults(report, outcome, wrong)
    for name in ("elapsed", "completion_timeout", "heartbeat_timeout"):
        if name in wrong:
            yield f"{name} {wrong[name]}"
        elif report.HasField(name) and convert.length_s(getattr(report, name)) < 0:
            yield f"{name} is negative"
        elif name == "heartbeat_timeout" and report.HasField(name) and convert.length_s(report.heartbeat_timeout) < 1:
            yield "heartbeat_timeout must be at least 1 s"


def _progress_faults(report: wire.TaskDone, outcome: TaskOutcome | None, wrong: Mapping[str, str]) -> Iterator[str]:
    if outcome is not TaskOutcome.RUNNING:
        yield "progress goes with RUNNING only"
    yield from (f"{name} {fault}" for name, fault in wrong.items() if name.startswith("progress."))
    yield from (f"progress.{name} {fault}" for name, fault in wrong_progress(report.progress))


def _read_result(report: wire.TaskDone, wrong: Mapping[str, str], faults: list[str]) -> Value | None:
    """Return the result. Return None and add a fault if it is wrong."""
    if not report.result:
        return None
    if report.outcome not in (wire.TASK_OUTCOME_SUCCEEDED, wire.TASK_OUTCOME_FAILED):
        faults.append("result goes with SUCCEEDED and FAILED only")
        return None
    if "result" in wrong:
        faults.append(f"the result {wrong['result']}")
        return None
    try:
        return checked(report.result)
    except UnfitValue as unfit:
        is_too_large = byte_length(report.result) > VALUE_BYTES_MAX
        faults.append(f"result {unfit}" if is_too_large else f"result unfit: {unfit}")
        return None


def _failure(report: wire.TaskDone, reason: str) -> str:
    """Return the error of an attempt whose outcome is refused: the reason, and the error in the outcome."""
    error = reason if reason.startswith("result ") else f"its executor sent an invalid report: {reason}"
    if report.error:
        shown = report.error.replace("\0", "\\0")
        error += f"; the error was: {shown[:ERROR_SHOWN]}{'…' * (len(shown) > ERROR_SHOWN)}"
    return error


def ack_of(
    action_execution_id: str, delivery: int, outcome: wire.TaskOutcome.ValueType, verdict: Verdict, reason: str = ""
) -> wire.Ack:
    """Return the acknowledgement of an outcome."""
    return wire.Ack(
        action_execution_id=shortened(action_execution_id, ID_BYTES_SHOWN),
        delivery=delivery,
        verdict=_VERDICTS[verdict],
        reason=reason,
        outcome=outcome,
    )


def read_greeting(hello: wire.Hello, peer: str = "", principal: str = "") -> Greeting:
    """Check a Hello of this caller that comes from this address. Raises InvalidRequest with everything that is
    wrong."""
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
        wrong += _wrong_action(action, place)
        if action.name in descriptions:
            wrong.append(Violation(f"{place}.name", f"{action.name!r} is described twice"))
        try:
            descriptions[action.name] = written = write_description(_description(action))
        except UnfitValue as unfit:
            wrong.append(Violation(f"{place}.parameters", str(unfit)))
            continue
        if (size := byte_length(written)) > DESCRIPTION_BYTES_MAX:
            wrong.append(Violation(place, f"has {size:,} bytes; at most {DESCRIPTION_BYTES_MAX:,} are allowed"))
    in_flight = _read_in_flight("hello", hello.in_flight, wrong)
    subjects = {each.subject for each in wrong}
    wrong += [each for each in _wrong_labels(hello) if each.subject not in subjects]
    if wrong:
        raise InvalidRequest(wrong)
    return Greeting(
        executor_id=hello.executor_id,
        session_id=hello.session_id,
        descriptions=descriptions,
        slots=hello.slots,
        labels=dict(hello.labels),
        in_flight=in_flight,
        peer=peer,
        answers_inventory=hello.answers_inventory,
        principal=principal,
    )


def read_inventory(inventory: wire.Inventory) -> frozenset[Delivery]:
    """Return what an executor has. Raises InvalidRequest with everything that is wrong."""
    wrong = wrong_fields(inventory, "inventory")
    in_flight = _read_in_flight("inventory", inventory.in_flight, wrong)
    if wrong:
        raise InvalidRequest(wrong)
    return in_flight


def _wrong_labels(hello: wire.Hello) -> list[Violation]:
    fields = convert.Fields()
    fields.labels("hello.labels", hello.labels)
    try:
        fields.done()
    except InvalidRequest as error:
        return list(error.violations)
    return []


def _wrong_action(action: wire.ActionDescription, place: str) -> Iterator[Violation]:
    if not _NAME.fullmatch(action.name) or len(action.name) > NAME_CHARACTERS_MAX:
        yield Violation(f"{place}.name", "must be a word, or words joined by dots")
    names: set[str] = set()
    for index, parameter in enumerate(action.parameters):
        if not parameter.name or parameter.name in names:
            fault = f"{parameter.name!r} is named twice" if parameter.name else "is missing"
            yield Violation(f"{place}.parameters[{index}].name", fault)
        names.add(parameter.name)
    if action.answer_schema and action.answer_schema not in names:
        yield Violation(f"{place}.answer_schema", "must be one of its parameters")


def _read_in_flight(
    place: str, references: Iterable[wire.DeliveryReference], wrong: list[Violation]
) -> frozenset[Delivery]:
    """Return the deliveries that an executor still has. Adds violations for wrong names to `wrong`."""
    in_flight: set[Delivery] = set()
    for index, reference in enumerate(references):
        fields = convert.Fields()
        name = f"{place}.in_flight[{index}].action_execution_id"
        execution_id, (task, item, attempt) = fields.numbered_id(name, reference.action_execution_id, 3)
        try:
            fields.done()
        except InvalidRequest as error:
            wrong += error.violations
        in_flight.add((execution_id, (task, item, attempt), reference.delivery))
    return frozenset(in_flight)


def _description(described: wire.ActionDescription) -> ActionDescription:
    parameters = tuple(
        Parameter(each.name, each.required, Constant(checked(each.default).data) if each.default else None)
        for each in described.parameters
    )
    return ActionDescription(
        described.name,
        parameters,
        described.accepts_any,
        described.safe_to_rerun,
        described.description,
        answer_schema=described.answer_schema,
        answer_key=described.answer_key,
    )
