"""Forks: a new execution begins with the state of an entry of another one (decision 21).

`fork` makes the state from the journal of the other one: what was active at the entry begins again, and attempts are
copies that stand alone. `begin` is the first step of the new execution.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from dalsegno.workflow.changes import (
    AttemptMoved,
    ContextEdited,
    EnvironmentChanged,
    ExecutionCreated,
    Fork,
    Signature,
    Timer,
)
from dalsegno.workflow.checkpoints import arriving
from dalsegno.workflow.checkpoints.entries import find_entry
from dalsegno.workflow.commands import Send
from dalsegno.workflow.consolidated import Consolidated, KeptTask, Standing
from dalsegno.workflow.discarding import discard as discarding
from dalsegno.workflow.events import ContextUpdated, ForkRequest, StartRequested, TimerFired
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.journal import load, replay
from dalsegno.workflow.model import START, Workflow
from dalsegno.workflow.operating import choosing, editing
from dalsegno.workflow.operating.choosing import RequestFaults
from dalsegno.workflow.operating.control import go_on
from dalsegno.workflow.outside import Given, Surroundings
from dalsegno.workflow.records import Attempt, Entry
from dalsegno.workflow.refusals import InvalidRequest, Obstacle, Refused, Violation
from dalsegno.workflow.running import lifecycle
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import Value

Edited = ContextEdited | EnvironmentChanged
"""An edit that was made in the other execution while it stood at the entry."""

NOT_ENDED = "it had not ended at the checkpoint from which the execution was forked"
"""The error of a copy of an attempt that was open at the entry: the fork runs it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkWish:
    """From which entry an execution is to be forked, and how the fork is to differ."""

    name: str = ""
    """The checkpoint: its newest entry that stands."""
    sequence: int = 0
    """The sequence of the entry, in place of a name."""
    input: tuple[str, ...] = ()
    """The names of the inputs that are new."""
    environment: Value | None = None
    """What is merged over the environment."""
    edit: ContextUpdated | None = None
    stay: bool = False
    """The fork stands at the entry until it is resumed."""


def fork(
    workflow: Workflow,
    original: Execution,
    wish: ForkWish,
    event: StartRequested,
    surroundings: Surroundings,
    given: Given,
) -> StartRequested:
    """Return the start of a fork. Raise Refused when there is no such entry that stands, or when it is discarded.

    `workflow`: what the original execution runs. `event`: the start of the new execution, as of one that begins anew.
    The original execution is not altered.
    """
    assert event.creation is not None
    entry = _entry(workflow, original, wish)
    _check_language(original, event.creation)
    sequence = entry.sequence
    step = Step(workflow, replay(surroundings.changes(original.id, sequence)), event, surroundings, given)
    edits = _edits(original, step)
    state = _prepare(step, edits, wish)
    origin = Fork(execution_id=original.id, sequence=sequence, checkpoint=entry.name)
    return msgspec.structs.replace(
        event,
        creation=msgspec.structs.replace(event.creation, sequence=sequence - 1, forked_from=origin),
        fork=ForkRequest(
            consolidated=state,
            edits=edits,
            input=wish.input,
            environment=wish.environment,
            edit=wish.edit,
            stay=wish.stay,
        ),
    )


def _entry(workflow: Workflow, original: Execution, wish: ForkWish) -> Entry:
    if wish.name == START or (wish.sequence and wish.sequence == original.start_sequence):
        field = "checkpoint" if wish.name else "checkpoint_sequence"
        raise InvalidRequest.of(field, f"is '{START}', the beginning of the execution: rerun it from BEGINNING")
    return find_entry(workflow, original, wish.name, wish.sequence)


def _check_language(original: Execution, creation: ExecutionCreated) -> None:
    if creation.language != original.created.language:
        languages = f"in the language {creation.language}, and the execution runs one in {original.created.language}"
        raise Refused.of(f"workflow {creation.workflow}", f"has its newest version {languages}")


def _edits(original: Execution, step: Step) -> tuple[Edited, ...]:
    """Return the edits that were made while the execution stood at the entry: they belong to it (decision 19). The
    journal behind the entry is read only if there are any. `step`: one of a private execution at the entry."""
    sequence = step.execution.revision
    kept = original.entries[sequence].kept
    if kept is None or kept.edit_count == step.execution.edit_count:
        return ()
    journal = step.surroundings.changes(original.id, original.revision)
    later = journal[len(journal) - (original.revision - sequence) :] if original.revision > sequence else []
    edits = (change for change in later if isinstance(change, ContextEdited | EnvironmentChanged))
    return tuple(change for change in edits if change.entry == sequence)


def _prepare(step: Step, edits: Iterable[Edited], wish: ForkWish) -> Consolidated:
    """Return the state with which the fork begins: what was active at the entry begins again.

    `step`: one of a private execution at the entry. `edits`: what is edited before the fork goes on.
    """
    private = step.execution
    sequence = private.revision
    open_then = set(_end_attempts(step))
    arriving.begin_anew(step, private.entries[sequence].at_s, open_then)
    private.revision = sequence
    found = discarding.consolidate(step, sequence, frozenset(_edited(private, edits, wish.edit))).consolidated
    return msgspec.structs.replace(
        found,
        created=None,
        entry=msgspec.structs.replace(found.entry, at_s=step.at_s),  # its timers count from now on
        standing=_standing(found.standing, step.at_s),
        attempts=tuple(map(_copy, found.attempts)),
        at_s=step.at_s,
    )


