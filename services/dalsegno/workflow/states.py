"""The states of executions, tasks and attempts, and every legal move between them.

Two rules hold: every rule about legal moves is in this file, and this file does not know why a move is made. A move
that no table lists is an error in the machine and raises IllegalMove before anything has changed.
"""

from __future__ import annotations

from enum import StrEnum


class ExecutionState(StrEnum):
    """Where an execution is (S4)."""

    IDLE = "IDLE"
    RUNNING = "RUNNING"
    PAUSING = "PAUSING"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    REVERTING = "REVERTING"
    REVERTED = "REVERTED"
    REVERT_ERROR = "REVERT_ERROR"


class TaskState(StrEnum):
    """Where a task execution is (S6, S7, S9, S11)."""

    IDLE = "IDLE"
    WAITING = "WAITING"
    RUNNING = "RUNNING"
    RUNNING_DELAYED = "RUNNING_DELAYED"
    PAUSED = "PAUSED"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"
    REVERTING = "REVERTING"
    REVERTED = "REVERTED"
    REVERT_ERROR = "REVERT_ERROR"


class AttemptState(StrEnum):
    """Where one attempt (an action execution, or a child execution as its parent sees it) is (S16)."""

    READY = "READY"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"


E, T, A = ExecutionState, TaskState, AttemptState

COMPLETED_EXECUTION = frozenset({E.SUCCESS, E.ERROR, E.CANCELLED, E.REVERTED, E.REVERT_ERROR})
COMPLETED_TASK = frozenset({T.SUCCESS, T.ERROR, T.CANCELLED, T.SKIPPED, T.REVERTED, T.REVERT_ERROR})
COMPLETED_ATTEMPT = frozenset({A.SUCCESS, A.ERROR, A.CANCELLED})

QUIET_EXECUTION = frozenset({E.PAUSING, E.PAUSED, E.CANCELLING, E.CANCELLED})
"""Nothing of an execution in one of these states is handed to an executor (O4, O14)."""

LIVE = frozenset({E.RUNNING, E.PAUSING, E.PAUSED})
"""An execution in one of these states goes on, now or after a resume: failed tasks may be retried, transitions
count."""

EXECUTION_MOVES: dict[ExecutionState, frozenset[ExecutionState]] = {
    E.IDLE: frozenset({E.RUNNING, E.ERROR, E.CANCELLED}),
    E.RUNNING: frozenset({E.PAUSING, E.PAUSED, E.CANCELLING, E.CANCELLED, E.SUCCESS, E.ERROR, E.REVERTING}),
    E.PAUSING: frozenset({E.PAUSED, E.RUNNING, E.CANCELLING, E.CANCELLED, E.SUCCESS, E.ERROR, E.REVERTING}),
    E.PAUSED: frozenset({E.RUNNING, E.CANCELLING, E.CANCELLED, E.SUCCESS, E.ERROR, E.REVERTING}),
    E.CANCELLING: frozenset({E.CANCELLED, E.SUCCESS, E.ERROR}),
    E.CANCELLED: frozenset({E.RUNNING, E.REVERTING}),
    E.SUCCESS: frozenset({E.RUNNING, E.REVERTING}),
    E.ERROR: frozenset({E.RUNNING, E.REVERTING}),
    E.REVERTING: frozenset({E.REVERTED, E.REVERT_ERROR, E.PAUSED, E.RUNNING}),
    E.REVERTED: frozenset({E.RUNNING}),
    E.REVERT_ERROR: frozenset({E.RUNNING, E.REVERTING}),
}

_BEFORE = frozenset({T.IDLE, T.WAITING, T.RUNNING, T.RUNNING_DELAYED, T.PAUSED})
_AFTER = frozenset({T.SUCCESS, T.ERROR, T.CANCELLED, T.SKIPPED})

TASK_MOVES: dict[TaskState, frozenset[TaskState]] = {
    **{state: (_BEFORE | _AFTER) - {state} for state in _BEFORE},
    T.SUCCESS: frozenset({T.RUNNING, T.REVERTING, T.ERROR}),  # ERROR: its transitions could not be evaluated
    T.ERROR: frozenset({T.RUNNING, T.WAITING, T.SKIPPED, T.REVERTING}),
    T.CANCELLED: frozenset({T.RUNNING, T.WAITING, T.SKIPPED, T.REVERTING}),
    T.SKIPPED: frozenset({T.RUNNING, T.REVERTING}),
    T.REVERTING: frozenset({T.REVERTED, T.REVERT_ERROR}),
    T.REVERTED: frozenset({T.RUNNING}),
    T.REVERT_ERROR: frozenset({T.REVERTING, T.RUNNING, T.SKIPPED}),
}

ATTEMPT_MOVES: dict[AttemptState, frozenset[AttemptState]] = {
    A.READY: frozenset({A.RUNNING, A.SUCCESS, A.ERROR, A.CANCELLED}),
    A.RUNNING: frozenset({A.READY, A.PAUSED, A.SUCCESS, A.ERROR, A.CANCELLED}),
    A.PAUSED: frozenset({A.RUNNING, A.SUCCESS, A.ERROR, A.CANCELLED}),
    A.SUCCESS: frozenset(),
    A.ERROR: frozenset(),
    A.CANCELLED: frozenset(),
}


class IllegalMove(Exception):
    """The machine tried a move that no table lists. The text says what should have moved, from where and to where."""


def check_execution_move(old: ExecutionState, new: ExecutionState) -> None:
    """Raise IllegalMove unless the move is in the table."""
    if new not in EXECUTION_MOVES[old]:
        raise IllegalMove(f"execution: {old} -> {new}")


def check_task_move(number: int, old: TaskState, new: TaskState) -> None:
    """Raise IllegalMove unless the move is in the table. A task may always stay where it is."""
    if new is not old and new not in TASK_MOVES[old]:
        raise IllegalMove(f"task {number}: {old} -> {new}")


def check_attempt_move(key: tuple[int, int, int], old: AttemptState, new: AttemptState) -> None:
    """Raise IllegalMove unless the move is in the table. An attempt may stay where it is (a delegate's progress)."""
    if new is not old and new not in ATTEMPT_MOVES[old]:
        raise IllegalMove(f"attempt {'.'.join(map(str, key))}: {old} -> {new}")
