"""What is true of an execution that has gone back to an entry of a checkpoint (decisions 17 to 19)."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any

from dalsegno.workflow.changes import (
    AnyChange,
    AttemptAdded,
    ContextEdited,
    EnvironmentChanged,
    ExecutionMoved,
    Restored,
    RevertBegun,
    RevertMoved,
    RevertState,
)
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.journal import replay
from dalsegno.workflow.model import RevertWhen, Workflow
from dalsegno.workflow.records import End
from dalsegno.workflow.states import AttemptState, TaskState

OPEN = ("incomplete", "idle", "waiting")
ENDED = ("unrouted", "ends", "unhandled", "cancelled")


def as_it_counts(execution: Execution) -> dict[str, Any]:
    """What everything that follows depends on."""
    counting = [execution.tasks[number] for numbers in execution.by_name.values() for number in numbers]
    found = {
        "tasks": {
            task.number: (
                *(
                    task.name,
                    str(task.state),
                    task.route,
                    task.edition,
                    task.entry,
                    task.routed,
                    task.next,
                    task.handled,
                ),
                *(
                    task.ends,
                    task.superseded_by,
                    task.generation,
                    task.timing,
                    task.progress.retries,
                    task.progress.items,
                ),
                *(task.progress.item_count, task.progress.pending, task.progress.begun_count, task.progress.rounds),
                *(task.arrivals, task.publication, task.former),
                [
                    (one.key, one.accepted and (one.state, one.result))
                    for one in execution.current_attempts(task)
                    if one.accepted
                ],
            )
            for task in sorted(counting, key=lambda task: task.number)
        },
        "open": {name: set(getattr(execution, name)) for name in OPEN},
        "ended in order": {name: list(getattr(execution, name)) for name in ENDED},
        "names": execution.by_name,
        "routes": (execution.by_route, execution.route_numbers, execution.branch_ends, execution.trimmed),
        "variables": (
            dict(execution.globals),
            {name: _collapsed(one.made) for name, one in execution.global_writes.items() if one.made},
            execution.globals_of,
            execution.input.data,
        ),
        "environment": execution.environment.data,
        "errors": (execution.errors, execution.error_keys, execution.error_bytes),
        "ended": execution.ended,
    }
    return deepcopy(found)


def _collapsed(writes: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """The writes of a variable; of those in a row that no task made, the last one counts."""
    return [each for each, after in zip(writes, [*writes[1:], None], strict=True) if each[0] or not after or after[0]]


def check_restored(changes: list[AnyChange], index: int, workflow: Workflow) -> None:
    """The change at this index is a Restored: the state is as it was at the entry, with the edits that were made there;
    and what had ended since was reverted once, newest end first."""
    restored = changes[index]
    assert isinstance(restored, Restored)
    since = _arrived(changes[:index], restored.sequence)
    at_entry = replay(changes[:since])
    for number, change in enumerate(changes[since:index], since):
        if isinstance(change, ContextEdited | EnvironmentChanged) and change.entry == restored.sequence:
            at_entry.revision = number
            at_entry.apply(change)
    now = replay(changes[: index + 1])
    expected, found = as_it_counts(at_entry), as_it_counts(now)
    for part in expected:
        assert found[part] == expected[part], (part, found[part], expected[part])
    check_reverts(changes[:index], restored.sequence, workflow)


def _arrived(changes: list[AnyChange], sequence: int) -> int:
    """The index of the first change after the execution was last at the entry: what it made ready there is of it."""
    at_start = replay(changes).start_sequence == sequence
    found = [index for index, each in enumerate(changes) if isinstance(each, Restored) and each.sequence == sequence]
    if at_start or not found:
        return sequence
    return next(index for index in range(found[-1], len(changes)) if isinstance(changes[index], ExecutionMoved))


def check_reverts(changes: list[AnyChange], sequence: int, workflow: Workflow) -> None:
    """Every end behind the entry for which decision 17 calls a revert has exactly one that succeeded or was skipped."""
    before = replay(changes)
    first = _beginning(changes)
    begun: list[int] = []
    for change in changes[first:]:
        if isinstance(change, AttemptAdded) and change.reverts:
            begun.append(change.reverts)
        elif isinstance(change, RevertMoved) and change.state in (RevertState.CHILD, RevertState.FAILED):
            begun.append(change.end)
    order = list(dict.fromkeys(begun))
    assert order == sorted(order, reverse=True), "newest end first"
    done = Counter(
        change.end for change in changes[first:] if isinstance(change, RevertMoved) and change.state is RevertState.DONE
    )
    wanted = {end.sequence for end in before.ended if end.sequence > sequence and _is_wanted(before, end, workflow)}
    assert done == Counter(dict.fromkeys(wanted, 1)), (done, wanted)
    added = {change.key for change in changes[first:] if isinstance(change, AttemptAdded)}
    called = Counter(
        attempt.reverts
        for key, attempt in before.attempts.items()
        if key in added and attempt.reverts and attempt.state is AttemptState.SUCCESS
    )
    assert called <= done, "a revert was called twice, or for nothing"


def _beginning(changes: list[AnyChange]) -> int:
    """The index at which the present revert began."""
    first = 0
    for index, change in enumerate(changes):
        if isinstance(change, Restored):
            first = index + 1
        elif isinstance(change, RevertBegun) and not first:
            first = index
    return first


def _is_wanted(execution: Execution, end: End, workflow: Workflow) -> bool:
    """Whether decision 17 says that something is done for this end."""
    spec = workflow.tasks[execution.tasks[end.task].name]
    attempt = execution.attempts.get((end.task, max(end.item, 0), end.attempt))
    if (spec.items and end.item < 0) or (attempt is not None and attempt.is_retried):
        return False
    if attempt is not None and attempt.child_id:
        return True
    if spec.revert is None or end.state is TaskState.SKIPPED:
        return False
    if end.state is TaskState.SUCCESS:
        return True
    never_ran = attempt is not None and attempt.state is AttemptState.CANCELLED and not attempt.delivery
    return spec.revert.when is RevertWhen.ALWAYS and not never_ran
