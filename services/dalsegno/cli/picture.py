"""What is known of an execution that is being watched: a snapshot, and every change since laid over it."""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp

from dalsegno.cli.values import enum_name
from dalsegno.v1 import change_pb2, execution_pb2
from dalsegno.v1.execution_service_pb2 import WatchExecutionResponse

ENDED_TASKS = {"SUCCESS", "ERROR", "CANCELLED", "SKIPPED", "REVERTED", "REVERT_ERROR"}
ENDED_EXECUTIONS = {"SUCCESS", "ERROR", "CANCELLED", "REVERTED", "REVERT_ERROR"}
_ENDED_ATTEMPTS = {
    execution_pb2.ACTION_STATE_SUCCESS,
    execution_pb2.ACTION_STATE_ERROR,
    execution_pb2.ACTION_STATE_CANCELLED,
}


def task_state(state: execution_pb2.TaskState.ValueType) -> str:
    """The name of a task's state as people read it."""
    return enum_name(execution_pb2.TaskState.Name(state), "TaskState")


def execution_state(state: execution_pb2.ExecutionState.ValueType) -> str:
    """The name of an execution's state as people read it."""
    return enum_name(execution_pb2.ExecutionState.Name(state), "ExecutionState")


def seconds_of(time: Timestamp) -> float:
    """A moment in seconds since 1970; 0 for none."""
    return time.seconds + time.nanos / 1e9


@dataclass(slots=True)
class Task:
    """One task execution."""

    number: int
    name: str
    state: str = "IDLE"
    info: str = ""
    runs: str = ""
    """The action or the workflow that it runs."""
    items: int = -1
    """How many items it has; -1: it is no with-items task."""
    succeeded: int = 0
    failed: int = 0
    attempt: int = 1
    started_s: float = 0.0
    ended_s: float = 0.0
    superseded: bool = False
    children: list[str] = field(default_factory=list)
    """The executions of its sub-workflow, in the order in which they came to be."""

    def move(self, state: str, info: str, at_s: float) -> None:
        """Take up a new state, with the moment at which it did."""
        self.state, self.info = state, info
        if state == "RUNNING" and not self.started_s:
            self.started_s = at_s
        self.ended_s = at_s if state in ENDED_TASKS else 0.0

    def begin(self, begun: change_pb2.AttemptsBegun) -> None:
        """Take up a round of attempts. Of items that run again those that failed are taken to be first."""
        self.attempt = begun.attempt
        if begun.only:
            failed = min(self.failed, len(begun.only))
            self.failed -= failed
            self.succeeded = max(0, self.succeeded - (len(begun.only) - failed))
        else:
            self.items = begun.items if begun.has_items else -1
            self.succeeded = self.failed = 0


