"""Plain lines, one for each change of an execution: for pipes, files and `dalsegno history`."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from google.protobuf.timestamp_pb2 import Timestamp

from dalsegno.cli.clean import one_line
from dalsegno.cli.execution_view import (
    ExecutionView,
    Task,
    entry_words,
    execution_state,
    origin_words,
    place_of,
    place_words,
    task_state,
)
from dalsegno.cli.output import causes, reason
from dalsegno.cli.times import clock
from dalsegno.cli.values import enum_name
from dalsegno.cli.waits import attempt_name, progress_words
from dalsegno.v1 import change_pb2, execution_pb2
from dalsegno.v1.execution_service_pb2 import WatchExecutionResponse

_FAILED_ATTEMPTS = {execution_pb2.ACTION_STATE_ERROR, execution_pb2.ACTION_STATE_CANCELLED}
MANY_ITEMS = 50
_COMING_TO_REST = {"PAUSING", "CANCELLING"}
_DETAIL_WIDTH = 2_000


class LineWriter:
    """Writes the messages of a stream as lines: new states, waits, progress, causes of failures."""

    def __init__(self) -> None:
        self._tenths: dict[tuple[int, int], int] = {}
        self._awaited: list[str] = []
        self._waits: dict[int, str] = {}
        self._causes: set[tuple[int, int, str]] = set()

    def lines(self, message: WatchExecutionResponse, view: ExecutionView) -> Iterator[str]:
        """Yield the lines of a message that has been applied to the view."""
        match message.WhichOneof("content"):
            case "snapshot":
                yield from _describe_snapshot(message.snapshot)
            case "changes":
                for change in message.changes.changes:
                    if self._is_shown(change, view):
                        yield from describe_change(change)
            case "action_progress":
                for told in message.action_progress.tasks:
                    yield from _describe_progress(told, view)
            case _:
                pass
        self._forget(message, view)
        yield from self._rest(view)
        for task in _touched(message, view):
            yield from self._progress(task, view)
            yield from self._wait(task, view)

    def _forget(self, message: WatchExecutionResponse, view: ExecutionView) -> None:
        """Remove what was written of tasks that were discarded."""
        if any(each.HasField("history_discarded") for each in message.changes.changes):
            self._tenths = {place: tenth for place, tenth in self._tenths.items() if place[0] in view.tasks}
            self._waits = {number: told for number, told in self._waits.items() if number in view.tasks}
            self._causes = {cause for cause in self._causes if cause[0] in view.tasks}

    def _is_shown(self, change: change_pb2.Change, view: ExecutionView) -> bool:
        match change.WhichOneof("kind"):
            case "execution_moved":
                return True
            case "task_moved":  # its waiting has its own line
                return change.task_moved.state != execution_pb2.TASK_STATE_RUNNING_DELAYED
            case "task_added":
                return change.task_added.state == execution_pb2.TASK_STATE_RUNNING
            case "checkpoint_reached" | "consolidated" | "history_discarded" | "revert_begun" | "restored":
                return True
            case "stops_set":
                return bool(change.stops_set.names)
            case "attempt_moved":
                return change.attempt_moved.state in _FAILED_ATTEMPTS and self._is_new_cause(change.attempt_moved)
            case _:
                return False

    def _is_new_cause(self, failed: change_pb2.AttemptMoved) -> bool:
        """Return whether no item of the same round has failed for the same cause."""
        cause = (failed.task_number, failed.attempt, reason(failed.error))
        is_new = cause not in self._causes
        self._causes.add(cause)
        return is_new and len(self._causes) <= _CAUSES_MAX

    def _rest(self, view: ExecutionView) -> Iterator[str]:
        """Yield what the execution waits for while it is PAUSING or CANCELLING."""
        if (view.state in _COMING_TO_REST or view.is_quiet) and view.awaited != self._awaited:
            self._awaited = view.awaited
            if self._awaited:
                yield _line(_now(view), "execution", view.state, f"waits for: {', '.join(self._awaited)}")

    def _progress(self, task: Task, view: ExecutionView) -> Iterator[str]:
        """Yield the progress of a task with many items, at every tenth of them."""
        done = task.succeeded + task.failed
        tenth = 10 * done // task.items if task.items >= MANY_ITEMS else 0
        if 0 < tenth < 10 and tenth > self._tenths.get((task.number, task.attempt), 0):
            self._tenths[task.number, task.attempt] = tenth
            failed = f", {task.failed} failed" if task.failed else ""
            yield _line(_now(view), task.name, task.state, f"{done} of {task.items}{failed}")

    def _wait(self, task: Task, view: ExecutionView) -> Iterator[str]:
        """Yield what a task waits for, each only once."""
        waiting = task.waiting(view.execution_id, inf if view.is_quiet else view.at_s)
        if not (waiting.delegate or waiting.next_at or waiting.needs_executor):
            return
        waiting.deadline = waiting.deadline if waiting.delegate else None
        key = f"{waiting.delegate} {waiting.next_at} {waiting.needs_executor}"
        if self._waits.get(task.number) == key:
            return
        self._waits[task.number] = key
        told = str(waiting)
        why = f": {reason(task.info, _DETAIL_WIDTH)}" if task.info else ""
        numbers = waiting.delegate.removeprefix(f"{view.execution_id}.")
        yield _line(_now(view), f"{task.name} {numbers}".rstrip(), task.state, told + why)


def _describe_progress(told: WatchExecutionResponse.TaskProgress, view: ExecutionView) -> Iterator[str]:
    task = view.tasks.get(told.task_number)
    if task is not None:
        name = task.name
        if told.HasField("item"):
            name += f" {told.action_execution_id.removeprefix(f'{view.execution_id}.')}"
        yield _line(clock(told.progress.at), name, task.state, progress_words(told.progress))


_CAUSES_MAX = 1_000


def _touched(message: WatchExecutionResponse, view: ExecutionView) -> list[Task]:
    """Return the tasks that a message changes; a message without changes concerns all."""
    if message.WhichOneof("content") != "changes":
        return list(view.tasks.values())
    numbers = dict.fromkeys(map(_task_number, message.changes.changes))
    return [view.tasks[number] for number in numbers if number in view.tasks]


def _task_number(change: change_pb2.Change) -> int:
    kind = change.WhichOneof("kind")
    return int(getattr(getattr(change, kind), "task_number", 0)) if kind else 0


def _now(view: ExecutionView) -> str:
    return clock(Timestamp(seconds=int(view.at_s)))


def _describe_snapshot(page: WatchExecutionResponse.Snapshot) -> Iterator[str]:
    if page.HasField("execution"):
        started = page.execution
        origin = f"forked from {origin_words(started.forked_from)}" if started.HasField("forked_from") else ""
        told = "  ".join(filter(None, [started.id, place_of(started), origin]))
        yield _line(clock(started.updated_at), started.workflow, execution_state(started.state), told)
    for task in page.tasks:
        when = clock(task.ended_at if task.HasField("ended_at") else task.started_at)
        yield from _lines(when, task.name, task_state(task.state), task.state_info)


def describe_change(change: change_pb2.Change) -> Iterator[str]:
    """Yield the lines of a change: time, subject, new state and reason; for failed items a line for each cause."""
    yield from _lines(clock(change.at), *subject_of(change), detail_of(change))


def subject_of(change: change_pb2.Change) -> tuple[str, str]:
    """Return the subject of a change, and its new state."""
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
        case "checkpoint_reached":
            return change.checkpoint_reached.task_name, "checkpoint"
        case "stops_set":
            return "execution", "stops set"
        case "revert_begun":
            return "execution", "goes back"
        case "restored":
            return "execution", "restored"
        case "consolidated":
            return "execution", "consolidated"
        case "history_discarded":
            return "execution", "discarded"
        case "other":
            return "execution", change.other.name
        case _:
            return "", "a change that this program does not know"


def detail_of(change: change_pb2.Change) -> str:
    """Return the reason or the values of a change; empty if it has none."""
    match change.WhichOneof("kind"):
        case "execution_created" if change.execution_created.HasField("forked_from"):
            return f"forked from {origin_words(change.execution_created.forked_from)}"
        case "execution_moved":
            to = change.execution_moved
            place = place_words(to.paused_at.name, to.not_reached, to.state_info)
            later = f"continues at {clock(to.next_at)}" if to.HasField("next_at") else ""
            return "; ".join(filter(None, [place, later, to.state_info]))
        case "task_moved":
            return change.task_moved.state_info
        case "task_routed":
            return "to " + ", ".join(map(str, change.task_routed.next)) if change.task_routed.next else ""
        case "attempts_begun":
            begun = change.attempts_begun
            some = f", items {', '.join(map(str, begun.only))}" if begun.only else f", {begun.items} items"
            return f"attempt {begun.attempt}" + (some if begun.has_items else "")
        case "attempt_added":
            added = change.attempt_added
            return ("revert: " if added.revert else "") + (added.child_execution_id or added.action)
        case "attempt_moved":
            moved = change.attempt_moved
            return moved.error or (f"by {moved.executor_id}" if moved.executor_id else moved.result)
        case "published":
            return change.published.values
        case "task_superseded":
            return f"by {change.task_superseded.by}"
        case "context_edited":
            return ", ".join(filter(None, [change.context_edited.set, *change.context_edited.unset]))
        case "checkpoint_reached":
            return f"{change.checkpoint_reached.name} {change.checkpoint_reached.data}".rstrip()
        case "stops_set":
            return _describe_stops(change.stops_set)
        case "revert_begun":
            back = change.revert_begun
            return f"to checkpoint {back.to.name}" + (f": {reason(back.failure)}" if back.failure else "")
        case "restored":
            return f"to checkpoint {change.restored.to.name}"
        case "consolidated":
            return _describe_consolidated(change.consolidated)
        case "history_discarded":
            return f"what was before {entry_words(change.history_discarded.before)}"
        case "other":
            return change.other.detail
        case _:
            return ""


def _describe_consolidated(state: change_pb2.Consolidated) -> str:
    """Return what is left of the changes whose place it takes. Of a fork nothing is gone where it was forked."""
    is_origin = not state.HasField("created") or state.created.forked_from.sequence == state.entry.sequence
    held = f"the state at {entry_words(state.entry)}: tasks: {state.tasks}, actions: {state.actions}"
    return held if is_origin else f"{held}; what was before is discarded"


def _describe_stops(stops: change_pb2.StopsSet) -> str:
    if not stops.names:
        return "at no checkpoint"
    return f"at checkpoint {' or '.join(stops.names)}" + (", and continues from there" if stops.continues else "")


def why(comment: str, actor: str) -> str:
    """Return the comment and the author of a request.

    >>> why("low tide", "ada"), why("low tide", ""), why("", "ada")
    ('low tide (ada)', 'low tide', '(ada)')
    """
    return " ".join(filter(None, [comment, actor and f"({actor})"]))


def _attempt_name(change: change_pb2.AttemptAdded | change_pb2.AttemptMoved) -> str:
    return attempt_name(change.task_name, change.task_number, change.item, change.attempt)


def _action_state(state: execution_pb2.ActionState.ValueType) -> str:
    return enum_name(execution_pb2.ActionState.Name(state), "ActionState")


def _lines(when: str, subject: str, state: str, detail: str) -> Iterator[str]:
    """Yield one line, and one for each further cause of failed items."""
    first, *more = causes(detail) or [reason(detail, _DETAIL_WIDTH)]
    yield _line(when, subject, state, first)
    for each in more:
        yield _line("", "", "", each)


def _line(when: str, subject: str, state: str, detail: str) -> str:
    told = " ".join(detail.split())
    return one_line(f"{when:8}  {one_line(subject):24}  {one_line(state):15}  {told}".rstrip())
