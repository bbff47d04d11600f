"""An execution in memory, and `apply`, the only function that alters it.

Beside the records an execution keeps indexes, so that no decision has to search the whole of it: which tasks are
incomplete, failed or cancelled, how many actions are active, the last tasks of each branch. The functions that apply
changes keep the indexes too; they are never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import immutables

from dalsegno.workflow.applying import (
    attempts,
    indexes,
    keeping,
    publishing,
    restoring,
    reverting,
    rounds,
    undoing,
)
from dalsegno.workflow.applying.publishing import HOLDS_SECRET
from dalsegno.workflow.changes import (
    AnyChange,
    Arrival,
    AttemptAdded,
    AttemptMoved,
    AttemptsBegun,
    CheckpointReached,
    ContextEdited,
    EnvironmentChanged,
    ErrorNoted,
    ExecutionCreated,
    ExecutionMoved,
    GlobalsPublished,
    HistoryDiscarded,
    JoinReached,
    Published,
    Restored,
    ResultDropped,
    RevertBegun,
    RevertMoved,
    RoundPlanned,
    RouteOpened,
    StopsSet,
    SubflowReverted,
    TaskAdded,
    TaskMoved,
    TaskRouted,
    TaskSuperseded,
    TaskTimed,
    Timer,
)
from dalsegno.workflow.contexts.context import Context
from dalsegno.workflow.contexts.layers import Layers
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.records import (
    Attempt,
    End,
    Entry,
    Kept,
    Reverting,
    Start,
    TaskExecution,
    Writes,
    error_bytes,
    error_key,
)
from dalsegno.workflow.states import (
    COMPLETED_ATTEMPT,
    COMPLETED_EXECUTION,
    COMPLETED_TASK,
    LIVE,
    TAKEN,
    TAKEN_IN_REVERT,
    ExecutionState,
    Request,
    TaskState,
    check_execution_move,
    check_task_move,
)
from dalsegno.workflow.value import NULL, Value

_REVERTS, _TASK_RUNNING = frozenset({TaskState.REVERTED, TaskState.REVERT_ERROR}), TaskState.RUNNING


class Execution:
    """One run of a workflow."""

    # Without slots, this many attributes do not fit into the shared table of the class, and each access costs twice.
    __slots__ = (
        "active_count",
        "again_at",
        "arrival",
        "attempts",
        "branch_ends",
        "by_name",
        "by_route",
        "cancelled",
        "children",
        "consolidated_size",
        "created",
        "delegates",
        "edit_count",
        "end_context",
        "ended",
        "ended_s",
        "ends",
        "entries",
        "environment",
        "error_bytes",
        "error_keys",
        "errors",
        "first_sequence",
        "generation",
        "global_writes",
        "globals",
        "globals_of",
        "goes_on_s",
        "holds_secrets",
        "id",
        "idle",
        "incomplete",
        "info",
        "input",
        "is_paused_by_report",
        "is_watched",
        "kept",
        "latest_s",
        "lost",
        "moved_s",
        "not_reached",
        "output",
        "parent_revision",
        "paused_at",
        "paused_s",
        "paused_since_s",
        "ready",
        "reported_errors",
        "revert",
        "revision",
        "root_id",
        "route_count",
        "route_numbers",
        "routes",
        "start",
        "started_s",
        "state",
        "stop_at",
        "task_count",
        "tasks",
        "trimmed",
        "unhandled",
        "unrouted",
        "untrimmed",
        "waiting",
        "waits_for_delegates",
    )

    def __init__(self, created: ExecutionCreated) -> None:
        self.created = created
        self.id = created.execution_id
        self.root_id = created.root_id or created.execution_id
        params = created.params.data
        self.is_watched = isinstance(params, dict) and "notify" in params  # whether there may be receivers of notices
        self.state, self.info = ExecutionState.IDLE, ""
        self.output: Value | None = None
        self.revision, self.first_sequence = 0, created.sequence  # the sequences of the last and the first change
        self.parent_revision = 0  # that of the parent when it gave the newest of its orders that has arrived
        self.again_at = 0  # the newest change by which it has left an end, unless its parent had ordered that
        self.started_s: float | None = None
        self.ended_s: float | None = None
        self.moved_s = self.latest_s = created.at_s  # latest_s: of the newest change that has one, it never goes back
        self.paused_since_s: float | None = None
        self.paused_s = 0.0
        self.tasks: dict[int, TaskExecution] = {}
        self.task_count = 0
        """How many task executions there have ever been: the highest number of one. Some of them may be gone."""
        self.attempts: dict[AttemptKey, Attempt] = {}
        self.globals: immutables.Map[str, Value] = immutables.Map()
        self.global_writes: dict[str, Writes] = {}
        self.globals_of: dict[int, set[str]] = {}
        """The variables that each task has written."""
        self.input, self.environment = created.input, created.environment
        self.holds_secrets = HOLDS_SECRET[ExecutionCreated](created)
        """Whether expressions may meet a secret in it. Once true it stays so."""
        self.edit_count = 0
        """How often the context or the environment has been edited."""
        self.generation = 0
        """How many operations have reopened tasks."""
        self.errors: list[ErrorNoted] = []
        self.reported_errors: Value | None = None
        """The list of errors as it was reported when the execution ended, or later."""
        self.error_keys: set[tuple[object, ...]] = set()
        self.error_bytes = 0
        """The most bytes that the list of errors takes."""
        self.is_paused_by_report = False  # whether reports of its own actions have caused PAUSED or PAUSING
        self.waits_for_delegates = False  # while PAUSING or CANCELLING
        self.entries: dict[int, Entry] = {}
        """The entries of checkpoints by sequence, in order, without `start`."""
        self.start: Start | None = None
        """The entry `start`; None: its first tasks are not created yet."""
        self.kept: Kept | None = None
        """What the newest entry that stands keeps; None: no checkpoint has been reached."""
        self.revert: Reverting | None = None
        """The way back to an entry, until the state of the entry is restored."""
        self.goes_on_s: float | None = None
        """While PAUSED: when it goes on by itself."""
        self.paused_at = 0
        """The sequence of the entry at which it stands; 0: it stands at none."""
        self.stop_at = created.stop_at
        """The checkpoints at which it stops."""
        self.arrival: Arrival | None = None
        """What happens there, when a go-to asked for it; None: it stops."""
        self.not_reached = ""
        """The checkpoints at which it was to stop when it ended."""
        self._start_discards()
        self._start_routes()
        self._start_indexes()

    def _start_discards(self) -> None:
        """Start with nothing discarded."""
        self.lost: dict[str, None] = {}
        """The names of the checkpoints of which entries are discarded."""
        self.consolidated_size = 0
        """How many task executions and attempts its journal begins with."""
        self.untrimmed = 0
        """How many task executions were discarded since contexts were trimmed."""
        self.end_context: Context | Layers | None = None
        """The merge of what the branches had published that have ended and are discarded; None: there are none."""

    def _start_routes(self) -> None:
        """Start with the first route."""
        self.routes: dict[int, tuple[str, ...]] = {0: ()}
        """The transitions that opened each route and those that it came from, by its number; some may be gone."""
        self.route_count = 1
        """How many routes there have ever been, the first one included."""
        self.route_numbers: dict[tuple[str, ...], int] = {(): 0}
        """The number of each route that counts."""

    def _start_indexes(self) -> None:
        """Start with empty indexes; dicts serve as ordered sets."""
        self.by_name: dict[str, list[int]] = {}
        self.trimmed: dict[str, int] = {}
        """How many of the newest task executions of a name are superseded, where any are."""
        self.by_route: dict[tuple[str, int], int] = {}
        self.incomplete: dict[int, None] = {}
        self.idle: dict[int, None] = {}
        self.waiting: dict[int, None] = {}
        self.unhandled: dict[int, None] = {}
        self.cancelled: dict[int, None] = {}
        self.unrouted: dict[int, None] = {}
        self.ends: dict[int, None] = {}
        self.ended: list[End] = []
        """The ends of tasks and items, in order."""
        self.branch_ends: dict[tuple[int, int], int] = {}
        """The branches of tasks that ended in an engine command, and the revision at which they did."""
        self.ready: dict[AttemptKey, None] = {}
        self.children: dict[AttemptKey, None] = {}
        self.delegates: dict[AttemptKey, None] = {}
        """The attempts that a third party is to complete."""
        self.active_count = 0

    @property
    def is_completed(self) -> bool:
        return self.state in COMPLETED_EXECUTION

    @property
    def is_live(self) -> bool:
        """Whether it goes on forward, now or after a resume: failed tasks may be retried, transitions count."""
        return self.state in LIVE and self.revert is None

    def takes(self, request: Request) -> bool:
        """Return whether it takes such a request in its present state."""
        return self.state in (TAKEN if self.revert is None else TAKEN_IN_REVERT)[request]

    @property
    def entry_edited(self) -> int:
        """Return the sequence of the entry that an edit belongs to; 0: of none (decision 19)."""
        entry = self.entries.get(self.paused_at)
        is_newest = self.kept is None if entry is None else entry.kept is self.kept
        return self.paused_at if is_newest else 0

    def as_at(self, sequence: int) -> Kept:
        """Return what has to be put back to go back to the entry that stands with this sequence."""
        return restoring.gathered(self, sequence)

    def added_since(self, kept: Kept) -> list[TaskExecution]:
        """Return the task executions that did not exist at an entry, without those that are discarded."""
        return restoring.added_since(self, kept)

    @property
    def start_sequence(self) -> int:
        """Return the sequence of the entry `start`; 0: it has none yet."""
        return 0 if self.start is None else self.start.sequence

    @property
    def is_at_rest(self) -> bool:
        """Whether it has ended and no action of it runs any more: it may be deleted."""
        return self.is_completed and self.active_count == 0

    def latest(self, name: str) -> TaskExecution | None:
        """Return the newest task execution of this name that counts."""
        numbers = self.by_name.get(name)
        if not numbers:
            return None
        trimmed = self.trimmed.get(name, 0)
        return self.tasks[numbers[-1 - trimmed]] if trimmed < len(numbers) else None

    def latest_on(self, name: str, route: int) -> TaskExecution | None:
        """Return the newest task execution of this name on this route that counts."""
        number = self.by_route.get((name, route))
        return None if number is None else self.tasks[number]

    def current(self, task: TaskExecution, item: int = 0) -> Attempt | None:
        """Return the task's present attempt for this item, if it exists."""
        return self.attempts.get((task.number, item, task.progress.round_of(item)))

    def is_current(self, key: AttemptKey) -> bool:
        """Return whether this is the present attempt of its item."""
        return self.tasks[key[0]].progress.round_of(key[1]) == key[2]

    def current_attempts(self, task: TaskExecution) -> Iterable[Attempt]:
        """Return all present attempts of the task, in the order of the items."""
        progress = task.progress
        count = progress.item_count if progress.rounds and progress.item_count is not None else progress.added_count
        for item in range(count):
            attempt = self.attempts.get((task.number, item, progress.round_of(item)))
            if attempt is not None:
                yield attempt

    def has_result(self, task: TaskExecution) -> bool:
        """Return whether the task's only attempt, or any of its items, has a result that counts, and no retry
        follows."""
        if task.progress.item_count is not None:
            return True
        attempt = self.current(task)
        return attempt is not None and attempt.accepted and task.timing.timer is not Timer.RETRY

    def result(self, task: TaskExecution) -> object:
        """Return the task's result as expressions see it: that of its attempt, or the list over its items (S13)."""
        progress = task.progress
        if progress.item_count is None:
            attempt = self.current(task)
            if progress.result_dropped or attempt is None or attempt.result is None:
                return None
            return attempt.result.data
        if progress.result_dropped:
            return [None] * progress.item_count
        return [
            (attempt.result or NULL).data
            for attempt in self.current_attempts(task)
            if attempt.state in COMPLETED_ATTEMPT
        ]

    def apply(self, change: AnyChange) -> None:
        """Alter the execution by one change and count it. Raise IllegalMove before anything is altered."""
        if self.kept is not None:
            keeping.keep(self, self.kept, change)
        _APPLIERS[type(change)](self, change)
        holds_secret = HOLDS_SECRET.get(type(change))
        if holds_secret is not None and not self.holds_secrets:
            self.holds_secrets = holds_secret(change)
        at_s = getattr(change, "at_s", 0.0)
        if at_s > self.latest_s:
            self.latest_s = at_s
        self.revision += 1


