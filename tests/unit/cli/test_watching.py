"""Watching: the view of the stream, its output, and streams that break."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from dalsegno.cli.connection import connect
from dalsegno.cli.execution_view import ExecutionView
from dalsegno.cli.follow import follow
from dalsegno.cli.lines import LineWriter
from dalsegno.cli.tree import draw
from dalsegno.v1 import change_pb2, execution_pb2, execution_service_pb2, workflow_service_pb2
from dalsegno.v1.execution_service_pb2 import WatchExecutionResponse as Message
from dalsegno.workflow.refusals import NotFound, Unavailable

ID = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b47"
CHILD = "0193b5c2-7f3a-7e51-9d0c-5a8f2c1e6b48"
RUNNING, SUCCESS = execution_pb2.EXECUTION_STATE_RUNNING, execution_pb2.EXECUTION_STATE_SUCCESS


def snapshot(state: execution_pb2.ExecutionState.ValueType = RUNNING, *tasks: execution_pb2.TaskExecution) -> Message:
    """Return a snapshot on one page."""
    execution = execution_pb2.Execution(id=ID, workflow="city_report", state=state)
    page = Message.Snapshot(execution=execution, tasks=tasks, last=True, revision=1)
    return Message(snapshot=page, resume_token="t1")


def changes(*made: change_pb2.Change, token: str = "t2") -> Message:
    """Return a batch of changes, a second apart."""
    for number, change in enumerate(made):
        change.at.CopyFrom(Timestamp(seconds=1_000 + number))
    return Message(changes=Message.ChangeBatch(changes=made), resume_token=token)


def task_moved(name: str, state: str, info: str = "", number: int = 1) -> change_pb2.Change:
    """Return a change of the state of a task."""
    value = execution_pb2.TaskState.Value(f"TASK_STATE_{state}")
    moved = change_pb2.TaskMoved(task_number=number, task_name=name, state=value, state_info=info)
    return change_pb2.Change(task_moved=moved)


def item_ended(item: int, attempt: int = 1, state: str = "SUCCESS") -> change_pb2.Change:
    """Return the end of an item of task 1."""
    value = execution_pb2.ActionState.Value(f"ACTION_STATE_{state}")
    moved = change_pb2.AttemptMoved(task_number=1, task_name="fetch", item=item, attempt=attempt, state=value)
    return change_pb2.Change(attempt_moved=moved)


def items_begin(attempt: int = 1) -> change_pb2.Change:
    """Return the begin of task 1 with three items."""
    begun = change_pb2.AttemptsBegun(task_number=1, task_name="fetch", attempt=attempt, has_items=True, items=3)
    return change_pb2.Change(attempts_begun=begun)


def execution_moved(state: str, info: str = "") -> change_pb2.Change:
    """Return a change of the state of the execution."""
    value = execution_pb2.ExecutionState.Value(f"EXECUTION_STATE_{state}")
    return change_pb2.Change(execution_moved=change_pb2.ExecutionMoved(state=value, state_info=info))


def drawn(views: dict[str, ExecutionView], rows: int = 100) -> str:
    """Return the tree as text."""
    out = io.StringIO()
    Console(file=out, width=120).print(draw(views, ID, rows))
    return out.getvalue()


def test_changes_are_laid_over_the_snapshot() -> None:
    """The view is the snapshot with every later change: states, items, times."""
    view = ExecutionView(ID)
    view.take(snapshot())
    view.take(changes(task_moved("fetch", "RUNNING"), items_begin(), item_ended(0), item_ended(1, state="ERROR")))
    view.take(changes(item_ended(2), task_moved("fetch", "SUCCESS"), execution_moved("SUCCESS")))

    task = view.tasks[1]
    assert (task.state, task.items, task.succeeded, task.failed) == ("SUCCESS", 3, 2, 1)
    assert (view.state, view.ended) == ("SUCCESS", True)


def test_a_retry_counts_its_items_anew() -> None:
    """Only outcomes of the current attempt count; a late outcome of an earlier attempt does not."""
    view = ExecutionView(ID)
    view.take(changes(items_begin(), item_ended(0, state="ERROR"), items_begin(2), item_ended(1), item_ended(1, 2)))

    task = view.tasks[1]
    assert (task.attempt, task.succeeded, task.failed) == (2, 1, 0)


def test_a_new_snapshot_replaces_the_picture() -> None:
    """A new snapshot replaces the view, when the history of the stream is gone."""
    view = ExecutionView(ID)
    view.take(changes(task_moved("old", "RUNNING", number=9)))
    view.take(snapshot(RUNNING, execution_pb2.TaskExecution(number=1, name="fetch")))

    assert list(view.tasks) == [1]


def test_the_tree_shows_tasks_progress_and_children() -> None:
    """Each task has a line with items, attempts and error; a child execution is below its task."""
    child_added = change_pb2.AttemptAdded(task_number=2, task_name="advise", attempt=1, child_execution_id=CHILD)
    view, child = ExecutionView(ID), ExecutionView(CHILD, workflow="advise_city", state="SUCCESS")
    view.take(snapshot())
    view.take(changes(items_begin(2), item_ended(0, 2), task_moved("fetch", "ERROR", "no such host")))
    view.take(changes(change_pb2.Change(attempt_added=child_added), task_moved("advise", "SUCCESS", number=2)))

    text = drawn({ID: view, CHILD: child})

    fetch = next(line for line in text.splitlines() if "fetch" in line)
    assert all(part in fetch for part in ("ERROR", "1/3", "attempt 2", "no such host"))
    assert text.index("advise ") < text.index("advise_city")


def test_a_large_tree_shows_what_needs_attention() -> None:
    """Without room for all tasks the tree shows failed tasks and counts the others."""
    view = ExecutionView(ID, workflow="w", state="RUNNING")
    for number in range(1, 1_001):
        view.apply(task_moved(f"t{number}", "ERROR" if number == 7 else "SUCCESS", number=number))

    text = drawn({ID: view}, rows=10)

    assert "t7 " in text
    assert "… and 992 more: 992 SUCCESS" in text
    assert len(text.splitlines()) == 10


def test_a_thousand_children_show_what_runs_and_what_failed() -> None:
    """Of 1,000 sub-workflows those that run or failed have lines, and the others are counted."""
    view = ExecutionView(ID, workflow="w", state="RUNNING")
    begun = change_pb2.AttemptsBegun(task_number=1, task_name="fetch", attempt=1, has_items=True, items=1_000)
    view.apply(change_pb2.Change(attempts_begun=begun))
    view.apply(task_moved("fetch", "RUNNING"))
    for item in range(300):
        child = f"child-{item}"
        added = change_pb2.AttemptAdded(
            task_name="fetch", task_number=1, item=item, attempt=1, child_execution_id=child
        )
        view.apply(change_pb2.Change(attempt_added=added))
        if item < 295:
            view.apply(item_ended(item, state="ERROR" if item % 100 == 7 else "SUCCESS"))

    lines = drawn({ID: view}, rows=20).splitlines()

    assert len(lines) <= 20
    assert sum("ERROR " in line for line in lines[2:]) == 3
    assert sum("RUNNING" in line and "child-" in line for line in lines) == 5
    assert lines[-1].strip().endswith("… and 992 more: 700 not begun, 292 SUCCESS")


def test_failures_leave_room_for_what_runs() -> None:
    """With many failures the tree still shows some running tasks, and counts both."""
    view = ExecutionView(ID, workflow="w", state="RUNNING")
    view.apply(task_moved("fetch", "RUNNING"))
    for item in range(200):
        added = change_pb2.AttemptAdded(
            task_name="fetch", task_number=1, item=item, attempt=1, child_execution_id=f"child-{item}"
        )
        view.apply(change_pb2.Change(attempt_added=added))
        if item < 100:
            view.apply(item_ended(item, state="ERROR"))

    lines = drawn({ID: view}, rows=20).splitlines()

    assert len(lines) <= 20
    assert sum("child-" in line and "RUNNING" in line for line in lines) >= 5
    assert sum("child-" in line and "ERROR" in line for line in lines) >= 5


def test_plain_lines_say_what_happens() -> None:
    """Without a terminal each change of a task or the execution is a line, and of attempts only failures."""
    batch = changes(
        task_moved("fetch", "RUNNING"),
        item_ended(0),
        item_ended(1, state="ERROR"),
        execution_moved("ERROR", "fetch failed"),
    )

    lines = spoken(ExecutionView(ID), LineWriter(), batch)

    assert [line.split()[-1] for line in lines] == ["RUNNING", "ERROR", "failed"]
    assert "fetch 1.1.1" in lines[1]


async def test_a_broken_stream_goes_on_where_it_broke(api: Any) -> None:
    """After UNAVAILABLE the command repeats the request with the last token: no change is missed or repeated."""
    api.answer(
        "WatchExecution",
        [snapshot(), changes(task_moved("a", "RUNNING")), Unavailable("the api was killed")],
        [changes(execution_moved("SUCCESS"), token="t3")],
    )

    async with connect(api.address) as connection:
        seen = [message.resume_token async for message in follow(connection, ID)]

    assert seen == ["t1", "t2", "t3"]
    assert [request.resume_token for request in api.requests] == ["", "t2"]


async def test_a_server_that_stays_away_is_given_up(api: Any) -> None:
    """The command ends with the error when the server has been away for the time of retries."""
    api.answer("WatchExecution", [Unavailable("gone")])

    async with connect(api.address) as connection:
        with pytest.raises(Exception, match="gone"):
            [message async for message in follow(connection, ID, retry_s=0.3)]

    assert len(api.requests) > 1


def finished(api: Any, state: str, output: str = '{"n": 1}', warning: str = "") -> None:
    """Let the server return an execution that is watched to this state."""
    value = execution_pb2.ExecutionState.Value(f"EXECUTION_STATE_{state}")
    stands = execution_pb2.Execution(id=ID, workflow="w", state=value, output=output)
    stored = workflow_service_pb2.CreateDefinitionsResponse()
    stored.workflows.add(name="w")
    if warning:
        stored.warnings.add(line=3, column=5, path="w.output", message=warning)
    api.answer("CreateDefinitions", stored)
    api.answer("StartExecution", execution_service_pb2.StartExecutionResponse(execution=execution_pb2.Execution(id=ID)))
    api.answer("WatchExecution", [snapshot(), changes(task_moved("a", "SUCCESS"), execution_moved(state))])
    api.answer("GetExecution", execution_service_pb2.GetExecutionResponse(execution=stands))


@pytest.mark.parametrize(("state", "code"), [("SUCCESS", 0), ("ERROR", 1), ("CANCELLED", 3), ("PAUSED", 4)])
def test_run_ends_with_the_outcome(
    api: Any, type_command: Callable[..., Any], tmp_path: Path, state: str, code: int
) -> None:
    """`run FILE` stores, starts and watches, prints state and output, and its exit code tells the outcome."""
    file = tmp_path / "w.yaml"
    file.write_text("version: '2.0'\n")
    finished(api, state)

    ended = type_command("run", file, "-i", "n=1", "-s", api.address)

    assert ended.exit_code == code
    assert f"state   {state}\n" in ended.out
    assert "output  n: 1" in ended.out
    assert [type(request).__name__ for request in api.requests][:4] == [
        "CreateDefinitionsRequest",
        "StartExecutionRequest",
        "WatchExecutionRequest",
        "GetExecutionRequest",
    ]


@pytest.mark.parametrize(
    ("text", "chosen", "given"),
    [
        ("version: 1.0\ntasks:\n  t: {action: core.noop}\n", [], "city_report"),
        ("version: 1.0\ntasks:\n  t: {action: core.noop}\n", ["--workflow", "pack.report"], "pack.report"),
        ("version: 1.0\nname: pack.own\ntasks:\n  t: {action: core.noop}\n", [], ""),
        ("version: '2.0'\nw:\n  tasks:\n    t: {action: std.noop}\n", ["--workflow", "w"], ""),
    ],
)
def test_run_names_what_has_no_name(
    api: Any, type_command: Callable[..., Any], tmp_path: Path, text: str, chosen: list[str], given: str
) -> None:
    """An Orquesta file without a name gets that of --workflow, else that of the file; others have names."""
    file = tmp_path / "city_report.yaml"
    file.write_text(text)
    finished(api, "SUCCESS")

    assert type_command("run", file, *chosen, "-s", api.address).exit_code == 0
    assert api.requests[0].documents[0].name == given


def test_run_keeps_standard_output_for_the_result(api: Any, type_command: Callable[..., Any]) -> None:
    """With `-o json` the progress goes to standard error and only the result to standard output."""
    finished(api, "SUCCESS")

    ended = type_command("run", "w", "-s", api.address, "-o", "json")

    assert ended.out.startswith("{")
    assert '"output": {\n    "n": 1\n  }' in ended.out
    assert "city_report" in ended.err


def test_a_name_needs_a_server(type_command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A private server has no stored workflows, so `run NAME` is refused without a server."""
    monkeypatch.setattr("dalsegno.cli.run.DEFAULT_SERVER", "127.0.0.1:9")

    ended = type_command("run", "city_report")

    assert ended.exit_code == 2
    assert "dalsegno serve" in ended.err


