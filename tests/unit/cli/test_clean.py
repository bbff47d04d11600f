"""The terminal obeys nothing in texts from others, and no line begins with such a text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from dalsegno.cli.clean import one_line, visible
from dalsegno.v1 import execution_pb2, execution_service_pb2
from dalsegno.workflow.refusals import NotFound

Type = Callable[..., Any]

ID = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
HOSTILE = "a\x1b[2J\x9b31m\x07\u202eb\u2028\ufeff\rc"
FORGED = f"{HOSTILE}\nerror: forged\n  next: rm -r /"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def hostile_execution() -> execution_pb2.Execution:
    """Return an execution in which every text is hostile."""
    asked = {"properties": {FORGED: {"type": FORGED, "description": FORGED}}}
    value = json.dumps({"stdout": FORGED, FORGED: [FORGED], "schema": asked, "route": FORGED}, ensure_ascii=False)
    execution = execution_pb2.Execution(
        id=ID,
        workflow=FORGED,
        state_info=FORGED,
        output=value,
        input=value,
        comment=FORGED,
        actor=FORGED,
        description=FORGED,
        waiting_for=[FORGED],
        environment=FORGED,
        state=execution_pb2.EXECUTION_STATE_ERROR,
    )
    execution.labels["team"] = FORGED
    return execution


def answer_all(api: Any) -> None:
    """Let the server answer every read with hostile texts."""
    execution = hostile_execution()
    task = execution_pb2.TaskExecution(
        number=1,
        name=FORGED,
        state_info=FORGED,
        action=FORGED,
        waiting_for=FORGED,
        superseded_by=FORGED,
        comment=FORGED,
        state=execution_pb2.TASK_STATE_ERROR,
        result=execution.output,
    )
    attempt = execution_pb2.ActionExecution(
        id=f"{ID}.1.0.1",
        task_number=1,
        delegated=True,
        attempt=1,
        task_name=FORGED,
        action=FORGED,
        error=FORGED,
        executor_id=FORGED,
        comment=FORGED,
        input=execution.input,
        result=execution.output,
    )
    messages, actions = execution_service_pb2, api.modules["ActionService"]
    api.answer("ListExecutions", messages.ListExecutionsResponse(executions=[execution]))
    api.answer("GetExecution", messages.GetExecutionResponse(execution=execution))
    api.answer("ListTasks", messages.ListTasksResponse(tasks=[task]))
    api.answer("GetTask", messages.GetTaskResponse(task=task))
    api.answer("PauseExecution", messages.PauseExecutionResponse(execution=execution))
    touched = execution_pb2.DryRunTask(name=FORGED, reason=FORGED)
    left = execution_pb2.LeftPaused(execution_id=ID, workflow=FORGED, tasks=[FORGED])
    told = execution_pb2.DryRun(starts=[touched], may_follow=[FORGED], left_paused=[left], state_info=FORGED)
    api.answer("ResumeExecution", messages.ResumeExecutionResponse(dry_run=told))
    api.answer("ListChanges", messages.ListChangesResponse(changes=hostile_changes()))
    api.answer("ListActionExecutions", actions.ListActionExecutionsResponse(action_executions=[attempt]))
    api.answer("GetActionExecution", actions.GetActionExecutionResponse(action_execution=attempt))
    snapshot = messages.WatchExecutionResponse.Snapshot(execution=execution, tasks=[task], last=True)
    batch = messages.WatchExecutionResponse.ChangeBatch(changes=hostile_changes(), waiting_for=[FORGED])
    api.answer(
        "WatchExecution",
        [messages.WatchExecutionResponse(snapshot=snapshot), messages.WatchExecutionResponse(changes=batch)],
    )


def hostile_changes() -> list[Any]:
    """Return one change of each kind that shows a text."""
    from dalsegno.v1 import change_pb2 as made

    failed, value = execution_pb2.ACTION_STATE_ERROR, json.dumps(FORGED, ensure_ascii=False)
    kinds: list[dict[str, Any]] = [
        {"execution_created": made.ExecutionCreated(workflow=FORGED)},
        {"execution_moved": made.ExecutionMoved(state_info=FORGED, state=execution_pb2.EXECUTION_STATE_ERROR)},
        {"task_added": made.TaskAdded(task_name=FORGED, task_number=1)},
        {"task_moved": made.TaskMoved(task_name=FORGED, task_number=1, state_info=FORGED)},
        {"attempt_added": made.AttemptAdded(task_name=FORGED, task_number=1, action=FORGED)},
        {"attempt_moved": made.AttemptMoved(task_name=FORGED, task_number=1, error=FORGED, state=failed)},
        {"published": made.Published(task_name=FORGED, values=value)},
        {"other": made.OtherChange(name=FORGED, detail=value)},
    ]
    return [made.Change(sequence=n + 1, cause=FORGED, comment=FORGED, actor=FORGED, **k) for n, k in enumerate(kinds)]


COMMANDS = [
    *(("list",), ("show", ID), ("tasks", ID), ("history", ID), ("watch", ID), ("inquiries",)),
    *(("output", ID), ("output", f"{ID}.1"), ("output", f"{ID}.1.0")),
    *(("action", "attempts", ID), ("action", "show", f"{ID}.1.0.1")),
    *(("pause", ID), ("resume", ID, "--dry-run"), ("show", ID, "-k", "output")),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("form", ["table", "json", "yaml"])
def test_nothing_from_data_is_an_escape_sequence_or_begins_a_line(
    api: Any, type_command: Type, words: tuple[str, ...], form: str
) -> None:
    """With any texts in an execution, the output has no control character, and no line begins with a text of the
    data."""
    answer_all(api)
    shape = () if words[0] == "watch" else ("-o", form)

    ended = type_command(*words, *shape, "-s", api.address)

    assert ended.out
    for printed in (ended.out, ended.err):
        assert OBEYED.findall(printed) == []
        assert [line for line in printed.splitlines() if line.startswith(("error: forged", "next:"))] == []


@pytest.mark.parametrize("read", [json.loads, yaml.safe_load], ids=["json", "yaml"])
def test_programs_get_the_very_text(api: Any, type_command: Type, read: Callable[[str], Any]) -> None:
    """JSON and YAML escape control characters, so that a program that reads them gets the text unchanged."""
    answer_all(api)

    ended = type_command("show", ID, "-s", api.address, "-o", "json" if read is json.loads else "yaml")

    assert read(ended.out)["workflow"] == FORGED


def test_a_refusal_forges_nothing(api: Any, type_command: Type) -> None:
    """An error message may have several lines, but only the first one begins at the margin."""
    api.answer("GetExecution", NotFound("execution", FORGED))

    ended = type_command("show", ID, "-s", api.address)

    assert OBEYED.findall(ended.err) == []
    assert [line[:6] for line in ended.err.splitlines() if not line.startswith(" ")] == ["error:", "next: "]


def test_one_character_is_shown_for_one() -> None:
    """Each removed character leaves a sign, so that the width stays the same and nothing disappears."""
    assert visible(HOSTILE) == "a␛[2J�31m␇�b��␍c"
    assert one_line("a\tb\nc") == "a b␊c"
    assert len(one_line(FORGED)) == len(FORGED)
