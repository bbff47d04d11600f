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

AS_TASK = {state: T(state) for state in COMPLETED_ATTEMPT}
"""The state of a task whose only attempt has ended in this one."""

QUIET_EXECUTION = frozenset({E.PAUSING, E.PAUSED, E.CANCELLING, E.CANCELLED, E.REVERTED, E.REVERT_ERROR})
"""Nothing of an execution in one of these states is handed to an executor (O4, O14, decision 19)."""

LIVE = frozenset({E.RUNNING, E.PAUSING, E.PAUSED})
"""An execution in one of these states goes on, now or after a resume: failed tasks may be retried, transitions
count."""


class Request(StrEnum):
    """What people and programs ask of an execution."""

    PAUSE = "pause"
    RESUME = "resume"
    RESUME_TASKS = "resume tasks"
    """A resume with choices for tasks."""
    RERUN = "rerun"
    """In the same execution, from tasks or failed ones."""
    CANCEL = "cancel"
    TERMINATE = "terminate"
    GO_TO = "go to"
    UPDATE_CONTEXT = "update context"
    DISCARD = "discard"
    """Of what came before an entry."""


_OPEN = frozenset({E.RUNNING, E.PAUSING, E.PAUSED})
_ENDED = frozenset({E.SUCCESS, E.ERROR, E.CANCELLED})
_BACK_OPEN = frozenset({E.REVERTING, E.PAUSING, E.PAUSED})

TAKEN: dict[Request, frozenset[ExecutionState]] = {
    Request.PAUSE: _OPEN,
    Request.RESUME: _OPEN,  # RUNNING: for what is paused below it
    Request.RESUME_TASKS: frozenset({E.RUNNING, E.PAUSED, E.ERROR, E.CANCELLED}),
    Request.RERUN: _ENDED | {E.REVERTED},
    Request.CANCEL: _OPEN | {E.IDLE, E.CANCELLING},
    Request.TERMINATE: _OPEN | {E.IDLE, E.CANCELLING},
    Request.GO_TO: _OPEN | _ENDED | {E.REVERTED},
    Request.UPDATE_CONTEXT: _ENDED | {E.PAUSED, E.REVERTED},
    Request.DISCARD: _OPEN | _ENDED | {E.CANCELLING, E.REVERTED},
}
"""In which states an execution takes each request while it goes forward."""

TAKEN_IN_REVERT: dict[Request, frozenset[ExecutionState]] = {
    Request.PAUSE: _BACK_OPEN,
    Request.RESUME: frozenset({E.PAUSING, E.PAUSED, E.REVERT_ERROR}),
    Request.RESUME_TASKS: frozenset({E.REVERT_ERROR}),
    Request.RERUN: frozenset(),
    Request.CANCEL: _BACK_OPEN | {E.CANCELLING},
    Request.TERMINATE: _BACK_OPEN | {E.CANCELLING},
    Request.GO_TO: _BACK_OPEN | _ENDED | {E.REVERT_ERROR},
    Request.UPDATE_CONTEXT: frozenset(),
    Request.DISCARD: frozenset(),
}
"""The same from the beginning of a revert until the state of the entry is restored (decision 23)."""

EXECUTION_MOVES: dict[ExecutionState, frozenset[ExecutionState]] = {
    E.IDLE: frozenset({E.RUNNING, E.ERROR, E.CANCELLED}),
    E.RUNNING: frozenset({E.PAUSING, E.PAUSED, E.CANCELLING, E.CANCELLED, E.SUCCESS, E.ERROR, E.REVERTING}),
    E.PAUSING: frozenset({E.PAUSED, E.RUNNING, E.CANCELLING, E.CANCELLED, E.SUCCESS, E.ERROR, E.REVERTING}),
    E.PAUSED: frozenset({E.RUNNING, E.CANCELLING, E.CANCELLED, E.SUCCESS, E.ERROR, E.REVERTING}),
    E.CANCELLING: frozenset({E.CANCELLED, E.SUCCESS, E.ERROR, E.REVERTING, E.REVERT_ERROR}),  # its parent goes back
    E.CANCELLED: frozenset({E.RUNNING, E.REVERTING}),
    E.SUCCESS: frozenset({E.RUNNING, E.REVERTING}),
    E.ERROR: frozenset({E.RUNNING, E.REVERTING}),
    E.REVERTING: frozenset(set(E) - {E.IDLE, E.REVERTING}),
    E.REVERTED: frozenset({E.RUNNING, E.PAUSED, E.REVERTING}),
    E.REVERT_ERROR: frozenset({E.REVERTING}),
}

_BACK = frozenset({T.REVERTING, T.REVERTED})
_BEFORE = frozenset({T.IDLE, T.WAITING, T.RUNNING, T.RUNNING_DELAYED, T.PAUSED})
_AFTER = frozenset({T.SUCCESS, T.ERROR, T.CANCELLED, T.SKIPPED})

TASK_MOVES: dict[TaskState, frozenset[TaskState]] = {
    **{state: (_BEFORE | _AFTER | _BACK) - {state} for state in _BEFORE},
    T.SUCCESS: frozenset({T.RUNNING, T.ERROR}) | _BACK,  # ERROR: its transitions could not be evaluated
    T.ERROR: frozenset({T.RUNNING, T.WAITING, T.SKIPPED}) | _BACK,
    T.CANCELLED: frozenset({T.RUNNING, T.WAITING, T.SKIPPED}) | _BACK,
    T.SKIPPED: frozenset({T.RUNNING}) | _BACK,
    T.REVERTING: frozenset({T.REVERTED, T.REVERT_ERROR, T.CANCELLED}),  # CANCELLED: ended by force
    T.REVERTED: frozenset({T.REVERTING}),  # it has ended more than once
    T.REVERT_ERROR: frozenset({T.REVERTING, T.REVERTED}),
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
