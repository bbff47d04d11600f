"""What an action did, as the contract says it: results as JSON text, failures in words."""

from __future__ import annotations

from dalsegno.actions.action import ActionCancelled, ActionFailed, Delegated
from dalsegno.rpc import convert
from dalsegno.rpc.field_checks import wrong_fields
from dalsegno.v1.executor_service_pb2 import (
    TASK_OUTCOME_CANCELLED,
    TASK_OUTCOME_DELEGATED,
    TASK_OUTCOME_FAILED,
    TASK_OUTCOME_RUNNING,
    TASK_OUTCOME_SUCCEEDED,
    TaskDone,
    TaskOutcome,
)
from dalsegno.workflow.value import VALUE_BYTES_MAX, UnfitValue, byte_length, checked, encode

ERROR_CHARACTERS_MAX = 65_536
PROGRESS_CHARACTERS_MAX = 1_000

WORDS: dict[TaskOutcome.ValueType, str] = {
    TASK_OUTCOME_SUCCEEDED: "succeeded",
    TASK_OUTCOME_FAILED: "failed",
    TASK_OUTCOME_CANCELLED: "cancelled",
    TASK_OUTCOME_DELEGATED: "delegated",
}


def describe_result(returned: object) -> TaskDone:
    """The outcome of an action that returned. A result that cannot be carried is a failure that says why."""
    if returned is None:
        return TaskDone(outcome=TASK_OUTCOME_SUCCEEDED)
    if isinstance(returned, Delegated):
        return _describe_delegated(returned)
    try:
        return TaskDone(outcome=TASK_OUTCOME_SUCCEEDED, result=_encode(returned))
    except UnfitValue as error:
        return describe_failure(str(error))


def _describe_delegated(delegated: Delegated) -> TaskDone:
    """The outcome of an action that a third party completes. What cannot be sent of it is a failure that says why."""
    try:
        done = TaskDone(outcome=TASK_OUTCOME_DELEGATED, alias=delegated.alias)
        if delegated.completion_timeout_s is not None:
            done.completion_timeout.CopyFrom(convert.duration(delegated.completion_timeout_s))
    except (TypeError, ValueError, OverflowError) as error:
        return describe_failure(f"what the action says of who completes it cannot be sent: {error}")
    for violation in wrong_fields(done):
        return describe_failure(f"the {violation.subject} {violation.description}")
    return done


def describe_exception(action: str, error: BaseException) -> TaskDone:
    """The outcome of an action that raised. Without a traceback: that is for the log."""
    if isinstance(error, ActionCancelled):
        return describe_cancel(str(error) or "cancelled by the action")
    if not isinstance(error, ActionFailed):
        words = str(error) or type(error).__name__
        return describe_failure(f"The action raised an exception [action={action}, msg='{words}']")
    done = describe_failure(str(error))
    if error.result is not None:
        try:
            done.result = _encode(error.result)
        except UnfitValue as unfit:
            done.error = _clean(f"{done.error} (its data is left out: {unfit})")
    return done


def describe_failure(words: str) -> TaskDone:
    return TaskDone(outcome=TASK_OUTCOME_FAILED, error=_clean(words))


def describe_progress(text: str, fraction: float | None) -> TaskDone:
    """That an action runs, and how far it says that it has come."""
    done = TaskDone(outcome=TASK_OUTCOME_RUNNING)
    done.progress.text = _clean(text)[:PROGRESS_CHARACTERS_MAX]
    if fraction is not None:
        done.progress.fraction = fraction
    return done


def describe_cancel(words: str) -> TaskDone:
    return TaskDone(outcome=TASK_OUTCOME_CANCELLED, error=_clean(words))


def _encode(data: object) -> str:
    """The JSON text of a result, proven to be such that every part of the system can carry it. Raises UnfitValue."""
    try:
        text = encode(data)
    except UnfitValue as error:
        raise UnfitValue(f"the result is not JSON: {error}") from None
    except RecursionError:
        raise UnfitValue("the result is not JSON: nested too deeply") from None
    except Exception as error:  # an object's own code may run: a property, a key's __str__
        raise UnfitValue(f"the result is not JSON: {error}") from None
    if (size := byte_length(text)) > VALUE_BYTES_MAX:
        raise UnfitValue(f"result too large: {size:,} bytes, at most {VALUE_BYTES_MAX:,}")
    if "\\u" in text:
        try:
            checked(text)
        except UnfitValue as error:
            raise UnfitValue(f"the result is not JSON: {error}") from None
    return text


def _clean(words: str) -> str:
    """What a protobuf string and a database's text can hold."""
    text = words.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return text if len(text) <= ERROR_CHARACTERS_MAX else text[: ERROR_CHARACTERS_MAX - 1] + "…"