def test_watching_what_is_not_there_is_said(api: Any, type_command: Callable[..., Any]) -> None:
    """An unknown execution is an error with advice and exit code 2."""
    api.answer("WatchExecution", [NotFound("execution", ID)])

    ended = type_command("watch", ID, "-s", api.address)

    assert ended.exit_code == 2
    assert "`dalsegno list`" in ended.err


def spoken(view: ExecutionView, writer: LineWriter, *messages: Message) -> list[str]:
    """Return the lines for these messages."""
    lines: list[str] = []
    for message in messages:
        view.take(message)
        lines += writer.lines(message, view)
    return lines


def test_plain_lines_tell_each_tenth_of_many_items_once() -> None:
    """Without a terminal a task with many items prints its progress at most ten times."""
    view, writer = ExecutionView(ID), LineWriter()
    begun = change_pb2.AttemptsBegun(task_number=1, task_name="fetch", attempt=1, has_items=True, items=200)
    view.take(changes(change_pb2.Change(attempts_begun=begun), task_moved("fetch", "RUNNING")))

    ends = [changes(item_ended(item, state="ERROR" if item == 30 else "SUCCESS")) for item in range(200)]
    lines = spoken(view, writer, *ends)

    assert [line.split("RUNNING")[1].strip() for line in lines if "fetch 1.30.1" not in line] == [
        "20 of 200",
        *(f"{done} of 200, 1 failed" for done in range(40, 200, 20)),
    ]


