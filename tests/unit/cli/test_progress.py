"""Show, tree and lines print the progress of actions."""

from __future__ import annotations

import io

from rich.console import Console
from tests.unit.cli.test_watching import ID, RUNNING, changes, snapshot, spoken

from dalsegno.cli.execution_view import ExecutionView
from dalsegno.cli.lines import LineWriter
from dalsegno.cli.tree import draw
from dalsegno.cli.waits import waiting_of
from dalsegno.v1 import change_pb2, execution_pb2
from dalsegno.v1.execution_service_pb2 import WatchExecutionResponse as Message

TASK_RUNNING = execution_pb2.TASK_STATE_RUNNING
Progress = execution_pb2.ActionProgress


def said(text: str, fraction: float | None = None, item: int | None = None, attempt: int = 1) -> Message:
    told = Message.TaskProgress(
        action_execution_id=f"{ID}.1.{item or 0}.{attempt}",
        task_number=1,
        item=item,
        progress=Progress(text=text, fraction=fraction),
    )
    told.progress.at.FromSeconds(1_700_000_000)
    return Message(action_progress=Message.ActionProgressBatch(tasks=[told]))


def drawn(view: ExecutionView) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(draw({ID: view}, ID))
    return out.getvalue()


def running(**fields: object) -> execution_pb2.TaskExecution:
    return execution_pb2.TaskExecution(number=1, name="copy", state=TASK_RUNNING, action="pack.copy", **fields)  # type: ignore[arg-type]


def test_a_task_shows_how_far_its_action_has_come() -> None:
    """A task shows a text and a percentage beside what it waits for, without control characters."""
    progress = Progress(text="copying\x1b[2J", fraction=0.999)
    assert str(waiting_of(running(progress=progress))) == "copying␛[2J 99%"
    assert str(waiting_of(running(progress=Progress(fraction=1)))) == "100%"


def test_plain_lines_tell_progress() -> None:
    """Each report is a line, with the item of a task that has items."""
    view, writer = ExecutionView(ID), LineWriter()
    view.take(snapshot(RUNNING, running()))
    [line] = spoken(view, writer, said("copying", 0.25))
    assert line.endswith("copying 25%")
    assert "copy " in line
    [line] = spoken(view, writer, said("copying", item=3))
    assert "copy 1.3.1" in line


def test_the_picture_keeps_what_was_said_last() -> None:
    """A task with items shows the last report of the first item and counts the others; an action that is handed out
    again or has ended shows none."""
    view = ExecutionView(ID)
    view.take(snapshot(RUNNING, running(items=execution_pb2.ItemCounts(total=9, running=9))))
    view.take(said("copying", 0.25, item=3))
    view.take(said("mending", item=5))
    task = view.tasks[1]
    assert str(task.waiting(ID, 0)) == "item 3: copying 25% (and 1 more)"
    assert "item 3: copying 25% (and 1 more)" in drawn(view)
    again = change_pb2.AttemptMoved(task_number=1, item=3, attempt=1, state=execution_pb2.ACTION_STATE_READY)
    view.take(changes(change_pb2.Change(attempt_moved=again)))
    assert task.progress == "item 5: mending"
    ended = change_pb2.AttemptMoved(task_number=1, item=5, attempt=1, state=execution_pb2.ACTION_STATE_SUCCESS)
    view.take(changes(change_pb2.Change(attempt_moved=ended)))
    assert task.progress == ""


def test_the_executor_that_is_missing_is_named() -> None:
    """The output names the action with parameters and description, and the place, of an executor that is missing."""
    missing = "executor of pack.copy(a, [b]) as described by 0123456789abcdef at north"
    told = str(waiting_of(running(waiting_for=missing)))
    what = "pack.copy(a, [b]) as described by 0123456789abcdef at north"
    assert told == f"waits for an executor that runs {what}: none is connected"
    view = ExecutionView(ID)
    view.take(snapshot(RUNNING, running()))
    view.waiting_for = [missing]
    assert view.awaited == [f"an executor that runs {what}: none is connected"]