def _move_execution(execution: Execution, change: ExecutionMoved) -> None:
    old = execution.state
    if change.state is not old:
        check_execution_move(old, change.state)
    execution.state, execution.info, execution.moved_s = change.state, change.info, change.at_s
    execution.is_paused_by_report = change.reported
    execution.waits_for_delegates = change.waits_for_delegates
    execution.paused_at, execution.not_reached = change.paused_at, change.not_reached
    execution.goes_on_s = change.goes_on_s
    execution.parent_revision = max(execution.parent_revision, change.parent_revision)
    if old in COMPLETED_EXECUTION and not execution.is_completed and not change.parent_revision:
        execution.again_at = execution.revision + 1
    if change.output is not None:
        execution.output = change.output
    elif old in COMPLETED_EXECUTION and not execution.is_completed:
        execution.output = None
        undoing.forget_errors(execution, lambda error: error.is_output)
    if change.errors is not None or change.state is not old:
        execution.reported_errors = change.errors
    if execution.started_s is None and change.state is ExecutionState.RUNNING:
        execution.started_s = change.at_s
    if not execution.is_completed:
        execution.ended_s = None
    elif change.state is not old:
        execution.ended_s = change.at_s
    if change.state is ExecutionState.PAUSED and execution.paused_since_s is None:
        execution.paused_since_s = change.at_s
    elif execution.paused_since_s is not None and change.state is not ExecutionState.PAUSED:
        execution.paused_s += change.at_s - execution.paused_since_s
        execution.paused_since_s = None


