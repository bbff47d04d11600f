"""What is true of every execution after every event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dalsegno.workflow.changes import (
    AnyChange,
    AttemptAdded,
    AttemptMoved,
    AttemptsBegun,
    ExecutionMoved,
)
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.contexts.context import EMPTY_CONTEXT, Context, merge, publish
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.model import JOIN_ALL, Merge, Workflow
from dalsegno.workflow.records import UNDONE_BY, Attempt, TaskExecution
from dalsegno.workflow.states import (
    COMPLETED_ATTEMPT,
    COMPLETED_TASK,
    QUIET_EXECUTION,
    AttemptState,
    ExecutionState,
    TaskState,
)

Ended = dict[AttemptKey, tuple[object, ...]]
"""What the attempts that have ended came to."""


def ended_attempts(execution: Execution) -> Ended:
    """As they are now, to be compared later."""
    return {
        key: (attempt.state, attempt.result, attempt.error, attempt.input, attempt.ended_s, attempt.delivery)
        for key, attempt in execution.attempts.items()
        if attempt.state in COMPLETED_ATTEMPT
    }


def check_quiet(before: ExecutionState, changes: Sequence[AnyChange | Consolidated]) -> None:
    """Nothing is started or handed out while the execution is quiet (O4, O14)."""
    state = before
    for change in changes:
        if isinstance(change, ExecutionMoved):
            state = change.state
        elif state in QUIET_EXECUTION:
            assert not isinstance(change, AttemptAdded | AttemptsBegun), (state, change)
            assert not (isinstance(change, AttemptMoved) and change.delivery), (state, change)


def check_execution(execution: Execution, workflow: Workflow, *, has_gone_back: bool = False) -> None:
    """Everything that holds of one execution whatever has happened to it."""
    check_task_indexes(execution)
    check_attempt_indexes(execution)
    check_states(execution)
    for task in execution.tasks.values():
        check_rounds(execution, task, has_gone_back=has_gone_back)
        check_join(workflow, task)
        check_arrivals(execution, task)
    if workflow.rules.merge is Merge.MOST_PUBLISHED:
        check_contexts(execution)


def check_task_indexes(execution: Execution) -> None:
    """The indexes over tasks are what the records say."""
    tasks = execution.tasks
    assert list(tasks) == list(range(1, len(tasks) + 1))

    def numbers(chosen: Sequence[TaskExecution]) -> set[int]:
        return {task.number for task in chosen}

    every = list(tasks.values())
    counting = [task for task in every if not task.superseded_by]
    has_ended = [task.is_completed or task.state is TaskState.REVERTING for task in every if task.superseded_by]
    assert all(has_ended), "superseded before its end"
    expected = {
        "incomplete": numbers([task for task in counting if task.state not in COMPLETED_TASK]),
        "idle": numbers([task for task in every if task.state is TaskState.IDLE]),
        "waiting": numbers([task for task in every if task.state is TaskState.WAITING]),
        "unhandled": numbers([task for task in counting if task.state is TaskState.ERROR and not task.handled]),
        "cancelled": numbers([task for task in counting if task.state is TaskState.CANCELLED]),
        "unrouted": numbers([task for task in counting if task.is_completed and not task.routed]),
        "ends": numbers([task for task in counting if task.is_completed and _is_end(task)]),
    }
    for name, found in expected.items():
        assert set(getattr(execution, name)) == found, name
    for name in execution.by_name:
        newest = max((task.number for task in counting if task.name == name), default=None)
        latest = execution.latest(name)
        assert (None if latest is None else latest.number) == newest, f"the newest {name}"
        assert execution.latest_on(name, 0) is latest or execution.route_count > 1
    by_name: dict[str, list[int]] = {}
    for task in every:
        if task.superseded_by == UNDONE_BY:
            continue  # it did not exist at the entry to which the execution has gone back
        by_name.setdefault(task.name, []).append(task.number)
    assert execution.by_name == by_name


def _is_end(task: TaskExecution) -> bool:
    """Whether what it published by its clauses reaches the output."""
    return not (task.next or task.ends) or -1 in task.ends


def check_attempt_indexes(execution: Execution) -> None:
    """The indexes over attempts and the counts are what the records say."""
    attempts = execution.attempts
    assert set(execution.ready) == {key for key, each in attempts.items() if each.state is AttemptState.READY}
    assert set(execution.children) == {
        key for key, each in attempts.items() if each.child_id and each.state not in COMPLETED_ATTEMPT
    }
    assert execution.active_count == sum(each.is_active for each in attempts.values())
    by_task: dict[int, list[Attempt]] = {}
    for key, each in attempts.items():
        if execution.is_current(key):
            by_task.setdefault(key[0], []).append(each)
    for task in execution.tasks.values():
        current = by_task.get(task.number, [])
        counts = Counter(attempt.state for attempt in current)
        assert task.progress.added_count == len(current)
        assert task.progress.ended_count == sum(counts[state] for state in COMPLETED_ATTEMPT)
        assert task.progress.failed_count == counts[AttemptState.ERROR]
        assert task.progress.cancelled_count == counts[AttemptState.CANCELLED]
        failed = {one.key[1] for one in current if one.state in (AttemptState.ERROR, AttemptState.CANCELLED)}
        assert set(task.progress.failed_items) == failed
        is_kept = not any(key[0] == task.number and one.accepted for key, one in attempts.items() if one not in current)
        assert is_kept, "an attempt counts whose place another one has taken"


_BACK = frozenset({ExecutionState.REVERTED, ExecutionState.REVERT_ERROR})


def check_states(execution: Execution) -> None:
    """Who runs has something to wait for; who has ended has an end."""
    if execution.state is ExecutionState.RUNNING:
        assert set(execution.incomplete) - set(execution.waiting), "nothing can ever happen to it"
        assert not execution.unrouted
    assert (execution.ended_s is not None) == execution.is_completed
    has_output = execution.is_completed and execution.state not in _BACK
    assert (execution.output is not None) == has_output
    awaited = execution.active_count or (execution.waits_for_delegates and execution.delegates)
    if execution.state is ExecutionState.PAUSING:
        assert awaited, "it should be PAUSED"
    if execution.state is ExecutionState.CANCELLING:
        reverts = execution.revert is not None and execution.revert.open
        assert awaited or execution.children or reverts, "it should be CANCELLED"
    for task in execution.tasks.values():
        assert (task.timing.due_s is not None) == (task.state is TaskState.RUNNING_DELAYED)
        goes_forward = not execution.is_completed and execution.revert is None and not task.progress.awaiting
        is_single = task.progress.item_count is None and goes_forward
        if is_single and task.state in (TaskState.RUNNING, TaskState.PAUSED):
            current = execution.current(task)
            assert current is not None, f"{task.name} runs nothing"
            assert current.state not in COMPLETED_ATTEMPT, f"{task.name} waits for what has ended"
            assert (current.state is AttemptState.PAUSED) == (task.state is TaskState.PAUSED)


def check_rounds(execution: Execution, task: TaskExecution, *, has_gone_back: bool = False) -> None:
    """A task execution has one round of attempts, and one more for each retry, each operation and each way back."""
    children = [one.child_id for key, one in execution.attempts.items() if key[0] == task.number and one.child_id]
    numbered = [(key, one) for key, one in execution.attempts.items() if key[0] == task.number]
    is_again = task.edition or len(set(children)) < len(children) or task.last_attempt > task.progress.attempt
    is_again = is_again or any(one.is_undone or one.reverts or one.child_is_reverted for _, one in numbered)
    is_again = is_again or has_gone_back
    assert is_again or task.progress.attempt in (0, task.progress.retries + 1), (
        f"{task.name}: round {task.progress.attempt}"
    )
    assert all(key[2] <= task.last_attempt for key, _ in numbered)
    assert all(key[2] <= task.progress.attempt or one.is_undone or one.reverts for key, one in numbered)
    if task.progress.item_count is None:
        assert task.progress.added_count <= 1
    else:
        assert task.progress.added_count <= task.progress.item_count
        begun = {item for item in range(task.progress.item_count) if execution.current(task, item) is not None}
        assert len(begun) == task.progress.added_count
        assert begun.isdisjoint(task.progress.pending[task.progress.begun_count :]), "what is to run has run already"
        if task.progress.concurrency is not None and len(set(children)) == len(children):
            assert task.progress.added_count - task.progress.ended_count <= task.progress.concurrency


def check_arrivals(execution: Execution, task: TaskExecution) -> None:
    """Where a task has led, its arrival stands, in time or late; what was taken back stands nowhere (decision 3)."""
    if task.superseded_by == UNDONE_BY:
        return
    for number in task.next if task.routed and not task.superseded_by else ():
        reached = execution.tasks[number]
        assert task.number in reached.arrivals.sources or task.number in reached.arrivals.late, (
            f"{task.name} is forgotten"
        )
    for source in task.arrivals.late:
        led = execution.tasks[source]
        assert not led.superseded_by, f"{led.name} is put aside, its arrival at {task.name} is not"
        assert task.number in led.next, f"{led.name} has not led to {task.name}"


def check_join(workflow: Workflow, task: TaskExecution) -> None:
    """A join that has started was selected by as many as it needs, each counted once (S7)."""
    spec = workflow.tasks[task.name]
    assert task.arrivals.arrived <= set(spec.inbound) | set(spec.requires)
    if (
        spec.has_join and task.progress.attempt and not task.edition
    ):  # a failed join may be run as it is, when that is asked
        needed = len(spec.inbound) if spec.join == JOIN_ALL else spec.join or 1
        assert len(task.arrivals.arrived) >= needed


def check_contexts(execution: Execution) -> None:
    """What is remembered of contexts is what one gets when they are put together from nothing."""
    fresh_in: dict[int, Context] = {}
    fresh_out: dict[tuple[int, int], Context] = {}

    def context_out(number: int, edition: int) -> Context:
        if (number, edition) not in fresh_out:
            task = execution.tasks[number]
            published, edits = task.publication.before_edits, task.publication.edits
            if edition != task.edition:
                former = task.former[edition]
                published, edits = former.values, former.edits
            context = publish(context_in(number), published)
            for _, edited in edits:
                context = publish(context, edited)
            fresh_out[number, edition] = context
        return fresh_out[number, edition]

    def context_in(number: int) -> Context:
        if number not in fresh_in:
            merged = EMPTY_CONTEXT
            task = execution.tasks[number]
            for source in task.arrivals.sources:
                merged = merge(merged, context_out(source, task.arrivals.editions.get(source, 0)))
            fresh_in[number] = merged
        return fresh_in[number]

    for number, task in execution.tasks.items():
        if task.context_in is not None:
            assert task.context_in == context_in(number), f"what {task.name} sees"
        if task.context_out is not None:
            assert task.context_out == context_out(number, task.edition), f"what {task.name} passes on"
