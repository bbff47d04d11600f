"""The state of a watched execution: a snapshot, and every change since applied to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from google.protobuf.timestamp_pb2 import Timestamp

from dalsegno.cli.clean import one_line
from dalsegno.cli.permissions import executor_for
from dalsegno.cli.values import enum_name
from dalsegno.cli.waits import (
    Question,
    Waiting,
    attempt_name,
    missing_executor,
    progress_words,
    questions_of,
    waiting_of,
)
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
    """Return the name of a task's state without its prefix."""
    return enum_name(execution_pb2.TaskState.Name(state), "TaskState")


def execution_state(state: execution_pb2.ExecutionState.ValueType) -> str:
    """Return the name of an execution's state without its prefix."""
    return enum_name(execution_pb2.ExecutionState.Name(state), "ExecutionState")


def place_of(execution: execution_pb2.Execution, info: str = "") -> str:
    """Return the checkpoint at which it stands, or which one it did not reach; "" if the text beside it names it."""
    return place_words(execution.paused_at.name, execution.not_reached, info)


def place_words(paused_at: str, not_reached: str, info: str = "") -> str:
    """Return where an execution stands among its checkpoints, or which one it did not reach; "" if `info` names it.

    >>> place_words("ready", ""), place_words("", "ready")
    ('at checkpoint ready', 'checkpoint ready was not reached')
    >>> place_words("ready", "", "stopped at checkpoint 'ready'")
    ''
    """
    name = not_reached or paused_at
    if not name or f"checkpoint '{name}'" in info:
        return ""
    return f"checkpoint {one_line(name)} was not reached" if not_reached else f"at checkpoint {one_line(name)}"


def entry_words(entry: execution_pb2.CheckpointReference) -> str:
    """Return the checkpoint and the number of an entry; the name of one that is gone itself may be unknown.

    >>> entry_words(execution_pb2.CheckpointReference(name="ready", sequence=27))
    'checkpoint ready (entry 27)'
    >>> entry_words(execution_pb2.CheckpointReference(sequence=27))
    'entry 27'
    """
    number = f"entry {entry.sequence}"
    return f"checkpoint {one_line(entry.name)} ({number})" if entry.name else number


def origin_words(origin: execution_pb2.ForkOrigin) -> str:
    """Return the execution and the entry at which a fork begins; "" for an execution that is no fork."""
    entry = execution_pb2.CheckpointReference(name=origin.checkpoint, sequence=origin.sequence)
    return f"{origin.execution_id} at {entry_words(entry)}" if origin.execution_id else ""


def seconds_of(time: Timestamp) -> float:
    """Return a moment in seconds since 1970; 0 for none."""
    return time.seconds + time.nanos / 1e9


@dataclass(slots=True)
class Child:
    """The execution of a sub-workflow, as the changes of its parent describe it."""

    execution_id: str
    state: str = "RUNNING"
    error: str = ""


