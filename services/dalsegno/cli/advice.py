"""What to do next with an execution: which of three kinds a pause is, and how to continue after a failure."""

from __future__ import annotations

from enum import Enum, auto

from dalsegno.cli.clean import word
from dalsegno.cli.connection import DEFAULT_SERVER, at_server
from dalsegno.cli.reads import PAUSES, ExecutionStatus
from dalsegno.cli.times import due
from dalsegno.cli.waits import questions_of
from dalsegno.v1 import execution_pb2

_NAMED = 3
"""The number of failed tasks that an advice names at most."""


class Pause(Enum):
    """Why an execution is PAUSED."""

    ASKED = auto()
    """A user or the workflow asked for it: it continues after a resume."""
    FAILED = auto()
    """Tasks have failed: a user chooses how it continues."""
    ANSWER = auto()
    """One of its actions waits for a third party: it continues when that one has answered."""


def pause_of(status: ExecutionStatus) -> Pause | None:
    """Return why it is PAUSED or PAUSING; None when it is not."""
    execution = status.execution
    if execution.state not in PAUSES:
        return None
    if status.failed and not status.is_paused_by_request:
        return Pause.FAILED
    if execution.HasField("paused_at"):
        return Pause.ASKED
    has_delegate = any(each.delegated for each in status.actions)
    if not status.is_paused_by_request and not execution.state_info and has_delegate:
        return Pause.ANSWER
    return Pause.ASKED


def advise(status: ExecutionStatus, server: str = DEFAULT_SERVER) -> list[str]:
    """Return the next steps, the most likely one first; empty for an execution that runs or has succeeded."""
    execution, at = status.execution, at_server(server)
    answers = [_answer(each, at) for each in status.open_questions()[:_NAMED]]
    listed = f"dalsegno checkpoints {execution.id}{at}"
    match pause_of(status):
        case Pause.FAILED:
            failed = list(dict.fromkeys(each.name for each in status.failed))
            again = "".join(f" --task {word(name)}" for name in failed[:_NAMED]) or " --task TASK"
            first = word(failed[0]) if failed else "TASK"
            return [
                f"run what failed again: dalsegno resume {execution.id}{again}{at}",
                f"or continue after it: dalsegno resume {execution.id} --skip {first} --result JSON{at}",
                *answers,
            ]
        case Pause.ANSWER if answers:
            return answers
        case Pause.ANSWER:
            open_ids = [each.id for each in status.actions if each.delegated]
            return [f"complete what it waits for: dalsegno action complete {open_ids[0]} --result JSON{at}"]
        case Pause.ASKED:
            if execution.HasField("next_at"):
                return [f"it continues by itself {due(execution.next_at)}; at once: dalsegno resume {execution.id}{at}"]
            others = [f"or go to another checkpoint: {listed}"] if execution.HasField("paused_at") else []
            return [f"continue it: dalsegno resume {execution.id}{at}", *others, *answers]
        case _:
            pass
    if execution.state == execution_pb2.EXECUTION_STATE_REVERT_ERROR:
        return [
            f"what could not be undone: dalsegno tasks {execution.id} --filter state=REVERT_ERROR{at}",
            f"run those reverts again: dalsegno resume {execution.id}{at}",
            f"or leave one as it is: dalsegno resume {execution.id} --skip TASK --result null{at}",
        ]
    if execution.state == execution_pb2.EXECUTION_STATE_REVERTED:
        return [f"go on: dalsegno goto {execution.id} NAME --resume{at}", f"the names: {listed}"]
    if execution.state == execution_pb2.EXECUTION_STATE_ERROR:
        return [
            f"what failed: dalsegno tasks {execution.id} --filter state=ERROR{at}",
            f"run that again: dalsegno rerun {execution.id} --failed{at}",
        ]
    return answers


def _answer(action: execution_pb2.ActionExecution, at: str) -> str:
    fields = "".join(
        f" {word(each.name)}={word(each.kind or 'value').upper()}"
        for each in questions_of(action.action, action.input)
        if each.required
    )
    return f"answer it: dalsegno answer {action.id}{fields or ' name=VALUE'}{at}"
