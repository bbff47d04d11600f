"""Checkpoints at the command line: what is sent, what is printed, what a watcher sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.unit.cli.conftest import Ended
from tests.unit.cli.test_watching import ID, changes, drawn, execution_moved, snapshot, task_moved

from dalsegno.cli.execution_view import ExecutionView
from dalsegno.cli.lines import LineWriter
from dalsegno.v1 import change_pb2, execution_pb2, operation_pb2
from dalsegno.v1 import execution_service_pb2 as messages
from dalsegno.workflow.refusals import Unreachable, Violation

Type = Callable[..., Ended]
RUNNING, PAUSED, SUCCESS = (
    execution_pb2.EXECUTION_STATE_RUNNING,
    execution_pb2.EXECUTION_STATE_PAUSED,
    execution_pb2.EXECUTION_STATE_SUCCESS,
)
READY = execution_pb2.CheckpointReference(name="ready", sequence=27)


def execution(state: execution_pb2.ExecutionState.ValueType = RUNNING, **fields: Any) -> execution_pb2.Execution:
    return execution_pb2.Execution(id=ID, workflow="bootstrap", state=state, **fields)


def entry(sequence: int, name: str, **fields: Any) -> execution_pb2.CheckpointEntry:
    at, stands = Timestamp(seconds=1_000 + sequence), fields.pop("stands", True)
    return execution_pb2.CheckpointEntry(sequence=sequence, name=name, at=at, stands=stands, **fields)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ready"], {"name": "ready"}),
        (["ready", "--next"], {"name": "ready", "next": True}),
        (["ready", "--resume"], {"name": "ready", "then": messages.ON_ARRIVAL_RESUME}),
        (["--entry", "27"], {"sequence": 27}),
        (["ready", "--wait-delegates"], {"name": "ready", "delegates": operation_pb2.DELEGATES_WAIT}),
        (
            ["ready", "--set", "host=beta", "--unset", "old", "--task", "install"],
            {"name": "ready", "edit": messages.ContextEdit(task="install", set='{"host": "beta"}', unset=["old"])},
        ),
        (["ready", "--unset", "old"], {"name": "ready", "edit": messages.ContextEdit(unset=["old"])}),
        (
            ["ready", "-m", "try again", "--expected-revision", "9"],
            {"name": "ready", "comment": "try again", "expected_revision": 9},
        ),
    ],
)
def test_goto_sends_what_was_typed(api: Any, type_command: Type, words: list[str], expected: dict[str, Any]) -> None:
    """C14: a name or an entry, on which arrival, with which edit."""
    api.answer("GoToCheckpoint", messages.GoToCheckpointResponse(execution=execution()))
    ended = type_command("goto", ID, *words, "-s", api.address)
    assert (ended.exit_code, ended.out) == (0, f"{ID}  RUNNING\n"), ended.err
    (sent,) = api.requests
    assert sent.request_id
    sent.ClearField("request_id")
    assert sent == messages.GoToCheckpointRequest(execution_id=ID, **expected)


@pytest.mark.parametrize(
    "words", [[], ["ready", "--entry", "27"], ["--entry", "27", "--next"], ["ready", "--task", "install"]]
)
def test_what_contradicts_itself_is_not_sent(api: Any, type_command: Type, words: list[str]) -> None:
    """Exactly one place to go to; --next is for a name, --task for an edit."""
    ended = type_command("goto", ID, *words, "-s", api.address)
    assert ended.exit_code == 2
    assert ended.err.startswith("error: ")
    assert api.requests == []


def test_a_dry_run_is_drawn(api: Any, type_command: Type) -> None:
    """With --dry-run it is printed what would happen, and the request says so."""
    dry_run = execution_pb2.DryRun(state=RUNNING, starts=[execution_pb2.DryRunTask(name="configure")])
    api.answer("GoToCheckpoint", messages.GoToCheckpointResponse(dry_run=dry_run))
    ended = type_command("goto", ID, "ready", "--dry-run", "-s", api.address)
    assert ended.exit_code == 0
    assert "would be RUNNING" in ended.out
    assert "configure" in ended.out
    assert api.requests[0].dry_run


@pytest.mark.parametrize(
    ("words", "found", "exit_code"),
    [
        (["ready"], execution(PAUSED, paused_at=READY), 0),
        (["--entry", "27"], execution(PAUSED, paused_at=READY), 0),
        (["other"], execution(PAUSED, paused_at=READY), 4),
        (["--entry", "11"], execution(PAUSED, paused_at=READY), 4),
        (["ready"], execution(PAUSED), 4),
        (["ready"], execution(SUCCESS, not_reached="ready"), 1),
        (["ready", "--resume"], execution(SUCCESS), 0),
        (["ready", "--resume"], execution(PAUSED, paused_at=READY), 4),
    ],
)
def test_the_exit_code_says_whether_it_has_arrived(
    api: Any, type_command: Type, words: list[str], found: execution_pb2.Execution, exit_code: int
) -> None:
    """C16: with --wait 0 means that it stands there, or with --resume that it has succeeded."""
    api.answer("GoToCheckpoint", messages.GoToCheckpointResponse(execution=execution()))
    api.answer("WatchExecution", [snapshot(found.state)])
    api.answer("GetExecution", messages.GetExecutionResponse(execution=found))
    api.answer("ListChanges", messages.ListChangesResponse())
    assert type_command("goto", ID, *words, "--wait", "-s", api.address).exit_code == exit_code


def test_a_refusal_tells_where_checkpoints_are_listed(api: Any, type_command: Type) -> None:
    """C31: an unreachable checkpoint is refused with the command that shows what can be reached."""
    api.answer("GoToCheckpoint", Unreachable([Violation("checkpoint ready", "nothing that is open leads to it")]))
    ended = type_command("goto", ID, "ready", "-s", api.address)
    assert ended.exit_code == 2
    assert "nothing that is open leads to it" in ended.err
    assert "dalsegno checkpoints EXECUTION" in ended.err


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("StartExecution", ["start", "bootstrap"]),
        ("ResumeExecution", ["resume", ID]),
        ("RerunExecution", ["rerun", ID, "--tasks", "install"]),
    ],
)
def test_stop_at_names_checkpoints(api: Any, type_command: Type, method: str, words: list[str]) -> None:
    """C4: start, resume and rerun take the checkpoints at which the execution is to stop."""
    api.answer(method, getattr(messages, f"{method}Response")(execution=execution()))
    ended = type_command(*words, "--stop-at", "installed", "--stop-at", "ready", "-s", api.address)
    assert ended.exit_code == 0, ended.err
    assert list(api.requests[-1].stop_at) == ["installed", "ready"]


def listed(*entries: execution_pb2.CheckpointEntry, **fields: Any) -> messages.ListCheckpointsResponse:
    return messages.ListCheckpointsResponse(entries=entries, **fields)


def test_checkpoints_are_listed(api: Any, type_command: Type) -> None:
    """Each entry has its task, its data, what ended since, and whether it stands; then what is ahead of it."""
    api.answer(
        "ListCheckpoints",
        listed(entry(27, "ready", task_name="gate", reachable=True), ahead=["tested"], next_page_token="t"),
        listed(
            entry(11, "installed", task_name="install", data='{"host":"alpha"}', tasks_since=2),
            entry(9, "installed", stands=False),
            entry(3, "start"),
        ),
    )
    found = execution(PAUSED, paused_at=READY, stop_at=["ready"])
    api.answer("GetExecution", messages.GetExecutionResponse(execution=found))
    ended = type_command("checkpoints", ID, "-s", api.address, "--time", "utc")
    head, *rows = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert head == "ENTRY CHECKPOINT TASK REACHED ENDED SINCE INFO DATA"
    assert [row.replace("1970-01-01 ", "") for row in rows] == [
        "27 ready gate 00:17:07Z it is PAUSED here, may be reached again",
        '11 installed install 00:16:51Z 2 {"host":"alpha"}',
        "9 installed 00:16:49Z undone",
        "3 start 00:16:43Z",
    ]
    assert ended.err == "ahead: tested\n"


def test_where_it_will_stop_is_told(api: Any, type_command: Type) -> None:
    """While it is on the way, the list and `show` name the checkpoints at which it stops."""
    api.answer("ListCheckpoints", listed(entry(3, "start"), ahead=[f"c{n}" for n in range(32)], further_ahead=4))
    found = messages.GetExecutionResponse(execution=execution(stop_at=["ready", "tested"]))
    api.answer("GetExecution", found)
    ended = type_command("checkpoints", ID, "-s", api.address)
    assert ended.err.splitlines()[-1] == "it stops at: ready, tested"
    assert ended.err.splitlines()[0].endswith("c29, and 6 more")
    assert "stops at  ready or tested" in type_command("show", ID, "-s", api.address).out


def test_programs_get_entries_and_names(api: Any, type_command: Type) -> None:
    """With -o json it is one object, with the data as values."""
    api.answer("ListCheckpoints", listed(entry(11, "installed", data='{"host":"alpha"}'), ahead=["ready"]))
    api.answer("GetExecution", messages.GetExecutionResponse(execution=execution()))
    told = json.loads(type_command("checkpoints", ID, "-o", "json", "-s", api.address).out)
    assert told["ahead"] == ["ready"]
    assert told["entries"][0]["data"] == {"host": "alpha"}


def test_states_tell_the_checkpoint(api: Any, type_command: Type) -> None:
    """A list, `show` and what an operation prints say at which checkpoint it stands, or which one it did not reach."""
    api.answer("ResumeExecution", messages.ResumeExecutionResponse(execution=execution(PAUSED, paused_at=READY)))
    assert type_command("resume", ID, "-s", api.address).out == f"{ID}  PAUSED  at checkpoint ready\n"
    missed = execution(SUCCESS, not_reached="tested")
    api.answer("ListExecutions", messages.ListExecutionsResponse(executions=[missed]))
    assert "checkpoint tested was not reached" in type_command("list", "-s", api.address).out
    api.answer("GetExecution", messages.GetExecutionResponse(execution=missed))
    assert "place     checkpoint tested was not reached" in type_command("show", ID, "-s", api.address).out


def test_who_shows_a_stop_is_told_how_to_go_on(api: Any, type_command: Type) -> None:
    """C17: from a checkpoint it can be resumed, or sent to another one; a delegate elsewhere is no obstacle."""
    found = execution(PAUSED, paused_at=READY)
    api.answer("GetExecution", messages.GetExecutionResponse(execution=found))
    told = type_command("show", ID, "-s", api.address).err
    assert f"dalsegno resume {ID}" in told
    assert f"dalsegno checkpoints {ID}" in told


def reached(name: str, task: str, data: str = "", number: int = 1) -> change_pb2.Change:
    change = change_pb2.CheckpointReached(name=name, task_number=number, task_name=task, data=data)
    return change_pb2.Change(checkpoint_reached=change)


def stops(*names: str, continues: bool = False) -> change_pb2.Change:
    return change_pb2.Change(stops_set=change_pb2.StopsSet(names=names, continues=continues))


def paused_at(name: str, info: str = "") -> change_pb2.Change:
    change = execution_moved("PAUSED", info)
    change.execution_moved.paused_at.CopyFrom(execution_pb2.CheckpointReference(name=name, sequence=2))
    return change


def test_a_watcher_sees_checkpoints_as_lines() -> None:
    """Entries with their data, the orders to stop and where it stands are lines; that it stops nowhere is none."""
    view, writer = ExecutionView(ID), LineWriter()
    lines = []
    missed = execution_moved("SUCCESS")
    missed.execution_moved.not_reached = "tested"
    for message in (
        snapshot(),
        changes(stops("ready", "tested", continues=True), task_moved("install", "SUCCESS")),
        changes(reached("ready", "install", '{"host":"alpha"}'), paused_at("ready"), stops()),
        changes(paused_at("ready", "stopped at checkpoint 'ready'"), missed),
    ):
        view.take(message)
        lines += [" ".join(line.split()) for line in writer.lines(message, view)]
    assert [line.split(" ", 2)[2] for line in lines[1:]] == [
        "execution stops set at checkpoint ready or tested, and continues from there",
        "install SUCCESS",
        'install checkpoint ready {"host":"alpha"}',
        "execution PAUSED at checkpoint ready",
        "execution PAUSED stopped at checkpoint 'ready'",
        "execution SUCCESS checkpoint tested was not reached",
    ]


def test_the_tree_marks_checkpoints() -> None:
    """A task shows the checkpoint that it has reached, the execution where it will stop, where it stands, and what it
    did not reach."""
    view = ExecutionView(ID)
    message = snapshot(RUNNING, execution_pb2.TaskExecution(number=1, name="install"))
    message.snapshot.execution.stop_at.append("ready")
    view.take(message)
    view.take_entries([entry(11, "installed", task_number=1), entry(12, "undone", task_number=1, stands=False)])
    assert "⚑ installed" in drawn({ID: view})
    assert "undone" not in drawn({ID: view})
    assert "stops at checkpoint ready" in drawn({ID: view})
    view.take(changes(reached("ready", "gate", number=2), paused_at("ready")))
    assert "⚑ ready" in drawn({ID: view})
    assert "at checkpoint ready" in drawn({ID: view})
    assert "stops at" not in drawn({ID: view})
    missed = execution_moved("SUCCESS")
    missed.execution_moved.not_reached = "tested"
    view.take(changes(stops("tested"), missed))
    assert "checkpoint tested was not reached" in drawn({ID: view})
    assert "stops at" not in drawn({ID: view})


def test_a_dry_run_of_going_back_is_drawn(api: Any, type_command: Type) -> None:
    """It names the entry, each end that would be undone with its action, the edits, and the delegates."""
    dry_run = execution_pb2.DryRun(
        state=execution_pb2.EXECUTION_STATE_REVERTING,
        back_to=READY,
        reverts=[
            execution_pb2.DryRunTask(name="test", number=4),
            execution_pb2.DryRunTask(
                name="configure", number=2, items=[0, 1], action="std.echo", input='{"output":"x"}'
            ),
        ],
        undone_edits=[
            execution_pb2.DryRunEdit(sequence=31, task="install", names=["host"], further_names=2),
            execution_pb2.DryRunEdit(sequence=32, names=["a", "b"]),
        ],
        cancelled_delegates=[execution_pb2.DryRunTask(name="ask", number=5)],
    )
    api.answer("GoToCheckpoint", messages.GoToCheckpointResponse(dry_run=dry_run))
    ended = type_command("goto", ID, "ready", "--dry-run", "-s", api.address)
    lines = [line.strip("│├└─ \n") for line in ended.out.splitlines()]
    assert lines == [
        f"{ID}  would be REVERTING",
        "would go back to checkpoint ready",
        "would be reverted",
        "test (4): it has no revert, so nothing is called",
        'configure (2) items 0-1: by std.echo {"output":"x"}',
        "delegated actions that would be cancelled",
        "ask (5)",
        "edits that would be undone",
        "install (31): host and 2 more",
        "execution (32): a, b",
    ]
    told = json.loads(type_command("goto", ID, "ready", "--dry-run", "-o", "json", "-s", api.address).out)
    assert told["reverts"][1]["input"] == {"output": "x"}


def test_a_watcher_sees_the_way_back() -> None:
    """C5, C28: that it goes back, why, each revert of a task and what was restored are lines."""
    begun = change_pb2.RevertBegun(to=READY, failure="no crane")
    restored = change_pb2.Restored(to=READY, tasks=2)
    added = change_pb2.AttemptAdded(task_number=1, task_name="install", attempt=2, action="std.echo", revert=True)
    view, writer = ExecutionView(ID), LineWriter()
    view.take(snapshot(RUNNING, execution_pb2.TaskExecution(number=1, name="install")))
    message = changes(
        change_pb2.Change(revert_begun=begun),
        change_pb2.Change(attempt_added=added),
        task_moved("install", "REVERTED"),
    )
    view.take(message)
    lines = [" ".join(line.split()).split(" ", 2)[2] for line in writer.lines(message, view)]
    assert lines == ["execution goes back to checkpoint ready: no crane", "install REVERTED"]
    assert "goes back to checkpoint ready" in drawn({ID: view})
    assert "↶ install  REVERTED" in drawn({ID: view})
    message = changes(change_pb2.Change(restored=restored), paused_at("ready"))
    view.take(message)
    lines = [" ".join(line.split()).split(" ", 2)[2] for line in writer.lines(message, view)]
    assert lines == ["execution restored to checkpoint ready", "execution PAUSED at checkpoint ready"]
    assert "goes back" not in drawn({ID: view})


def test_the_history_tells_reverts(api: Any, type_command: Type) -> None:
    """Of an attempt that undoes something the history says so; without a failure it went back on order."""
    added = change_pb2.AttemptAdded(task_number=1, task_name="install", attempt=2, action="std.echo", revert=True)
    begun = change_pb2.RevertBegun(to=READY)
    page = messages.ListChangesResponse(
        changes=[change_pb2.Change(revert_begun=begun), change_pb2.Change(attempt_added=added)]
    )
    api.answer("ListChanges", page)
    out = " ".join(type_command("history", ID, "-s", api.address).out.split())
    assert "execution goes back to checkpoint ready " in out
    assert "revert: std.echo" in out


def test_the_tree_shows_what_a_revert_has_restored() -> None:
    """Restored tasks are read anew: what came after is REVERTED and has no checkpoint, the rest keeps its own."""
    view = ExecutionView(ID)
    tasks = [execution_pb2.TaskExecution(number=number, name=name) for number, name in ((1, "install"), (2, "test"))]
    view.take(snapshot(RUNNING, *tasks))
    view.take(changes(reached("installed", "install"), reached("tested", "test", number=2)))
    tasks[0].state, tasks[1].state = execution_pb2.TASK_STATE_SUCCESS, execution_pb2.TASK_STATE_REVERTED
    view.take_tasks([*tasks, execution_pb2.TaskExecution(number=3, name="new")])
    assert [(task.state, task.checkpoint) for task in view.tasks.values()] == [
        ("SUCCESS", "installed"),
        ("REVERTED", ""),
        ("UNSPECIFIED", ""),
    ]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (
            "REVERT_ERROR",
            [f"dalsegno tasks {ID} --filter state=REVERT_ERROR", f"resume {ID}", "--skip TASK --result null"],
        ),
        ("REVERTED", [f"dalsegno goto {ID} NAME --resume", f"dalsegno checkpoints {ID}"]),
    ],
)
def test_who_sees_a_revert_is_told_what_to_do(api: Any, type_command: Type, state: str, told: list[str]) -> None:
    """C29: after a failed revert it can be run again or skipped; what was reverted goes on from an entry."""
    value = execution_pb2.ExecutionState.Value(f"EXECUTION_STATE_{state}")
    found = execution(value, reverting_to=READY)
    api.answer("GetExecution", messages.GetExecutionResponse(execution=found))
    ended = type_command("show", ID, "-s", api.address)
    assert "back to   checkpoint ready" in ended.out
    assert [word for word in told if word not in ended.err] == []


def test_a_pause_that_ends_by_itself_is_no_end(api: Any, type_command: Type) -> None:
    """C10, C11: while a strategy waits before it tries again, --wait goes on watching; when it continues is told."""
    later = Timestamp(seconds=4_102_444_800)
    waits = execution_moved("PAUSED", "reverted to checkpoint 'start': no crane")
    waits.execution_moved.next_at.CopyFrom(later)
    api.answer("GoToCheckpoint", messages.GoToCheckpointResponse(execution=execution()))
    api.answer("WatchExecution", [snapshot(), changes(waits), changes(execution_moved("SUCCESS"), token="t3")])
    api.answer("GetExecution", messages.GetExecutionResponse(execution=execution(SUCCESS)))
    ended = type_command("goto", ID, "ready", "--resume", "--wait", "-s", api.address, "--time", "utc")
    assert ended.exit_code == 0
    assert "continues at 2100-01-01 00:00:00Z; reverted to checkpoint 'start': no crane" in ended.out
    found = execution(PAUSED, next_at=later, state_info="reverted to checkpoint 'start': no crane")
    api.answer("GetExecution", messages.GetExecutionResponse(execution=found))
    shown = type_command("show", ID, "-s", api.address, "--time", "utc")
    assert "goes on   2100-01-01 00:00:00Z (in " in shown.out
    assert "it continues by itself 2100-01-01" in shown.err
    view = ExecutionView(ID)
    view.take(snapshot())
    view.take(changes(waits))
    assert "continues 2100-01-01" in drawn({ID: view})
    view.take(changes(execution_moved("RUNNING")))
    assert "continues" not in drawn({ID: view})
