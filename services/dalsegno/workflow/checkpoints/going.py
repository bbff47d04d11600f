"""Go-to: which entry a request means, and how the execution gets there (decisions 19, 20 and 23)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dalsegno.workflow import graph
from dalsegno.workflow.changes import AfterRevert, Arrival, Edit, RevertBegun
from dalsegno.workflow.checkpoints import entries, requests
from dalsegno.workflow.discarding import discard as discarding
from dalsegno.workflow.events import ContextUpdated, DiscardRequested, GoToRequested, Verdict
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.graph import Phase
from dalsegno.workflow.model import START
from dalsegno.workflow.operating import editing
from dalsegno.workflow.operating.choosing import RequestFaults
from dalsegno.workflow.operating.control import go_on
from dalsegno.workflow.records import Entry, TaskExecution
from dalsegno.workflow.refusals import (
    HistoryDiscarded,
    Obstacle,
    Refused,
    Undone,
    Unreachable,
    Violation,
)
from dalsegno.workflow.routing import clauses
from dalsegno.workflow.running import recovery
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import ExecutionState, Request, TaskState

_WELL = frozenset({TaskState.SUCCESS, TaskState.SKIPPED})
_PAUSED = frozenset({ExecutionState.PAUSING, ExecutionState.PAUSED})


def go_to(step: Step, event: GoToRequested) -> None:
    """Go to an entry, or on to the next time that the checkpoint is reached; refuse or carry out the request as a
    whole."""
    if event.cascaded:
        _revert_whole(step, event)
        return
    _check_fields(step, event)
    execution = step.execution
    if not execution.takes(Request.GO_TO):
        description = f"cannot go to a checkpoint while it is {execution.state}"
        raise Refused.of(f"execution {execution.id}", description)
    entry = _find(step, event)
    if entry is not None and execution.paused_at == entry.sequence:
        _stay(step, event)
    elif entry is not None:
        _go_back(step, event, entry)
    elif _goes_on(execution) and _leads(step, event.name, _open(step)):
        _go_forward(step, event)
    else:
        _go_back_and_forward(step, event)


def _goes_on(execution: Execution) -> bool:
    """Return whether what is open in the execution goes on, now or from where it stands."""
    return execution.is_live or (execution.state is ExecutionState.REVERTED and execution.revert is None)


def _leads(step: Step, name: str, open_tasks: Iterable[tuple[str, Phase]]) -> bool:
    """Return whether something that is open leads to the checkpoint by the definition."""
    workflow = step.workflow
    is_needed = True
    if workflow.reverse:
        needed = graph.needed_for(workflow, clauses.reverse_target(step))
        is_needed = graph.checkpoints(workflow)[name] in needed
    return is_needed and name in graph.checkpoints_ahead(workflow, open_tasks)


def _check_target(event: GoToRequested | DiscardRequested) -> RequestFaults:
    faults = RequestFaults()
    if bool(event.name) == bool(event.sequence):
        faults.wrong.append(Violation("target", "is either the name of a checkpoint or the sequence of an entry"))
    return faults


def _check_fields(step: Step, event: GoToRequested) -> None:
    faults = _check_target(event)
    if event.next and not event.name:
        faults.wrong.append(Violation("next", "needs the name of a checkpoint"))
    if event.edit is not None:
        faults.wrong += editing.unfit(event.edit)
        if event.edit.task and event.edit.task not in step.workflow.tasks:
            faults.wrong.append(Violation("edit.task", f"the workflow has no task '{event.edit.task}'"))
    faults.refuse()


def discard(step: Step, event: DiscardRequested) -> None:
    """Discard what came before an entry; refuse or carry out the request as a whole (C8)."""
    execution = step.execution
    _check_target(event).refuse()
    if not execution.takes(Request.DISCARD):
        description = f"cannot discard history while it is {execution.state}"
        raise Refused.of(f"execution {execution.id}", description)
    entry = entries.find_entry(step.workflow, execution, event.name, event.sequence)
    if entry.name == START or entry.sequence == execution.first_sequence:
        step.verdict = Verdict.DUPLICATE
    else:
        discarding.discard(step, entry.sequence)


def _find(step: Step, event: GoToRequested) -> Entry | None:
    """Return the entry that is meant; None: the next time that the checkpoint is reached."""
    if event.sequence:
        return entries.find_by_sequence(step.execution, event.sequence)
    if not event.next:
        return entries.find_newest(step.workflow, step.execution, event.name)
    entries.check_name(step.workflow, event.name)
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
    if execution.state in _PAUSED:
        faults.obstacles += _failed(step)
    faults.refuse()
    step.set_stops((event.name,), _arrival(event))
    if execution.state is not ExecutionState.RUNNING:
        step.move_execution(ExecutionState.RUNNING)
        go_on(step)


def _go_back(step: Step, event: GoToRequested, entry: Entry, next_: str = "") -> None:
    """Go back to the entry, and from there on to the checkpoint `next_`, if one is named."""
    execution = step.execution
    revert = execution.revert
    if revert is not None and revert.lowest and entry.sequence >= revert.lowest:
        description = f"of checkpoint '{entry.name}' does not stand: what ended before it has been undone already"
        raise Undone.of(f"entry {entry.sequence}", description)
    _check_children(step, entry)
    then = AfterRevert.GO_ON if event.resumes or next_ else AfterRevert.PAUSE
    _begin(step, event, entry, then, next_)


def _check_children(step: Step, entry: Entry) -> None:
    """Refuse to go back when a sub-workflow that would be reverted has discarded its history."""
    found = recovery.discarded_children(step, entry.sequence)
    if found:
        raise HistoryDiscarded(
            [Violation(f"execution {each}", recovery.describe_discarded(each), Obstacle.DISCARDED) for each in found]
        )


def _begin(step: Step, event: GoToRequested, entry: Entry, then: AfterRevert, next_: str = "") -> None:
    execution = step.execution
    was_reverting, was_paused = execution.revert is not None, execution.state in _PAUSED
    step.set_stops()
    step.change(
        RevertBegun(
            sequence=entry.sequence,
            then=then,
            next=next_,
            arrival=_arrival(event),
            waits_for_delegates=event.waits_for_delegates,
            at_s=step.at_s,
        )
    )
    info = f"going back to checkpoint '{entry.name}'" + (f": {event.comment}" if event.comment else "")
    if execution.state is not ExecutionState.REVERTING:
        step.move_execution(ExecutionState.REVERTING, info)
    if was_reverting:
        requests.go_on(step, was_paused=was_paused)
        requests.run_failed(step)


def _go_back_and_forward(step: Step, event: GoToRequested) -> None:
    """Go back to the newest entry from which something leads to the checkpoint, then forward (C15)."""
    execution = step.execution
    if execution.revert is None:
        for entry in (*entries.standing(execution), entries.start_of(execution, execution.start_sequence)):
            if entry is not None and _leads(step, event.name, _open_at(step, entry)):
                _go_back(step, event, entry, event.name)
                return
    if event.name in execution.lost:
        raise HistoryDiscarded.of(f"checkpoint {event.name}", entries.describe_discarded(execution))
    description = "cannot be reached: nothing that is open leads there, nor anything at an entry that stands"
    raise Unreachable.of(f"checkpoint {event.name}", description)


def _revert_whole(step: Step, event: GoToRequested) -> None:
    """Go back to the start and end there, because the parent goes back (decision 17)."""
    execution = step.execution
    start = entries.start_of(execution, execution.start_sequence)
    if start is None and execution.first_sequence > 1:
        if execution.state is not ExecutionState.REVERTING:
            step.move_execution(ExecutionState.REVERTING, event.comment)
        step.move_execution(ExecutionState.REVERT_ERROR, entries.describe_discarded(execution))
    elif start is None or (execution.state is ExecutionState.REVERTED and execution.paused_at == start.sequence):
        if execution.state not in (ExecutionState.REVERTING, ExecutionState.REVERTED):
            if execution.state is ExecutionState.IDLE:
                step.move_execution(ExecutionState.CANCELLED, event.comment)
            step.move_execution(ExecutionState.REVERTING, event.comment)
        step.move_execution(
            ExecutionState.REVERTED,
            "nothing had begun" if start is None else execution.info,
            paused_at=execution.paused_at,
        )
    else:
        _begin(step, event, start, AfterRevert.END)


def _arrival(event: GoToRequested) -> Arrival:
    edit = None if event.edit is None else _edit(event.edit)
    return Arrival(resumes=event.resumes, waits_for_delegates=event.waits_for_delegates, edit=edit)


def _edit(event: ContextUpdated) -> Edit:
    return Edit(task=event.task, number=event.number, values=event.values, removed=event.removed)


def _failed(step: Step) -> Iterator[Violation]:
    """Yield the tasks that keep the execution from going on (R3)."""
    for number in step.execution.unhandled:
        task = step.execution.tasks[number]
        description = f"has failed: {task.info}; resume the execution with a choice for it first"
        yield Violation(f"task {task.name}", description, Obstacle.TASK_FAILED)


def _open(step: Step) -> Iterator[tuple[str, Phase]]:
    """Yield the tasks from which something can follow, and how far each has come."""
    execution = step.execution
    for number in (*execution.incomplete, *execution.unrouted):
        task = execution.tasks[number]
        yield task.name, _phase(task)


def _open_at(step: Step, entry: Entry) -> Iterator[tuple[str, Phase]]:
    """Yield the same for the state at an entry."""
    execution = step.execution
    kept = execution.as_at(entry.sequence)
    numbers = {*kept.tasks, *execution.incomplete, *execution.unrouted}
    for number in sorted(number for number in numbers if number <= kept.task_count):
        task = kept.tasks.get(number) or execution.tasks[number]
        if not task.superseded_by and not (task.is_completed and task.routed):
            yield task.name, _phase(task)


def _phase(task: TaskExecution) -> Phase:
    if task.entry:
        return Phase.ENDED
    if task.is_completed:
        return Phase.BEGUN if task.state in _WELL else Phase.ENDED
    return Phase.BEGUN if task.progress.attempt else Phase.TO_BEGIN