def _publish_globals(execution: Execution, change: GlobalsPublished) -> None:
    undoing.write_globals(execution, change.task, change.values)


def _add_task(execution: Execution, change: TaskAdded) -> None:
    task = TaskExecution(change.task, change.name, change.state, generation=change.generation, created_s=change.at_s)
    task.route, task.added_at = change.route, execution.revision
    task.arrivals.awaits, task.tags = change.awaits, change.tags
    if change.opens:
        _add_route(execution, execution.tasks[change.sources[0]], change.opens)
    for source in change.sources:
        _add_source(execution, task, source, change.branch)
    if not change.sources:
        _add_first(execution, change)
    execution.tasks[change.task], execution.task_count = task, change.task
    execution.by_name.setdefault(change.name, []).append(change.task)
    execution.by_route[change.name, change.route] = change.task
    execution.trimmed.pop(change.name, None)
    indexes.index(execution, task)


def _add_first(execution: Execution, change: TaskAdded) -> None:
    """The entry `start` stands behind the last of the first tasks, which are created in a row."""
    if execution.start_sequence in (0, execution.revision):
        execution.start = Start(
            execution.revision + 1, change.task, execution.globals, execution.input, execution.environment
        )


def _open_route(execution: Execution, change: RouteOpened) -> None:
    _add_route(execution, execution.tasks[change.task], change.transition)