def test_plain_lines_tell_what_is_awaited() -> None:
    """While an execution comes to rest the lines name its attempts once; an executor is named when nothing else
    happens."""
    view, writer = ExecutionView(ID), LineWriter()
    task = execution_pb2.TaskExecution(number=1, name="fetch", state=execution_pb2.TASK_STATE_RUNNING)
    view.take(snapshot(execution_pb2.EXECUTION_STATE_PAUSING, task))
    told = Message(changes=Message.ChangeBatch(changes=[item_ended(0)], waiting_for=[f"{ID}.1.2.1", CHILD]))
    [line] = spoken(view, writer, told)
    assert line.endswith(f"waits for: fetch 1.2.1, {CHILD}")
    assert spoken(view, writer, told) == []

    view.take(snapshot(RUNNING))
    told = Message(changes=Message.ChangeBatch(changes=[item_ended(1)], waiting_for=["executor"]))
    assert spoken(view, writer, told) == []
    [line] = spoken(view, writer, Message(progress=Message.Progress(waiting_for=["executor"])))
    assert "waits for: an executor that runs the action" in line


def attempt_added(action: str, **fields: Any) -> change_pb2.Change:
    """Return a new attempt of task 1."""
    added = change_pb2.AttemptAdded(task_number=1, task_name="ask", attempt=1, action=action, **fields)
    return change_pb2.Change(attempt_added=added)