@dataclass(slots=True)
class OpenAttempt:
    """An attempt that has not ended."""

    is_ready: bool = True
    """Whether it waits for an executor."""
    deadline: Timestamp | None = None
    delegated: bool = False
    questions: list[Question] = field(default_factory=list)
    progress: str = ""
    """The progress that it reported last."""


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
    """The number of its items; -1: it is not a with-items task."""
    succeeded: int = 0
    failed: int = 0
    attempt: int = 1
    started_s: float = 0.0
    ended_s: float = 0.0
    superseded: bool = False
    checkpoint: str = ""
    """Its checkpoint, once it is reached."""
    children: dict[tuple[int, int], Child] = field(default_factory=dict)
    """The executions of its sub-workflow by item and attempt, in their order; attempt 0: it is unknown."""
    open: dict[tuple[int, int], OpenAttempt] = field(default_factory=dict)
    """Its actions that have not ended, by item and attempt."""
    told: Waiting = field(default_factory=Waiting)
    """What it waits for, as far as the server reported it for the task itself."""
    ready_since_s: float = 0.0

    def move(self, state: str, info: str, at_s: float, next_at: Timestamp | None = None) -> None:
        """Set a new state, and the time since when it has it."""
        self.state, self.info = state, info
        if state == "RUNNING" and not self.started_s:
            self.started_s = at_s
        self.ended_s = at_s if state in ENDED_TASKS else 0.0
        self.told = Waiting(next_at=next_at, has_begun=bool(self.runs), has_failed=bool(info))

    def begin(self, begun: change_pb2.AttemptsBegun) -> None:
        """Begin a round of attempts. Items that run again are counted as failed ones first."""
        self.attempt = begun.attempt
        if begun.only:
            failed = min(self.failed, len(begun.only))
            self.failed -= failed
            self.succeeded = max(0, self.succeeded - (len(begun.only) - failed))
        else:
            self.items = begun.items if begun.has_items else -1
            self.succeeded = self.failed = 0

    @property
    def progress(self) -> str:
        """Return the progress of its first open item, and how many other items report one."""
        telling = [(place, each.progress) for place, each in self.open.items() if each.progress]
        if not telling:
            return ""
        (item, _), told = min(telling)
        which = f"item {item}: " if self.items >= 0 else ""
        return f"{which}{told}" + (f" (and {len(telling) - 1} more)" if len(telling) > 1 else "")

    def waiting(self, execution_id: str, at_s: float) -> Waiting:
        """Return what it waits for at this time of the server."""
        found = Waiting(
            next_at=self.told.next_at if self.state == "RUNNING_DELAYED" else None,
            has_begun=self.told.has_begun,
            has_failed=self.told.has_failed,
            runs=self.runs,
            joins=self.told.joins if self.state == "WAITING" else "",
        )
        if self.state in ENDED_TASKS:
            return found
        found.progress = self.progress or self.told.progress
        if self.open and all(each.is_ready for each in self.open.values()):
            found.needs_executor = at_s - self.ready_since_s > UNSERVED_S
            found.missing = self.told.missing
        for (item, attempt), each in self.open.items():
            if each.delegated and not found.delegate:
                found.delegate = f"{execution_id}.{self.number}.{item}.{attempt}"
                found.questions = each.questions
            if each.deadline is not None and (
                found.deadline is None or each.deadline.ToNanoseconds() < found.deadline.ToNanoseconds()
            ):
                found.deadline = each.deadline
        return found


UNSERVED_S = 2.0
"""The time after which an action without an executor is shown as waiting for one."""


