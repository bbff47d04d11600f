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
from dalsegno.workflow.context import EMPTY_CONTEXT, Context, merge, publish
from dalsegno.workflow.execution import Execution, TaskExecution
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.model import JOIN_ALL, Workflow
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


def check_quiet(before: ExecutionState, changes: Sequence[AnyChange]) -> None:
    """Nothing is started or handed out while the execution is quiet (O4, O14)."""
    state = before
    for change in changes:
        if isinstance(change, ExecutionMoved):
            state = change.state
        elif state in QUIET_EXECUTION:
            assert not isinstance(change, AttemptAdded | AttemptsBegun), (state, change)
            assert not (isinstance(change, AttemptMoved) and change.delivery), (state, change)


def check_execution(execution: Execution, workflow: Workflow) -> None:
    """Everything that holds of one execution whatever has happened to it."""
    check_task_indexes(execution)
    check_attempt_indexes(execution)
    check_states(execution)
    for task in execution.tasks.values():
        check_rounds(execution, task)
        check_join(workflow, task)
    check_contexts(execution)


def check_task_indexes(execution: Execution) -> None:
    """The indexes over tasks are what the records say."""
    tasks = execution.tasks
    assert list(tasks) == list(range(1, len(tasks) + 1))

    def numbers(chosen: Sequence[TaskExecution]) -> set[int]:
        return {task.number for task in chosen}

    every = list(tasks.values())
    expected = {
        "incomplete": numbers([task for task in every if task.state not in COMPLETED_TASK]),
        "idle": numbers([task for task in every if task.state is TaskState.IDLE]),
        "waiting": numbers([task for task in every if task.state is TaskState.WAITING]),
        "unhandled": numbers([task for task in every if task.state is TaskState.ERROR and not task.handled]),
        "cancelled": numbers([task for task in every if task.state is TaskState.CANCELLED]),
        "unrouted": numbers([task for task in every if task.is_completed and not task.routed]),
        "ends": numbers([task for task in every if task.is_completed and not task.next]),
    }
    for name, found in expected.items():
        assert set(getattr(execution, name)) == found, name
    by_name: dict[str, list[int]] = {}
    for task in every:
        by_name.setdefault(task.name, []).append(task.number)
    assert execution.by_name == by_name


def check_attempt_indexes(execution: Execution) -> None:
    """The indexes over attempts and the counts are what the records say."""
    attempts = execution.attempts
    assert set(execution.ready) == {key for key, each in attempts.items() if each.state is AttemptState.READY}
    assert set(execution.children) == {
        key for key, each in attempts.items() if each.child_id and each.state not in COMPLETED_ATTEMPT
    }
    assert execution.active_count == sum(each.is_active for each in attempts.values())
    for task in execution.tasks.values():
        current = [attempt for key, attempt in attempts.items() if (key[0], key[2]) == (task.number, task.attempt)]
        counts = Counter(attempt.state for attempt in current)
        assert task.added_count == len(current)
        assert task.ended_count == sum(counts[state] for state in COMPLETED_ATTEMPT)
        assert task.failed_count == counts[AttemptState.ERROR]
        assert task.cancelled_count == counts[AttemptState.CANCELLED]


def check_states(execution: Execution) -> None:
    """Who runs has something to wait for; who has ended has an end."""
    if execution.state is ExecutionState.RUNNING:
        assert set(execution.incomplete) - set(execution.waiting), "nothing can ever happen to it"
        assert not execution.unrouted
    assert (execution.ended_s is not None) == execution.is_completed
    assert (execution.output is not None) == execution.is_completed
    if execution.state is ExecutionState.PAUSING:
        assert execution.active_count, "it should be PAUSED"
    if execution.state is ExecutionState.CANCELLING:
        assert execution.active_count or execution.children, "it should be CANCELLED"
    for task in execution.tasks.values():
        assert (task.due_s is not None) == (task.state is TaskState.RUNNING_DELAYED)
        is_single = task.item_count is None and not execution.is_completed
        if is_single and task.state in (TaskState.RUNNING, TaskState.PAUSED):
            current = execution.current(task)
            assert current is not None, f"{task.name} runs nothing"
            assert current.state not in COMPLETED_ATTEMPT, f"{task.name} waits for what has ended"
            assert (current.state is AttemptState.PAUSED) == (task.state is TaskState.PAUSED)


def check_rounds(execution: Execution, task: TaskExecution) -> None:
    """A task execution has one round of attempts, and one more for each retry."""
    assert task.attempt in (0, task.retries + 1), f"{task.name}: round {task.attempt} after {task.retries} retries"
    rounds = Counter(key[2] for key in execution.attempts if key[0] == task.number)
    assert all(number <= task.attempt for number in rounds)
    if task.item_count is None:
        assert all(count == 1 for count in rounds.values())
    else:
        assert task.added_count <= task.item_count
        if task.concurrency is not None:
            assert task.added_count - task.ended_count <= task.concurrency


def check_join(workflow: Workflow, task: TaskExecution) -> None:
    """A join that has started was selected by as many as it needs, each counted once (S7)."""
    spec = workflow.tasks[task.name]
    assert task.arrived <= set(spec.inbound) | set(spec.requires)
    if spec.has_join and task.attempt:
        needed = len(spec.inbound) if spec.join == JOIN_ALL else spec.join or 1
        assert len(task.arrived) >= needed


def check_contexts(execution: Execution) -> None:
    """What is remembered of contexts is what one gets when they are put together from nothing."""
    fresh_in: dict[int, Context] = {}
    fresh_out: dict[int, Context] = {}

    def context_out(number: int) -> Context:
        if number not in fresh_out:
            task = execution.tasks[number]
            fresh_out[number] = publish(context_in(number), task.published)
        return fresh_out[number]

    def context_in(number: int) -> Context:
        if number not in fresh_in:
            merged = EMPTY_CONTEXT
            for source in execution.tasks[number].sources:
                merged = merge(merged, context_out(source))
            fresh_in[number] = merged
        return fresh_in[number]

    for number, task in execution.tasks.items():
        if task.context_in is not None:
            assert task.context_in == context_in(number), f"what {task.name} sees"
        if task.context_out is not None:
            assert task.context_out == context_out(number), f"what {task.name} passes on"