def test_a_question_stands_in_the_lines_and_in_the_tree() -> None:
    """Lines and tree show the question, its attempt and its deadline."""
    asked = '{"schema": {"properties": {"berth": {"type": "string", "description": "Which berth?"}}}}'
    moved = change_pb2.AttemptMoved(
        task_number=1, task_name="ask", attempt=1, delegated=True, state=execution_pb2.ACTION_STATE_RUNNING
    )
    moved.deadline.FromSeconds(4_102_444_800)
    view, writer = ExecutionView(ID), LineWriter()
    begun = changes(task_moved("ask", "RUNNING"), attempt_added("core.ask", input=asked))

    lines = spoken(view, writer, begun, changes(change_pb2.Change(attempt_moved=moved)))

    assert "ask 1.0.1" in lines[-1]
    assert "waits for an answer until 2100-01-01" in lines[-1]
    assert "Which berth?" in lines[-1]
    assert "waits for an answer until 2100" in drawn({ID: view})


def test_a_delay_says_until_when_and_why() -> None:
    """A retry is shown with its time and the failure before it."""
    delayed = task_moved("fetch", "RUNNING_DELAYED", "no such host")
    delayed.task_moved.next_at.FromSeconds(4_102_444_800)
    view, writer = ExecutionView(ID), LineWriter()

    [line] = spoken(view, writer, changes(delayed))

    assert "retries at 2100-01-01" in line
    assert line.endswith("no such host")
    assert "retries at 2100-01-01" in drawn({ID: view})


def test_items_that_fail_for_one_cause_are_one_line() -> None:
    """Only the first attempt of each cause has a line, and the task has a line for each cause."""
    told = "One or more actions had failed:\n  2 of 3 failed: 0, 1: no such host\n  1 of 3 failed: 2: no route"
    ends = [item_ended(item, state="ERROR") for item in range(3)]
    for item, end in enumerate(ends):
        end.attempt_moved.error = "no route" if item == 2 else "no such host"

    lines = spoken(ExecutionView(ID), LineWriter(), changes(*ends, task_moved("fetch", "ERROR", told)))

    assert [line.split("ERROR")[-1].strip() for line in lines] == [
        "no such host",
        "no route",
        "2 of 3 failed: 0, 1: no such host",
        "1 of 3 failed: 2: no route",
    ]


def test_run_prints_warnings(api: Any, type_command: Callable[..., Any], tmp_path: Path) -> None:
    """`run` prints warnings about the file on standard error."""
    file = tmp_path / "w.yaml"
    file.write_text("version: '2.0'\n")
    finished(api, "SUCCESS", warning="there is no function `nosuch`")

    ended = type_command("run", file, "-s", api.address)

    assert ended.exit_code == 0
    assert "3:5: warning: w.output: there is no function `nosuch`\n" in ended.err
