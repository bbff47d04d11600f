"""Make the TaskDone message of an action: results as JSON text, failures as messages."""

from __future__ import annotations

from dalsegno.actions.action import ActionCancelled, ActionFailed, Delegated
from dalsegno.actions.plain import plain
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
from dalsegno.workflow.changes import Signature
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
    """Return the outcome of an action that returned. A result that cannot be sent becomes a failure with the reason."""
    if returned is None:
        return TaskDone(outcome=TASK_OUTCOME_SUCCEEDED)
    if isinstance(returned, Delegated):
        return _describe_delegated(returned)
    try:
        return TaskDone(outcome=TASK_OUTCOME_SUCCEEDED, result=_encode(returned))
    except UnfitValue as error:
        return describe_failure(str(error))


def _describe_delegated(delegated: Delegated) -> TaskDone:
    """Return the outcome of an action that a third party completes; a failure with the reason if it cannot be sent."""
    try:
        scheme = convert.SIGNATURE_SCHEMES[Signature(delegated.signature)]
        done = TaskDone(outcome=TASK_OUTCOME_DELEGATED, alias=delegated.alias, signature=scheme)
        if delegated.completion_timeout_s is not None:
            done.completion_timeout.CopyFrom(convert.duration(delegated.completion_timeout_s))
        if delegated.heartbeat_timeout_s is not None:
            done.heartbeat_timeout.CopyFrom(convert.duration(delegated.heartbeat_timeout_s))
    except (TypeError, ValueError, OverflowError) as error:
        return describe_failure(f"the description of the delegated action cannot be sent: {error}")
    for violation in wrong_fields(done):
        return describe_failure(f"the {violation.subject} {violation.description}")
    return done


def describe_exception(action: str, error: BaseException) -> TaskDone:
    """Return the outcome of an action that raised, without the traceback, which the log has."""
    if isinstance(error, ActionCancelled):
        return describe_cancel(_words_of(error) if error.args else "cancelled by the action")
    if not isinstance(error, ActionFailed):
        words = _words_of(error)
        return describe_failure(f"The action raised an exception [action={action}, msg='{words}']")
    done = describe_failure(_words_of(error))
    if error.result is not None:
        try:
            done.result = _encode(error.result)
        except UnfitValue as unfit:
            done.error = _clean(f"{done.error} (its data is omitted: {unfit})")
    return done


def _words_of(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # code of the exception
        return type(error).__name__


def describe_failure(words: str) -> TaskDone:
    return TaskDone(outcome=TASK_OUTCOME_FAILED, error=_clean(words))


def describe_progress(text: str, fraction: float | None) -> TaskDone:
    """Return the progress report of a running action."""
    done = TaskDone(outcome=TASK_OUTCOME_RUNNING)
    done.progress.text = _clean(text)[:PROGRESS_CHARACTERS_MAX]
    if fraction is not None:
        done.progress.fraction = fraction
    return done


def describe_cancel(words: str) -> TaskDone:
    return TaskDone(outcome=TASK_OUTCOME_CANCELLED, error=_clean(words))


def _encode(data: object) -> str:
    """Return the JSON text of a result that every part of the system can carry. Raises UnfitValue."""
    try:
        try:
            text = encode(data)
        except UnfitValue:
            text = encode(plain(data))
    except UnfitValue as error:
        raise UnfitValue(f"the result is not JSON: {error}") from None
    except RecursionError:
        raise UnfitValue("the result is not JSON: nested too deeply") from None
    except Exception as error:  # code of the object may raise: a property, a key's __str__
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
    """Return the text without what a protobuf string or a database cannot store."""
    text = words.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return text if len(text) <= ERROR_CHARACTERS_MAX else text[: ERROR_CHARACTERS_MAX - 1] + "…"
