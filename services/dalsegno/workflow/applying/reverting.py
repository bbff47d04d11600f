"""How an execution keeps where its revert is (decision 18). Part of `apply`."""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import Protocol

from dalsegno.workflow.changes import AttemptAdded, RevertBegun, RevertMoved, RevertState
from dalsegno.workflow.records import End, Reverting, Undoing


class Course(Protocol):
    """What these functions alter of an execution."""

    ended: list[End]
    revert: Reverting | None
    revision: int


def begin(execution: Course, change: RevertBegun) -> None:
    """Go back to an entry, or make another entry the target of the revert that is under way."""
    since = execution.revision + 1
    if execution.revert is None:
        execution.revert = Reverting(change, since)
    else:
        execution.revert.aim, execution.revert.since = change, since


def add(execution: Course, change: AttemptAdded) -> None:
    """Keep the attempt that reverts an end."""
    undoing = _undoing(execution, change.reverts)
    undoing.state, undoing.key, undoing.due_s, undoing.info = RevertState.RUNNING, change.key, None, ""
    _index(execution, undoing)


def move(execution: Course, change: RevertMoved) -> None:
    """Keep where the revert of an end is."""
    revert = execution.revert
    assert revert is not None
    undoing = _undoing(execution, change.end)
    undoing.state, undoing.due_s, undoing.info = change.state, change.due_s, change.info
    undoing.retries = change.retries
    if change.state is RevertState.CHILD and change.child is None:
        undoing.ordered_at = execution.revision + 1
    _index(execution, undoing)
    if change.state is RevertState.DONE:
        del revert.open[change.end]
        revert.published.update(change.published)


def _index(execution: Course, undoing: Undoing) -> None:
    revert = execution.revert
    assert revert is not None
    for index, state in ((revert.failed, RevertState.FAILED), (revert.delayed, RevertState.DELAYED)):
        if undoing.state is state:
            index[undoing.end.sequence] = None
        else:
            index.pop(undoing.end.sequence, None)


def _undoing(execution: Course, sequence: int) -> Undoing:
    revert = execution.revert
    assert revert is not None
    found = revert.open.get(sequence)
    if found is None:
        end = execution.ended[bisect_left(execution.ended, sequence, key=attrgetter("sequence"))]
        found = revert.open[sequence] = Undoing(end, RevertState.CHILD)
        revert.lowest = sequence
    return found
