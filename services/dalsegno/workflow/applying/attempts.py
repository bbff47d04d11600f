"""How an execution keeps its attempts, and the ends that they make. Part of `apply`."""

from __future__ import annotations

from typing import Protocol

from dalsegno.workflow.applying import reverting, rounds
from dalsegno.workflow.applying.indexes import put
from dalsegno.workflow.changes import AttemptAdded, AttemptMoved
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.records import Attempt, End, Reverting, TaskExecution
from dalsegno.workflow.states import (
    AS_TASK,
    COMPLETED_ATTEMPT,
    AttemptState,
    IllegalMove,
    TaskState,
    check_attempt_move,
)

# A lookup of a member in its class costs as much as the rest of keeping an index.
_READY, _RUNNING = AttemptState.READY, AttemptState.RUNNING


class Attempts(Protocol):
    """What these functions alter of an execution, beside its tasks."""

    active_count: int
    attempts: dict[AttemptKey, Attempt]
    children: dict[AttemptKey, None]
    delegates: dict[AttemptKey, None]
    ended: list[End]
    ready: dict[AttemptKey, None]
    revert: Reverting | None
    revision: int
    tasks: dict[int, TaskExecution]


def add(execution: Attempts, change: AttemptAdded) -> None:
    """Add an attempt of a round, or of a revert."""
    if change.key in execution.attempts:
        raise IllegalMove(f"attempt {'.'.join(map(str, change.key))} is there already")
    attempt = Attempt(
        key=change.key,
        action=change.action,
        input=change.input,
        state=change.state,
        child_id=change.child_id,
        child_revision=change.child_revision,
        safe=change.safe,
        adhoc=change.adhoc,
        target=change.target,
        digest=change.digest,
        timeout_s=change.timeout_s,
        comment=change.comment,
        actor=change.actor,
        stands_in=change.stands_in,
        reverts=change.reverts,
        created_s=change.at_s,
    )
    execution.attempts[change.key] = attempt
    task = execution.tasks[change.key[0]]
    task.last_item = max(task.last_item, change.key[1])
    if change.reverts:
        task.last_attempt = max(task.last_attempt, change.key[2])
        reverting.add(execution, change)
    elif change.key[2] == task.progress.rounds.get(change.key[1], task.progress.base):
        rounds.add(task, change.more)
    execution.active_count += attempt.is_active
    _index(execution, attempt)


def _index(execution: Attempts, attempt: Attempt) -> None:
    if attempt.state is _READY:
        execution.ready[attempt.key] = None
    else:
        execution.ready.pop(attempt.key, None)
    if attempt.delegated or execution.delegates:
        put(execution.delegates, attempt.key, attempt.delegated and attempt.state is _RUNNING)
    if attempt.child_id:
        put(execution.children, attempt.key, attempt.state not in COMPLETED_ATTEMPT)


def move(execution: Attempts, change: AttemptMoved) -> None:
    """Move an attempt, or hand it out."""
    attempt, state = execution.attempts[change.key], change.state
    check_attempt_move(change.key, attempt.state, state)
    number, item, round_number = change.key
    task = execution.tasks[number]
    progress = task.progress
    is_present = round_number == progress.rounds.get(item, progress.base)
    execution.active_count -= attempt.is_active
    attempt.state, attempt.delegated, attempt.reported = state, change.delegated, change.reported
    if change.result is not None:
        attempt.result = change.result
    if change.error:
        attempt.error = change.error
    if change.child_revision:
        attempt.child_revision = change.child_revision
    if change.alias:
        attempt.alias = change.alias
    if change.delegated:
        attempt.signature = change.signature or attempt.signature
        attempt.heartbeat_timeout_s = change.heartbeat_timeout_s or attempt.heartbeat_timeout_s
    if change.delivery:
        attempt.delivery, attempt.started_s = change.delivery, change.at_s
        attempt.session_id, attempt.executor_id = change.session_id, change.executor_id
        attempt.engine = change.engine
        attempt.deadline_s = change.deadline_s
    elif change.deadline_s is not None:
        attempt.deadline_s = change.deadline_s
    execution.active_count += attempt.is_active
    _index(execution, attempt)
    if is_present and (progress.quiet_items or attempt.is_quiet):
        put(progress.quiet_items, item, attempt.is_quiet)
    if state in COMPLETED_ATTEMPT:
        attempt.ended_s, attempt.accepted = change.at_s, is_present and not change.discarded
        if is_present:
            rounds.end(task, attempt)
            if progress.item_count is not None and not attempt.stands_in:
                end(execution, task, item, round_number, AS_TASK[state])


def end(execution: Attempts, task: TaskExecution, item: int, attempt: int, state: TaskState) -> None:
    """Add an end of the task or of an item: what a revert may have to undo."""
    execution.ended.append(End(execution.revision + 1, task.number, item, attempt, state, task.edition))
