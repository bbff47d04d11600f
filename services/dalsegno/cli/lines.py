"""Plain lines, one for each thing that happens to an execution: for pipes, files and `dalsegno history`."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.timestamp_pb2 import Timestamp

from dalsegno.cli.output import reason
from dalsegno.cli.picture import Picture, execution_state, task_state
from dalsegno.cli.times import clock
from dalsegno.cli.values import enum_name
from dalsegno.v1 import change_pb2, execution_pb2
from dalsegno.v1.execution_service_pb2 import WatchExecutionResponse

_SPOKEN_ATTEMPTS = {execution_pb2.ACTION_STATE_ERROR, execution_pb2.ACTION_STATE_CANCELLED}


def describe_message(message: WatchExecutionResponse) -> Iterator[str]:
    """The lines that say what a message of the stream brings; of attempts only the failed ones."""
    match message.WhichOneof("content"):
        case "snapshot":
            page = message.snapshot
            if page.HasField("execution"):
                started = page.execution
                yield _line(clock(started.updated_at), started.workflow, execution_state(started.state), started.id)
            for task in page.tasks:
                when = clock(task.ended_at if task.HasField("ended_at") else task.started_at)
                yield _line(when, task.name, task_state(task.state), task.state_info)
        case "changes":
            for change in message.changes.changes:
                if _is_spoken(change):
                    yield describe_change(change)
        case _:
            return


def _is_spoken(change: change_pb2.Change) -> bool:
    match change.WhichOneof("kind"):
        case "execution_moved" | "task_moved":
            return True
        case "task_added":
            return change.task_added.state == execution_pb2.TASK_STATE_RUNNING
        case "attempt_moved":
            return change.attempt_moved.state in _SPOKEN_ATTEMPTS
        case _:
            return False


MANY_ITEMS = 50
_COMING_TO_REST = {"PAUSING", "CANCELLING"}


class Progress:
    """Says how far a task of many items is, at every tenth of them; and what is awaited while all comes to rest."""

    def __init__(self) -> None:
        self._said: dict[tuple[int, int], int] = {}
        self._awaited: list[str] = []

    def lines(self, picture: Picture) -> Iterator[str]:
        """What is to be said now."""
        if (picture.state in _COMING_TO_REST or picture.is_quiet) and picture.awaited != self._awaited:
            self._awaited = picture.awaited
            if self._awaited:
                when = clock(Timestamp(seconds=int(picture.at_s)))
                yield _line(when, "execution", picture.state, f"waits for: {', '.join(self._awaited)}")
        for task in picture.tasks.values():
            done = task.succeeded + task.failed
            tenth = 10 * done // task.items if task.items >= MANY_ITEMS else 0
            if 0 < tenth < 10 and tenth > self._said.get((task.number, task.attempt), 0):
                self._said[task.number, task.attempt] = tenth
                failed = f", {task.failed} failed" if task.failed else ""
                when = clock(Timestamp(seconds=int(picture.at_s)))
                yield _line(when, task.name, task.state, f"{done} of {task.items}{failed}")


def describe_change(change: change_pb2.Change) -> str:
    """One change on one line: when, what it is about, what it is now, why."""
    return _line(clock(change.at), *subject_of(change), detail_of(change))


def subject_of(change: change_pb2.Change) -> tuple[str, str]:
    """What a change is about, and what became of it."""
    match change.WhichOneof("kind"):
        case "execution_created":
            return change.execution_created.workflow, "CREATED"
        case "execution_moved":
            return "execution", execution_state(change.execution_moved.state)
        case "task_added":
            return change.task_added.task_name, task_state(change.task_added.state)
        case "task_moved":
            return change.task_moved.task_name, task_state(change.task_moved.state)
        case "task_routed":
            return change.task_routed.task_name, "routed"
        case "attempts_begun":
            return change.attempts_begun.task_name, "begins"
        case "attempt_added":
            return _attempt_name(change.attempt_added), _action_state(change.attempt_added.state)
        case "attempt_moved":
            return _attempt_name(change.attempt_moved), _action_state(change.attempt_moved.state)
        case "published":
            return change.published.task_name or "execution", "published"
        case "task_superseded":
            return change.task_superseded.task_name, "superseded"
        case "context_edited":
            return change.context_edited.task_name or "execution", "edited"
        case "other":
            return "execution", change.other.name
        case _:
            return "", "something newer than this program"


def detail_of(change: change_pb2.Change) -> str:
    """Why, or with what; empty when there is nothing to add."""
    match change.WhichOneof("kind"):
        case "execution_moved":
            return change.execution_moved.state_info
        case "task_moved":
            return change.task_moved.state_info
        case "task_routed":
            return "to " + ", ".join(map(str, change.task_routed.next)) if change.task_routed.next else ""
        case "attempts_begun":
            begun = change.attempts_begun
            some = f", items {', '.join(map(str, begun.only))}" if begun.only else f", {begun.items} items"
            return f"attempt {begun.attempt}" + (some if begun.has_items else "")
        case "attempt_added":
            return change.attempt_added.child_execution_id or change.attempt_added.action
        case "attempt_moved":
            moved = change.attempt_moved
            return moved.error or (f"by {moved.executor_id}" if moved.executor_id else moved.result)
        case "published":
            return change.published.values
        case "task_superseded":
            return f"by {change.task_superseded.by}"
        case "context_edited":
            return ", ".join(filter(None, [change.context_edited.set, *change.context_edited.unset]))
        case "other":
            return change.other.detail
        case _:
            return ""


def why(comment: str, actor: str) -> str:
    """What whoever asked for it said, and who that was.

    >>> why("low tide", "ada"), why("low tide", ""), why("", "ada")
    ('low tide (ada)', 'low tide', '(ada)')
    """
    return " ".join(filter(None, [comment, actor and f"({actor})"]))


def _attempt_name(change: change_pb2.AttemptAdded | change_pb2.AttemptMoved) -> str:
    item = f"[{change.item}]" if change.HasField("item") else ""
    return f"{change.task_name}{item}#{change.attempt}"


def _action_state(state: execution_pb2.ActionState.ValueType) -> str:
    return enum_name(execution_pb2.ActionState.Name(state), "ActionState")


def _line(when: str, subject: str, state: str, detail: str) -> str:
    return f"{when:8}  {subject:24}  {state:15}  {reason(detail, 120)}".rstrip()
