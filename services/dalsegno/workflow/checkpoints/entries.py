"""Which entry a request means, by the name of its checkpoint or by its sequence (decision 20)."""

from __future__ import annotations

from collections.abc import Iterator

from dalsegno.workflow import graph
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.model import START, Workflow
from dalsegno.workflow.records import Entry
from dalsegno.workflow.refusals import HistoryDiscarded, NoSuchCheckpoint, Undone


def find_entry(workflow: Workflow, execution: Execution, name: str, sequence: int) -> Entry:
    """Return the entry that stands with this sequence, if one is given; else the newest one of this name.

    Raise NoSuchCheckpoint, Undone or HistoryDiscarded.
    """
    found = find_newest(workflow, execution, name) if not sequence else find_by_sequence(execution, sequence)
    if found is not None:
        return found
    if name in execution.lost:
        description = "has no entry that is kept: what came before is discarded"
        raise HistoryDiscarded.of(f"checkpoint {name}", description)
    raise NoSuchCheckpoint.of(f"checkpoint {name}", "has no entry that stands")


def find_by_sequence(execution: Execution, sequence: int) -> Entry:
    """Return the entry that stands with this sequence. Raise NoSuchCheckpoint, Undone or HistoryDiscarded."""
    found = execution.entries.get(sequence) or start_of(execution, sequence)
    if found is None and sequence < execution.first_sequence:
        raise HistoryDiscarded.of(f"entry {sequence}", describe_discarded(execution))
    if found is None:
        raise NoSuchCheckpoint.of(f"execution {execution.id}", f"has no entry with sequence {sequence}")
    if found.is_undone:
        raise Undone.of(f"entry {found.sequence}", f"of checkpoint '{found.name}' does not stand: it was undone")
    return found


def find_newest(workflow: Workflow, execution: Execution, name: str) -> Entry | None:
    """Return the newest entry of this name that stands; None: there is none. Raise NoSuchCheckpoint when the workflow
    has no such checkpoint."""
    if name == START:
        start = start_of(execution, execution.start_sequence)
        if start is None and execution.first_sequence > 1:
            raise HistoryDiscarded.of(f"checkpoint {START}", describe_discarded(execution))
        if start is None:
            raise NoSuchCheckpoint.of(f"checkpoint {START}", "has not been reached: no task was created")
        return start
    check_name(workflow, name)
    return next((entry for entry in standing(execution) if entry.name == name), None)


def check_name(workflow: Workflow, name: str) -> None:
    """Raise NoSuchCheckpoint when the workflow has no checkpoint of this name."""
    known = graph.checkpoints(workflow)
    if name not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise NoSuchCheckpoint.of(f"checkpoint {name}", f"is no checkpoint of the workflow: {has}")


def describe_discarded(execution: Execution) -> str:
    """Return why something before the beginning of the history cannot be reached."""
    return f"is discarded: the history begins with sequence {execution.first_sequence}"


def start_of(execution: Execution, sequence: int) -> Entry | None:
    """Return the entry `start` if it has this sequence."""
    if not sequence or sequence != execution.start_sequence:
        return None
    return Entry(sequence, START, 0)


def standing(execution: Execution) -> Iterator[Entry]:
    """Yield the entries that stand, newest first."""
    return (entry for entry in reversed(execution.entries.values()) if not entry.is_undone)