@dataclass(slots=True)
class ExecutionView:
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
    paused_at: str = ""
    """The checkpoint at which it stands."""
    not_reached: str = ""
    """The checkpoint that it was to stop at and did not reach."""
    next_at: Timestamp | None = None
    """When it continues by itself while it is PAUSED; None: after a resume only."""
    reverting_to: str = ""
    """The checkpoint to which it goes back."""
    stops_at: tuple[str, ...] = ()
    """The checkpoints at the next of which it stops."""
    forked_from: str = ""
    """The execution and the entry at which it begins, if it is a fork."""
    waiting_for: list[str] = field(default_factory=list)
    further_waiting_for: int = 0
    """How many more it waits for than are listed."""
    is_quiet: bool = False
    """Whether nothing has happened for a while."""

    @property
    def ended(self) -> bool:
        """Return whether it is completed."""
        return self.state in ENDED_EXECUTIONS

    @property
    def has_open_tasks(self) -> bool:
        """Return whether there are tasks that have not ended."""
        return not self.ended and any(task.state not in ENDED_TASKS for task in self.tasks.values())

    @property
    def awaited(self) -> list[str]:
        """Return what it waits for while it is PAUSING or CANCELLING: attempts by task, children by id."""
        more = [f"and {self.further_waiting_for} more"] if self.further_waiting_for else []
        return [*(self._awaited(each) for each in self.waiting_for), *more]

    def _awaited(self, identity: str) -> str:
        kind, _, what = identity.partition(" ")
        if kind == "executor" and what:
            return f"an executor that runs {missing_executor(what)}: none is connected"
        if identity == "executor":
            runs = {each.runs for each in self.tasks.values() if each.waiting(self.execution_id, inf).needs_executor}
            return " and ".join(map(executor_for, sorted(runs))) or executor_for("")
        numbers = identity.removeprefix(f"{self.execution_id}.").split(".")
        if len(numbers) != 3 or not all(map(str.isdigit, numbers)):
            return one_line(identity)
        number, item, attempt = map(int, numbers)
        return attempt_name(self.tasks[number].name, number, item, attempt) if number in self.tasks else identity

    def take(self, message: WatchExecutionResponse) -> None:
        """Apply one message of the stream."""
        self.is_quiet = message.WhichOneof("content") == "progress"
        match message.WhichOneof("content"):
            case "snapshot":
                self._take_snapshot(message.snapshot)
            case "changes":
                for change in message.changes.changes:
                    self.apply(change)
                self._await(message.changes)
            case "progress":
                self._await(message.progress)
            case "action_progress":
                for told in message.action_progress.tasks:
                    self._take_progress(told)
            case _:  # content that this program does not know
                pass

    def _await(
        self,
        told: WatchExecutionResponse.ChangeBatch | WatchExecutionResponse.Progress | execution_pb2.Execution,
    ) -> None:
        self.waiting_for, self.further_waiting_for = list(told.waiting_for), told.further_waiting_for

    def _take_progress(self, told: WatchExecutionResponse.TaskProgress) -> None:
        task = self.tasks.get(told.task_number)
        attempt = told.action_execution_id.rpartition(".")[2]
        if task is not None and task.state not in ENDED_TASKS and attempt.isdecimal():
            open_action = task.open.setdefault((told.item, int(attempt)), OpenAttempt(is_ready=False))
            open_action.progress = progress_words(told.progress)
            self.at_s = max(self.at_s, seconds_of(told.progress.at))

    def take_actions(self, actions: Iterable[execution_pb2.ActionExecution]) -> None:
        """Add the actions that have not ended, which a snapshot leaves out."""
        for each in actions:
            task = self.tasks.get(each.task_number)
            if task is not None and task.state not in ENDED_TASKS:
                task.open[each.item, each.attempt] = OpenAttempt(
                    is_ready=each.state == execution_pb2.ACTION_STATE_READY,
                    deadline=each.deadline if each.HasField("deadline") else None,
                    delegated=each.delegated,
                    questions=questions_of(each.action, each.input),
                    progress=progress_words(each.progress) if each.HasField("progress") else "",
                )

    def take_children(self, children: Iterable[execution_pb2.Execution]) -> None:
        """Add the states of sub-workflows, which a snapshot leaves out."""
        for child in children:
            task = self.tasks.get(child.parent_task_number)
            if task is not None:
                known = next((each for each in task.children.values() if each.execution_id == child.id), None)
                known = known or task.children.setdefault((-1, len(task.children)), Child(child.id))
                known.state, known.error = execution_state(child.state), child.state_info

    def take_tasks(self, tasks: Iterable[execution_pb2.TaskExecution]) -> None:
        """Replace tasks by what was read of them since: a change says only how many a revert has altered."""
        for each in tasks:
            task, known = _task_of(each), self.tasks.get(each.number)
            if known is not None:
                task.children = known.children
                task.checkpoint = known.checkpoint if task.state != "REVERTED" else ""
            self.tasks[each.number] = task

    def keep_tasks(self, tasks: Iterable[execution_pb2.TaskExecution]) -> None:
        """Remove the tasks that were discarded: those that there are not any more."""
        kept = {each.number for each in tasks}
        self.tasks = {number: task for number, task in self.tasks.items() if number in kept}

    @property
    def child_ids(self) -> set[str]:
        """Return the ids of the executions of its sub-workflows."""
        return {child.execution_id for task in self.tasks.values() for child in task.children.values()}

    def take_entries(self, entries: Iterable[execution_pb2.CheckpointEntry]) -> None:
        """Add the checkpoints that were reached and stand, which a snapshot leaves out."""
        for each in entries:
            if each.stands and each.task_number in self.tasks:
                self.tasks[each.task_number].checkpoint = each.name

    def _take_snapshot(self, page: WatchExecutionResponse.Snapshot) -> None:
        if page.HasField("execution"):
            execution = page.execution
            self.tasks.clear()
            self.workflow, self.info = execution.workflow, execution.state_info
            self.state = execution_state(execution.state)
            self.started_s = seconds_of(execution.started_at) or seconds_of(execution.created_at)
            self.ended_s = seconds_of(execution.ended_at)
            self.at_s = seconds_of(execution.updated_at)
            self.paused_at, self.not_reached = execution.paused_at.name, execution.not_reached
            self.next_at = execution.next_at if execution.HasField("next_at") else None
            self.reverting_to = execution.reverting_to.name
            self.stops_at = tuple(execution.stop_at)
            self.forked_from = origin_words(execution.forked_from)
            self._await(execution)
        for each in page.tasks:
            self.tasks[each.number] = _task_of(each)

    def apply(self, change: change_pb2.Change) -> None:
        """Apply one change."""
        self.at_s = seconds_of(change.at)
        match change.WhichOneof("kind"):
            case "execution_created":
                self.workflow, self.state = change.execution_created.workflow, "IDLE"
                self.forked_from = origin_words(change.execution_created.forked_from)
                self.started_s = self.at_s
            case "execution_moved":
                moved_to = change.execution_moved
                self.state, self.info = execution_state(moved_to.state), moved_to.state_info
                self.paused_at, self.not_reached = moved_to.paused_at.name, moved_to.not_reached
                self.next_at = moved_to.next_at if moved_to.HasField("next_at") else None
                self.ended_s = self.at_s if self.ended else 0.0
            case "task_added":
                added = change.task_added
                task = Task(added.task_number, added.task_name)
                task.move(task_state(added.state), "", self.at_s)
                self.tasks[added.task_number] = task
            case "task_moved":
                moved = change.task_moved
                next_at = moved.next_at if moved.HasField("next_at") else None
                self._task(moved).move(task_state(moved.state), moved.state_info, self.at_s, next_at)
            case "attempts_begun":
                self._task(change.attempts_begun).begin(change.attempts_begun)
            case "task_superseded":
                self._task(change.task_superseded).superseded = True
            case "checkpoint_reached":
                self._task(change.checkpoint_reached).checkpoint = change.checkpoint_reached.name
            case "revert_begun":
                self.reverting_to = change.revert_begun.to.name
            case "restored":
                self.reverting_to = ""
            case "stops_set":
                self.stops_at = tuple(change.stops_set.names)
            case "attempt_added":
                self._add_attempt(change.attempt_added)
            case "attempt_moved":
                self._move_attempt(change.attempt_moved)
            case _:  # a change that the view does not show
                pass

    def _add_attempt(self, added: change_pb2.AttemptAdded) -> None:
        task = self._task(added)
        task.runs = added.action or task.runs
        task.attempt = max(task.attempt, added.attempt)
        place = (added.item, added.attempt)
        if added.child_execution_id:
            task.children[place] = Child(added.child_execution_id)
        else:
            task.open[place] = OpenAttempt(questions=questions_of(added.action, added.input))
            task.ready_since_s = self.at_s

    def _move_attempt(self, moved: change_pb2.AttemptMoved) -> None:
        task, place = self._task(moved), (moved.item, moved.attempt)
        has_ended = moved.state in _ENDED_ATTEMPTS
        if task.children:
            known = task.children.get(place) or task.children.get((moved.item, 0))
            child = known or task.children.setdefault(place, Child(""))
            child.state, child.error = _action_state(moved.state), moved.error
        elif has_ended:
            task.open.pop(place, None)
        else:
            attempt = task.open.setdefault(place, OpenAttempt())
            attempt.is_ready = moved.state == execution_pb2.ACTION_STATE_READY
            attempt.progress = "" if attempt.is_ready else attempt.progress
            attempt.delegated = moved.delegated
            attempt.deadline = moved.deadline if moved.HasField("deadline") else attempt.deadline
        if not has_ended or moved.attempt != task.attempt:
            return
        if moved.state == execution_pb2.ACTION_STATE_SUCCESS:
            task.succeeded += 1
        else:
            task.failed += 1

    def _task(
        self,
        change: change_pb2.TaskMoved
        | change_pb2.TaskSuperseded
        | change_pb2.CheckpointReached
        | change_pb2.AttemptsBegun
        | change_pb2.AttemptAdded
        | change_pb2.AttemptMoved,
    ) -> Task:
        return self.tasks.setdefault(change.task_number, Task(change.task_number, change.task_name))


def _action_state(state: execution_pb2.ActionState.ValueType) -> str:
    return enum_name(execution_pb2.ActionState.Name(state), "ActionState")


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
        told=waiting_of(found),
    )
    for item, each in enumerate(found.child_execution_ids):  # items begin in their order
        task.children[item, 0] = Child(each, task.state if task.state in ENDED_TASKS and task.items < 0 else "")
    if found.HasField("items"):
        task.items, task.succeeded, task.failed = found.items.total, found.items.succeeded, found.items.failed
    return task