def _add_route(execution: Execution, source: TaskExecution, transition: str) -> None:
    route = (*execution.routes[source.route], transition)
    execution.routes[execution.route_count] = route
    execution.route_numbers.setdefault(route, execution.route_count)
    execution.route_count += 1


def _move_task(execution: Execution, change: TaskMoved) -> None:
    task = execution.tasks[change.task]
    timing = task.timing
    check_task_move(task.number, task.state, change.state)
    old = task.state
    if change.generation:
        undoing.reopen(execution, task, change)
        task.entry = 0
    task.state, task.info = change.state, change.info
    timing.timer, timing.due_s, timing.verdict = change.timer, change.due_s, change.verdict
    if task.is_completed:
        task.ended_at = execution.revision + 1
        if old not in COMPLETED_TASK and change.state not in _REVERTS and task.progress.attempt:
            attempts.end(execution, task, -1, task.progress.attempt, change.state)
        task.ended_s, timing.timeout_due_s, task.routed, task.progress.plan = change.at_s, None, False, None
    elif task.started_s is None and change.state is _TASK_RUNNING:
        task.started_s = change.at_s
    indexes.index(execution, task)


def _time_task(execution: Execution, change: TaskTimed) -> None:
    task = execution.tasks[change.task]
    task.timing.timeout_due_s, task.timing.timeout_paused_s = change.due_s, execution.paused_s


