"""What a task waits for, and until when, as text; and the questions of an inquiry."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp

from dalsegno.cli.clean import one_line
from dalsegno.cli.permissions import executor_for, remedy
from dalsegno.cli.times import due
from dalsegno.v1 import execution_pb2

OPEN_ACTIONS = "state=READY,RUNNING,PAUSED"
"""The filter of action executions that have not ended."""
OPEN_TASKS = "state=IDLE,WAITING,RUNNING,RUNNING_DELAYED,PAUSED superseded=false"
"""The filter of task executions that have not ended."""
ASK = "core.ask"
_DEFAULT_QUESTIONS: dict[str, object] = {
    "continue": {"type": "boolean", "description": "Would you like to continue the workflow?", "required": True}
}
"""The question of core.ask without a schema."""


@dataclass(frozen=True, slots=True)
class Question:
    """One field of the answer that an inquiry asks for."""

    name: str
    kind: str
    """Its JSON type; empty for any."""
    text: str
    required: bool

    def __str__(self) -> str:
        return self.text or self.name


def questions_of(action: str, input_text: str) -> list[Question]:
    """Return the questions of an open action; empty if it is not an inquiry."""
    given = _object(input_text)
    schema = given.get("schema")
    if not isinstance(schema, dict):
        schema = {"properties": _DEFAULT_QUESTIONS} if action == ASK else {}
    properties = schema.get("properties")
    required = schema.get("required")
    names = required if isinstance(required, list) else []
    return [
        Question(
            name=one_line(str(name)),
            kind=one_line(kind) if isinstance(kind := each.get("type"), str) else "",
            text=one_line(str(each.get("description") or each.get("title") or "")),
            required=each.get("required") is True or name in names,
        )
        for name, each in (properties.items() if isinstance(properties, dict) else ())
        if isinstance(each, dict)
    ]


def route_of(input_text: str) -> str:
    """Return the route of an inquiry (for whom it is); empty if it has none."""
    route = _object(input_text).get("route")
    return one_line(route) if isinstance(route, str) else ""


def _object(text: str) -> dict[str, object]:
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}


@dataclass(slots=True)
class Waiting:
    """What one task waits for, as far as known."""

    next_at: Timestamp | None = None
    """The time when a delayed task continues."""
    has_begun: bool = False
    has_failed: bool = False
    runs: str = ""
    needs_executor: bool = False
    missing: str = ""
    """What an executor must run to accept this action, if no connected executor accepts it."""
    progress: str = ""
    """The progress that its action reported."""
    child: str = ""
    """A sub-workflow that it waits for."""
    joins: str = ""
    """The names of the tasks that a join waits for."""
    delegate: str = ""
    """The action execution that a third party completes: its id."""
    questions: list[Question] = field(default_factory=list)
    deadline: Timestamp | None = None
    """The time when its action is stopped."""

    def __str__(self) -> str:
        return "; ".join(self._parts())

    def _parts(self) -> Iterator[str]:
        if self.next_at is not None:
            verb = "retries" if self.has_failed else "continues" if self.has_begun else "starts"
            yield f"{verb} {_at(self.next_at)}"
        if self.progress:
            yield self.progress
        if self.missing:
            yield f"waits for an executor that runs {self.missing}: {remedy(self.runs) or 'none is connected'}"
        elif self.needs_executor:
            yield f"waits for {executor_for(self.runs)}"
        if self.joins:
            yield f"waits for tasks {self.joins}"
        if self.child:
            yield f"waits for execution {self.child}"
        until = _until(self.deadline) if self.deadline is not None else ""
        if self.questions:
            yield f"waits for an answer{until}: {' / '.join(map(str, self.questions))}"
        elif self.delegate:
            yield f"waits to be completed{until}"
        elif until:
            yield f"times out {_at(self.deadline)}"


def _at(stamp: Timestamp | None) -> str:
    told = due(stamp) if stamp is not None else ""
    return told if _is_relative(told) else f"at {told}"


def _until(stamp: Timestamp) -> str:
    told = due(stamp)
    return f" (over {told})" if _is_relative(told) else f" until {told}"


def _is_relative(told: str) -> bool:
    return told.startswith(("in ", "now")) or told.endswith("ago")


def waiting_of(task: execution_pb2.TaskExecution, actions: Iterable[execution_pb2.ActionExecution] = ()) -> Waiting:
    """Return what a task waits for. `actions`: those of its execution that have not ended."""
    waiting = Waiting(runs=one_line(task.action), has_begun=task.attempts > 0, has_failed=bool(task.state_info))
    if task.state == execution_pb2.TASK_STATE_RUNNING_DELAYED and task.HasField("next_at"):
        waiting.next_at = task.next_at
    if task.HasField("progress"):
        waiting.progress = progress_words(task.progress)
    kind, _, what = task.waiting_for.partition(" ")
    match kind:
        case "executor":
            waiting.needs_executor = True
            waiting.missing = missing_executor(what)
        case "execution":
            waiting.child = one_line(what)
        case "tasks":
            waiting.joins = one_line(what)
        case "action":
            waiting.delegate = one_line(what)
    for action in actions:
        if action.task_number == task.number:
            take_action(waiting, action)
    return waiting


def missing_executor(what: str) -> str:
    """Return what the missing executor must run, for people; empty if nothing is known."""
    return one_line(what).removeprefix("of ")


def progress_words(progress: execution_pb2.ActionProgress) -> str:
    """Return the progress of an action, in one line.

    >>> progress_words(execution_pb2.ActionProgress(text="copying", fraction=0.255))
    'copying 25%'
    """
    share = f"{int(100 * progress.fraction)}%" if progress.HasField("fraction") else ""
    return " ".join(filter(None, [one_line(progress.text), share]))


def take_action(waiting: Waiting, action: execution_pb2.ActionExecution) -> None:
    """Add an open action of the task: who completes it, its questions, its deadline."""
    if action.delegated and not waiting.questions:
        waiting.delegate = action.id
        waiting.questions = questions_of(action.action, action.input)
    if action.HasField("deadline"):
        later = waiting.deadline is not None and waiting.deadline.ToNanoseconds() <= action.deadline.ToNanoseconds()
        waiting.deadline = waiting.deadline if later else action.deadline


def attempt_name(task: str, number: int, item: int, attempt: int) -> str:
    """Return the short name of an attempt: the name of its task, and the end of its id.

    >>> attempt_name("fetch", 1, 3, 2)
    'fetch 1.3.2'
    """
    return f"{one_line(task)} {number}.{item}.{attempt}"