@dataclass(slots=True)
class Picture:
    """One execution and its tasks."""

    execution_id: str
    workflow: str = ""
    state: str = ""
    info: str = ""
    started_s: float = 0.0
    ended_s: float = 0.0
    at_s: float = 0.0
    """The server's time of the last change."""
    tasks: dict[int, Task] = field(default_factory=dict)
    waiting_for: list[str] = field(default_factory=list)
    is_quiet: bool = False
    """Whether nothing has happened for a while."""

    @property
    def ended(self) -> bool:
        """Whether it is completed."""
        return self.state in ENDED_EXECUTIONS

    @property
    def awaited(self) -> list[str]:
        """What it waits for while it comes to rest, as people read it: attempts by their task, children by their id."""
        return [self._awaited(each) for each in self.waiting_for]

    def _awaited(self, identity: str) -> str:
        if identity == "executor":
            return "an executor that runs the action (core.local, std.ssh, std.javascript: one started with --allow)"
        numbers = identity.removeprefix(f"{self.execution_id}.").split(".")
        if len(numbers) != 3 or not all(map(str.isdigit, numbers)):
            return identity
        number, item, attempt = map(int, numbers)
        return f"{self.tasks[number].name}[{item}]#{attempt}" if number in self.tasks else identity

    def take(self, message: WatchExecutionResponse) -> None:
        """Lay one message of the stream over the picture."""
        self.is_quiet = message.WhichOneof("content") == "progress"
        match message.WhichOneof("content"):
            case "snapshot":
                self._take_snapshot(message.snapshot)
            case "changes":
                for change in message.changes.changes:
                    self.apply(change)
                self.waiting_for = list(message.changes.waiting_for)
            case "progress":
                self.waiting_for = list(message.progress.waiting_for)
            case _:  # something newer than this program
                pass

    def _take_snapshot(self, page: WatchExecutionResponse.Snapshot) -> None:
        if page.HasField("execution"):
            execution = page.execution
            self.tasks.clear()
            self.workflow, self.info = execution.workflow, execution.state_info
            self.state = execution_state(execution.state)
            self.started_s = seconds_of(execution.started_at) or seconds_of(execution.created_at)
            self.ended_s = seconds_of(execution.ended_at)
            self.at_s = seconds_of(execution.updated_at)
            self.waiting_for = list(execution.waiting_for)
        for each in page.tasks:
            self.tasks[each.number] = _task_of(each)

    def apply(self, change: change_pb2.Change) -> None:
        """Lay one change over the picture."""
        self.at_s = seconds_of(change.at)
        match change.WhichOneof("kind"):
            case "execution_created":
                self.workflow, self.state = change.execution_created.workflow, "IDLE"
                self.started_s = self.at_s
            case "execution_moved":
                self.state = execution_state(change.execution_moved.state)
                self.info = change.execution_moved.state_info
                self.ended_s = self.at_s if self.ended else 0.0
            case "task_added":
                added = change.task_added
                task = Task(added.task_number, added.task_name)
                task.move(task_state(added.state), "", self.at_s)
                self.tasks[added.task_number] = task
            case "task_moved":
                moved = change.task_moved
                self._task(moved).move(task_state(moved.state), moved.state_info, self.at_s)
            case "attempts_begun":
                begun = change.attempts_begun
                task = self._task(begun)
                task.begin(begun)
            case "task_superseded":
                self._task(change.task_superseded).superseded = True
            case "attempt_added":
                self._add_attempt(change.attempt_added)
            case "attempt_moved":
                self._count_attempt(change.attempt_moved)
            case _:  # what the picture does not show
                pass

    def _add_attempt(self, added: change_pb2.AttemptAdded) -> None:
        task = self._task(added)
        task.runs = added.action or task.runs
        task.attempt = max(task.attempt, added.attempt)
        if added.child_execution_id and added.child_execution_id not in task.children:
            task.children.append(added.child_execution_id)

    def _count_attempt(self, moved: change_pb2.AttemptMoved) -> None:
        task = self._task(moved)
        if moved.state not in _ENDED_ATTEMPTS or moved.attempt != task.attempt:
            return
        if moved.state == execution_pb2.ACTION_STATE_SUCCESS:
            task.succeeded += 1
        else:
            task.failed += 1

    def _task(
        self,
        change: change_pb2.TaskMoved
        | change_pb2.TaskSuperseded
        | change_pb2.AttemptsBegun
        | change_pb2.AttemptAdded
        | change_pb2.AttemptMoved,
    ) -> Task:
        return self.tasks.setdefault(change.task_number, Task(change.task_number, change.task_name))


def _task_of(found: execution_pb2.TaskExecution) -> Task:
    task = Task(
        number=found.number,
        name=found.name,
        state=task_state(found.state),
        info=found.state_info,
        runs=found.action or found.workflow,
        attempt=max(1, found.attempts),
        started_s=seconds_of(found.started_at),
        ended_s=seconds_of(found.ended_at),
        superseded=found.superseded,
        children=list(found.child_execution_ids),
    )
    if found.HasField("items"):
        task.items, task.succeeded, task.failed = found.items.total, found.items.succeeded, found.items.failed
    return task