def _reach_join(execution: Execution, change: JoinReached) -> None:
    join = execution.tasks[change.task]
    arrivals = join.arrivals
    if change.late:
        arrivals.late = arrivals.late or {}
        arrivals.late[change.source] = (*arrivals.late.get(change.source, ()), change.branch)
        return
    _add_source(execution, join, change.source, change.branch, change.edition)
    join.context_in = join.context_out = None


def _add_source(execution: Execution, task: TaskExecution, source: int, branch: int, edition: int = 0) -> None:
    arrivals = task.arrivals
    arrivals.sources.append(source)
    arrivals.by_branches.append(branch)
    led = execution.tasks[source]
    arrivals.arrived.add(led.name)
    arrivals.late.pop(source, None)
    if led.edition:
        arrivals.editions = arrivals.editions or {}
        arrivals.editions[source] = edition or led.edition
    task.generation = max(task.generation, led.generation)


def _route_task(execution: Execution, change: TaskRouted) -> None:
    task = execution.tasks[change.task]
    task.routed, task.next, task.handled = True, change.next, change.handled
    for branch in task.ends:
        if branch not in change.ends:
            execution.branch_ends.pop((task.number, branch), None)
    task.ends = change.ends
    for branch in change.ends:
        if branch >= 0:
            execution.branch_ends.setdefault((task.number, branch), execution.revision)
    indexes.index(execution, task)


def _note_error(execution: Execution, change: ErrorNoted) -> None:
    execution.errors.append(change)
    execution.error_keys.add(error_key(change))
    execution.error_bytes += error_bytes(change)


def _supersede_task(execution: Execution, change: TaskSuperseded) -> None:
    task = execution.tasks[change.task]
    undoing.supersede(execution, task, change.by)
    indexes.index(execution, task)


def _change_environment(execution: Execution, change: EnvironmentChanged) -> None:
    execution.environment = change.environment
    execution.edit_count += 1
    if change.entry:
        keeping.include(execution, change)


def _edit(execution: Execution, change: ContextEdited) -> None:
    undoing.edit(execution, change)
    if change.entry:
        keeping.include(execution, change)


def _drop_result(execution: Execution, change: ResultDropped) -> None:
    execution.tasks[change.task].progress.result_dropped = True


def _set_stops(execution: Execution, change: StopsSet) -> None:
    execution.stop_at, execution.arrival = change.names, change.arrival


def _restore(execution: Execution, change: Restored) -> None:
    restoring.restore(execution, change, lambda task: indexes.index(execution, task))


def _move_revert(execution: Execution, change: RevertMoved) -> None:
    reverting.move(execution, change)
    if change.child is not None:
        execution.attempts[change.child].child_revision = change.child_revision


def _revert_subflow(execution: Execution, change: SubflowReverted) -> None:
    awaiting = execution.tasks[change.key[0]].progress.awaiting
    execution.attempts[change.key].child_is_reverted = not change.failed
    if change.failed:
        del awaiting[change.key[1]]
    else:
        awaiting[change.key[1]] = change.done


def _discard(execution: Execution, change: HistoryDiscarded) -> None:
    """The step that decided it has discarded already, and a journal that has it begins with what is left."""
    assert execution.first_sequence >= change.sequence, "the history was discarded: load the execution anew"


_APPLIERS: dict[type, Callable[[Execution, Any], None]] = {
    ExecutionMoved: _move_execution,
    GlobalsPublished: _publish_globals,
    TaskAdded: _add_task,
    TaskMoved: _move_task,
    TaskSuperseded: _supersede_task,
    TaskTimed: _time_task,
    JoinReached: _reach_join,
    TaskRouted: _route_task,
    RouteOpened: _open_route,
    RoundPlanned: rounds.plan,
    AttemptsBegun: rounds.begin,
    AttemptAdded: attempts.add,
    AttemptMoved: attempts.move,
    Published: publishing.publish,
    ErrorNoted: _note_error,
    ContextEdited: _edit,
    EnvironmentChanged: _change_environment,
    ResultDropped: _drop_result,
    CheckpointReached: keeping.reach,
    StopsSet: _set_stops,
    RevertBegun: reverting.begin,
    RevertMoved: _move_revert,
    Restored: _restore,
    SubflowReverted: _revert_subflow,
    HistoryDiscarded: _discard,
}
