"""Discards what came before an entry: because its checkpoint says so, or because somebody asks for it (decision 24)."""

from __future__ import annotations

from collections.abc import Iterator, Set

from dalsegno.workflow.changes import AnyChange, HistoryDiscarded
from dalsegno.workflow.consolidated import Consolidated, Discarded
from dalsegno.workflow.discarding.reducing import reduce, trim_contexts
from dalsegno.workflow.discarding.reduction import Reduction, reduction
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.journal import replay, written
from dalsegno.workflow.model import Keep
from dalsegno.workflow.records import Entry
from dalsegno.workflow.running.step import Step

_NONE: frozenset[int] = frozenset()

SMALL = 1_000
"""An execution that has to keep more task executions and attempts discards when it has twice as many, because each
discard costs as much as what is kept."""


def discard_reached(step: Step, name: str, keep: Keep) -> None:
    """Discard what the checkpoint of this name, which the step has reached, does not keep.

    An execution that goes back already keeps what it had.
    """
    execution = step.execution
    if execution.revert is not None or _waits(execution):
        return
    entry = _oldest_kept(execution, name, keep, step.at_s)
    if entry is not None and entry.sequence > execution.first_sequence:
        discard(step, entry.sequence)


def _waits(execution: Execution) -> bool:
    """Return whether a discard would cost more than it saves."""
    kept = execution.consolidated_size
    return kept > SMALL and len(execution.tasks) + len(execution.attempts) < 2 * kept


def _oldest_kept(execution: Execution, name: str, keep: Keep, at_s: float) -> Entry | None:
    """Return the oldest entry that is kept: one of the newest ones of its checkpoint, or one that is young enough."""
    counted = None
    for number, entry in enumerate(_standing(reversed(execution.entries.values()), name), 1):
        counted = entry
        if number >= keep.count:  # without a count the one that was just reached
            break
    if keep.age_s is None or counted is None:
        return counted
    young = (entry for entry in _standing(iter(execution.entries.values()), name) if entry.at_s > at_s - keep.age_s)
    return min(next(young, counted), counted, key=lambda entry: entry.sequence)


def _standing(entries: Iterator[Entry], name: str) -> Iterator[Entry]:
    return (entry for entry in entries if entry.name == name and not entry.is_undone)


def discard(step: Step, sequence: int) -> None:
    """Discard what came before the entry with this sequence, which stands."""
    execution = step.execution
    changes = _changes_until(step, sequence)
    past = _step_at(step, changes)
    altered = _altered(execution, past.execution.task_count, sequence)
    edited = {number for number in altered if _is_edited(execution, number, sequence)}
    found = reduction(past, sequence, altered, edited)
    shown = {number for number in execution.by_route.values() if number <= found.task_count} - found.kept
    if shown:  # an operation has taken newer ones back
        found = reduction(past, sequence, altered | shown, edited)
    consolidated = _consolidated(past, found)
    reduced = reduce(step, found)
    execution.consolidated_size = consolidated.size
    step.change(HistoryDiscarded(sequence=sequence, at_s=step.at_s))
    step.discarded = Discarded(consolidated, found.task_count, found.kept, reduced)


def consolidate(step: Step, sequence: int, edited: frozenset[int] = _NONE) -> Discarded:
    """Reduce a private execution that stands at the entry, and return what is left of it.

    `edited`: the task executions whose published values will be edited next.
    """
    found = reduction(step, sequence, edited, edited)
    return Discarded(_consolidated(step, found), found.task_count, found.kept, _NONE)


def _consolidated(step: Step, found: Reduction) -> Consolidated:
    reduce(step, found)
    execution = step.execution
    trim_contexts(execution)
    entry = execution.entries[found.sequence]
    return written(execution, entry, entry.at_s)


def _changes_until(step: Step, sequence: int) -> list[AnyChange | Consolidated]:
    """Return the journal up to the entry."""
    before = step.execution.revision - len(step.changes)
    stored = step.surroundings.changes(step.execution.id, min(sequence, before)) if before else []
    return [*stored, *step.changes[: max(0, sequence - before)]]


def _step_at(step: Step, changes: list[AnyChange | Consolidated]) -> Step:
    """Return a step of a private execution, in the state to which these changes have led."""
    return Step(step.workflow, replay(changes), step.event, step.surroundings, step.given)


def _altered(execution: Execution, task_count: int, sequence: int) -> Set[int]:
    """Return the task executions that existed at the entry and were altered since."""
    found: set[int] = set()
    for number, task in execution.tasks.items():
        if number > task_count:
            break
        if task.altered > sequence:
            found.add(number)
    return found


def _is_edited(execution: Execution, number: int, sequence: int) -> bool:
    edits = execution.tasks[number].publication.edits
    return any(revision >= sequence for revision, _ in edits)