def _edited(execution: Execution, edits: Iterable[Edited], wished: ContextUpdated | None) -> Iterator[int]:
    """Yield the task executions that are edited: what they have published is kept."""
    for edit in edits:
        if isinstance(edit, ContextEdited) and edit.task:
            yield edit.task
    if wished is not None and wished.task:
        task = execution.tasks.get(wished.number) if wished.number else execution.latest(wished.task)
        if task is not None and task.is_completed:
            yield task.number


def _end_attempts(step: Step) -> Iterator[AttemptKey]:
    """Yield the attempts that were open at the entry, or whose sub-workflow was being reverted to be tried again. None
    of them is open any more."""
    execution = step.execution
    for key in sorted(execution.attempts):
        attempt = execution.attempts[key]
        if attempt.state not in COMPLETED_ATTEMPT:
            ended = AttemptMoved(key=key, state=AttemptState.CANCELLED, error=NOT_ENDED, discarded=True, at_s=step.at_s)
            step.change(ended)
            yield key
        elif key[1] in execution.tasks[key[0]].progress.awaiting and execution.is_current(key):
            yield key


def _standing(found: Standing, at_s: float) -> Standing:
    """Return the small parts of an execution that has not begun."""
    return msgspec.structs.replace(
        found,
        state=ExecutionState.IDLE,
        info="",
        moved_s=at_s,
        latest_s=at_s,
        started_s=None,
        paused_since_s=None,
        is_paused_by_report=False,
        waits_for_delegates=False,
        stop_at=(),
        arrival=None,
    )


def _copy(attempt: Attempt) -> Attempt:
    """Return a copy that belongs to nobody: it has no executor, no child, and nobody completes it."""
    return msgspec.structs.replace(
        attempt,
        copied=True,
        was_workflow=attempt.runs_workflow,
        child_id="",
        child_revision=0,
        session_id="",
        executor_id="",
        engine=0,
        alias="",
        heartbeat_timeout_s=None,
        signature=Signature.NONE,
        deadline_s=None,
        delegated=False,
        reported=False,
    )


def begin(step: Step, fork: ForkRequest) -> None:
    """Take the state of the entry, make the edits that the request wants, and go on from there, or stand there."""
    execution = step.execution
    faults = RequestFaults()
    faults.wrong += lifecycle.creation_violations(step)
    faults.obstacles += _unknown(step.workflow, fork.consolidated.tasks)
    faults.refuse()
    sequence, name = fork.consolidated.entry.sequence, fork.consolidated.entry.name
    load(execution, fork.consolidated)
    step.changes.append(fork.consolidated)
    _edit(step, fork, sequence)
    _wake(step, fork.consolidated.tasks)
    step.set_stops(execution.created.stop_at)
    step.move_execution(ExecutionState.RUNNING)
    if fork.stay:
        step.pause(f"forked at checkpoint '{name}'", paused_at=sequence)
    else:
        go_on(step)


def _unknown(workflow: Workflow, tasks: Sequence[KeptTask]) -> Iterator[Violation]:
    """Yield the tasks that are open at the entry and that the workflow does not have, or not in the same role."""
    for task in tasks:
        if _has_ended(task):
            continue
        spec = workflow.tasks.get(task.name)
        if spec is None:
            description = "is open at the entry, and the newest definition does not have it"
            yield Violation(f"task {task.name}", description, Obstacle.TASK_UNKNOWN)
        elif task.state is TaskState.WAITING and spec.join is None:
            description = "waits as a join at the entry, and is no join in the newest definition"
            yield Violation(f"task {task.name}", description, Obstacle.TASK_UNKNOWN)


def _has_ended(task: KeptTask) -> bool:
    """Return whether the task has ended and its transitions are evaluated, or it does not count any more."""
    return bool(task.superseded_by) or (task.ended_s is not None and task.routed)


def _edit(step: Step, fork: ForkRequest, sequence: int) -> None:
    """Make the edits that belong to the entry (decision 19), and those of the request, which belong to it from now
    on."""
    faults = RequestFaults()
    execution = step.execution
    for edited in fork.edits:
        step.change(edited)
    environment = choosing.environment(step, fork.environment, faults)
    if environment is not None:
        step.change(EnvironmentChanged(environment=environment, entry=sequence))
    had, wanted = execution.input.data, execution.created.input.data
    assert isinstance(had, dict)
    assert isinstance(wanted, dict)
    values = {name: Value(data=value) for name, value in wanted.items() if name in fork.input or name not in had}
    removed = tuple(name for name in had if name not in wanted)
    if values or removed:
        step.change(ContextEdited(values=values, removed=removed, entry=sequence))
    if fork.edit is not None:
        edit = editing.checked(step, fork.edit, faults)
        faults.refuse()
        step.change(msgspec.structs.replace(edit, entry=sequence))


def _wake(step: Step, tasks: Sequence[KeptTask]) -> None:
    """Set the timers of the tasks."""
    for task in tasks:
        timing = task.timing
        if timing.timeout_due_s is not None and not _has_ended(task):
            _send(step, task, Timer.TIMEOUT, timing.timeout_due_s)
        if task.state is TaskState.RUNNING_DELAYED and timing.due_s is not None:
            _send(step, task, timing.timer, timing.due_s)


def _send(step: Step, task: KeptTask, timer: Timer, due_s: float) -> None:
    step.command(Send(step.execution.id, TimerFired(task=task.number, timer=timer, due_s=due_s), due_s))
