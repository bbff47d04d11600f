"""Go-to: which entry a request means, and how the execution gets there (decisions 19, 20 and 23)."""

from __future__ import annotations

from collections.abc import Iterator

from dalsegno.workflow import graph
from dalsegno.workflow.changes import Arrival, Edit
from dalsegno.workflow.events import ContextUpdated, GoToRequested, Verdict
from dalsegno.workflow.graph import Phase
from dalsegno.workflow.model import START
from dalsegno.workflow.operating import editing
from dalsegno.workflow.operating.choosing import RequestFaults
from dalsegno.workflow.operating.control import go_on
from dalsegno.workflow.records import Entry, TaskExecution
from dalsegno.workflow.refusals import NoSuchCheckpoint, Unreachable, Violation
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import LIVE, ExecutionState, TaskState

_WELL = frozenset({TaskState.SUCCESS, TaskState.SKIPPED})
_PAUSED = frozenset({ExecutionState.PAUSING, ExecutionState.PAUSED})


def go_to(step: Step, event: GoToRequested) -> None:
    """Go to an entry, or on to the next time that the checkpoint is reached; refuse or carry out the request as a
    whole."""
    _check_fields(event)
    entry = _find(step, event)
    if entry is None:
        _go_forward(step, event)
    elif step.execution.paused_at == entry.sequence:
        _stay(step, event)
    else:
        description = "has an entry that stands: this server cannot go back; with `next` it goes on to the next one"
        raise Unreachable.of(f"checkpoint {entry.name}", description)


def _check_fields(event: GoToRequested) -> None:
    faults = RequestFaults()
    if bool(event.name) == bool(event.sequence):
        faults.wrong.append(Violation("target", "is either the name of a checkpoint or the sequence of an entry"))
    if event.next and not event.name:
        faults.wrong.append(Violation("next", "needs the name of a checkpoint"))
    if event.edit is not None:
        faults.wrong += editing.unfit(event.edit)
    faults.refuse()


def _find(step: Step, event: GoToRequested) -> Entry | None:
    """Return the entry that is meant; None: the next time that the checkpoint is reached."""
    execution = step.execution
    if event.sequence:
        found = execution.entries.get(event.sequence) or _start(step, event.sequence)
        if found is None:
            raise NoSuchCheckpoint.of(f"execution {execution.id}", f"has no entry with sequence {event.sequence}")
        return found
    if event.name == START and not event.next:
        return _start(step, execution.start_sequence)
    known = graph.checkpoints(step.workflow)
    if event.name not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise NoSuchCheckpoint.of(f"checkpoint {event.name}", f"is no checkpoint of the workflow: {has}")
    return None if event.next else _newest(step, event.name)


def _start(step: Step, sequence: int) -> Entry | None:
    if not sequence or sequence != step.execution.start_sequence:
        return None
    return Entry(sequence, START, 0)


def _newest(step: Step, name: str) -> Entry | None:
    """Return the newest entry of this name that stands."""
    for entry in reversed(step.execution.entries.values()):
        if entry.name == name and not entry.is_undone:
            return entry
    return None


def _stay(step: Step, event: GoToRequested) -> None:
    """The execution stands at the entry already: only the edit is made, and it goes on if it should."""
    faults = RequestFaults()
    edit = None if event.edit is None else editing.checked(step, event.edit, faults)
    if event.resumes:
        faults.obstacles += _failed(step)
    faults.refuse()
    if edit is not None:
        step.change(edit)
    if event.resumes:
        step.set_stops()
        step.move_execution(ExecutionState.RUNNING)
        go_on(step)
    elif edit is None:
        step.verdict = Verdict.DUPLICATE


def _go_forward(step: Step, event: GoToRequested) -> None:
    execution = step.execution
    faults = RequestFaults()
    if execution.state not in LIVE or event.name not in graph.checkpoints_ahead(step.workflow, _open(step)):
        description = "cannot be reached: nothing that is open in the execution leads there"
        raise Unreachable.of(f"checkpoint {event.name}", description)
    if execution.state in _PAUSED:
        faults.obstacles += _failed(step)
    faults.refuse()
    edit = None if event.edit is None else _edit(event.edit)
    arrival = Arrival(resumes=event.resumes, waits_for_delegates=event.waits_for_delegates, edit=edit)
    step.set_stops((event.name,), arrival)
    if execution.state in _PAUSED:
        step.move_execution(ExecutionState.RUNNING)
        go_on(step)


def _edit(event: ContextUpdated) -> Edit:
    return Edit(task=event.task, number=event.number, values=event.values, removed=event.removed)


def _failed(step: Step) -> Iterator[Violation]:
    """Yield the tasks that keep the execution from going on (R3)."""
    for number in step.execution.unhandled:
        task = step.execution.tasks[number]
        description = f"has failed: {task.info}; resume the execution with a choice for it first"
        yield Violation(f"task {task.name}", description, "TASK_FAILED")


def _open(step: Step) -> Iterator[tuple[str, Phase]]:
    """Yield the tasks from which something can follow, and how far each has come."""
    execution = step.execution
    for number in (*execution.incomplete, *execution.unrouted):
        task = execution.tasks[number]
        yield task.name, _phase(task)


def _phase(task: TaskExecution) -> Phase:
    if task.entry:
        return Phase.ENDED
    if task.is_completed:
        return Phase.BEGUN if task.state in _WELL else Phase.ENDED
    return Phase.BEGUN if task.progress.attempt else Phase.TO_BEGIN
