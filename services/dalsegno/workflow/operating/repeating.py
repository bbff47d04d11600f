"""What resume and rerun have in common: take back what the chosen tasks had led to, and go on from there.

Tasks after them that had ended are superseded; those that are active go on and count. A join that is to be reached
again is a new task execution, which keeps the arrivals that were not taken back (decision 3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from dalsegno.workflow import graph
from dalsegno.workflow.changes import (
    AttemptAdded,
    AttemptMoved,
    AttemptsBegun,
    RepeatedBy,
    RoundPlanned,
    TaskMoved,
    TaskSuperseded,
)
from dalsegno.workflow.events import ChildChoice, Choice, RerunRequested, ResumeRequested
from dalsegno.workflow.operating.choosing import Chosen
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.routing import joins
from dalsegno.workflow.running import reporting, tasks
from dalsegno.workflow.running.follow_ups import BeginAgain, Skip
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState, TaskState
from dalsegno.workflow.value import EMPTY, Value


def carry_out(step: Step, chosen: Sequence[Chosen], by: RepeatedBy) -> None:
    """Carry out the choices in a RUNNING execution. Chosen tasks that follow other chosen ones are subsumed (O28)."""
    own = {each.task.number: each for each in chosen if each.wanted.choice is not Choice.LEAVE}
    roots = [each.task for each in own.values()]
    alive = [task for task in roots if not joins.is_dead(step, task)]
    dead = _dead_joins(step, alive)
    after = {task.number for task in [*dead, *_after(step, [*roots, *dead])]}
    subsumed = [task for task in roots if task.number in after]
    step.subsumed = tuple(dict.fromkeys(task.name for task in subsumed))
    roots = [task for task in roots if task.number not in after]
    if not roots:
        return
    for task in roots:
        if own[task.number].only is None:
            _stop_attempts(step, task, by)
    skipped = {task.number for task in roots if own[task.number].wanted.choice is Choice.SKIP}
    states = {task.number: task.state if task.number in skipped else TaskState.RUNNING for task in roots}
    undo(step, states, by)
    comment = f"launched by {by}" + (f": {step.event.comment}" if step.event.comment else "")
    for task in roots:
        each = own[task.number]
        if each.wanted.choice is Choice.SKIP:
            assert each.wanted.output is not None
            step.later(Skip(task, each.wanted.output, comment))
        else:
            _plan(step, each, by, comment)
            step.later(BeginAgain(task))


def undo(step: Step, roots: Mapping[int, TaskState], by: RepeatedBy) -> None:
    """Reopen these tasks, by number, in these states, and take back what they had led to."""
    execution = step.execution
    generation = execution.generation + 1
    again = [execution.tasks[number] for number in roots]
    dead = _dead_joins(step, again)
    revived = [join for join in dead if not join.next]  # the others led on already
    found = {task.number: task for task in _after(step, [*again, *dead])}
    found |= {join.number: join for join in dead if join.next}
    undone = set(roots) | {number for number, task in found.items() if task.is_completed or _is_unbegun(task)}
    undone -= {join.number for join in revived}
    dropped = [task for task in found.values() if _is_unbegun(task) or _is_in_vain(task, undone)]
    dropped += [join for join in revived if undone.issuperset((*join.arrivals.sources, *join.arrivals.late))]
    for join in revived:
        step.change(TaskMoved(task=join.number, state=TaskState.WAITING, generation=generation, at_s=step.at_s))
    for task in dropped:
        step.change(TaskMoved(task=task.number, state=TaskState.CANCELLED, info=f"superseded by {by}", at_s=step.at_s))
    for task in again:
        if joins.is_dead(step, task):
            joins.take_late(step, task)
        info = task.info if roots[task.number] is task.state else ""
        step.change(
            TaskMoved(task=task.number, state=roots[task.number], info=info, generation=generation, at_s=step.at_s)
        )
    gone = [task for task in {**found, **{join.number: join for join in revived}}.values() if task.is_completed]
    for task in gone:
        _stop_attempts(step, task, by)
        step.change(TaskSuperseded(task=task.number, by=by, at_s=step.at_s))
    for join in revived:
        if join.state is TaskState.WAITING:
            joins.take_late(step, join)
    for task in gone:
        if step.spec(task).has_join:
            joins.renew(step, task, undone, generation)


def _is_in_vain(task: TaskExecution, undone: Collection[int]) -> bool:
    """Return whether it is a join that waits, and all that had reached it is taken back."""
    return task.state is TaskState.WAITING and all(source in undone for source in task.arrivals.sources)


def _is_unbegun(task: TaskExecution) -> bool:
    """Return whether it was selected and has not begun, nor ended."""
    return not task.progress.attempt and task.state in (TaskState.IDLE, TaskState.RUNNING_DELAYED)


def _dead_joins(step: Step, roots: Sequence[TaskExecution]) -> list[TaskExecution]:
    """Return the joins ahead that have failed for lack of arrivals: these tasks may still fill them.

    A join whose failure led to a task is not ahead of that task.
    """
    behind: dict[int, set[int]] = {}
    """Of each dead join, the tasks that its failure led to."""
    found: dict[int, TaskExecution] = {}
    numbers = {root.number for root in roots}
    for root in roots:
        for name in graph.joins_ahead(step.workflow, root.name):
            join = step.execution.latest(name)
            if join is None or join.number in found or join.number in numbers or not joins.is_dead(step, join):
                continue
            if join.number not in behind:
                behind[join.number] = {after.number for after in _after(step, [join])}
            if root.number not in behind[join.number]:
                found[join.number] = join
    return list(found.values())


def _after(step: Step, roots: Iterable[TaskExecution]) -> list[TaskExecution]:
    """Return the task executions that these led to, directly or not, and that count."""
    execution = step.execution
    led_to = _required_by(step) if step.workflow.reverse else None
    found: dict[int, TaskExecution] = {}
    ahead = list(roots)
    while ahead:
        task = ahead.pop()
        for number in task.next if led_to is None else led_to.get(task.number, ()):
            after = execution.tasks.get(number)
            if after is None or number in found or after.superseded_by:
                continue
            if task.number in after.arrivals.sources:
                found[number] = after
                ahead.append(after)
    return [found[number] for number in sorted(found)]


def _required_by(step: Step) -> dict[int, list[int]]:
    """Return, for reverse workflows, the tasks that began because of each task. Only the last one that a task waited
    for has led to it."""
    found: dict[int, list[int]] = {}
    for task in step.execution.tasks.values():
        for source in task.arrivals.sources:
            found.setdefault(source, []).append(task.number)
    return found


def _stop_attempts(step: Step, task: TaskExecution, by: RepeatedBy) -> None:
    """Stop what still runs of an ended task, because its result is not needed any more."""
    if task.progress.added_count > task.progress.ended_count:
        for attempt in list(step.execution.current_attempts(task)):
            if attempt.state not in COMPLETED_ATTEMPT:
                reporting.stop(step, attempt, f"superseded by {by}")


def _plan(step: Step, chosen: Chosen, by: RepeatedBy, comment: str) -> None:
    task, choice = chosen.task, chosen.wanted
    is_resume = by is RepeatedBy.RESUME
    evaluates = choice.reset is True or (choice.reset is None and not is_resume and not choice.items)
    is_same = task.progress.edits_seen == step.execution.edit_count
    reruns_failed = choice.child is ChildChoice.RERUN_FAILED
    environment = step.event.environment if isinstance(step.event, RerunRequested | ResumeRequested) else None
    step.change(
        RoundPlanned(
            task=task.number,
            only=chosen.only,
            keeps_items=not evaluates,
            repeats=not evaluates and is_same,
            given=choice.input,
            inputs={item: given for item, given in choice.items.items() if given is not None},
            reruns_failed=reruns_failed,
            environment=environment if reruns_failed else None,
            comment=comment,
            actor=step.event.actor,
        )
    )


def skip(step: Step, task: TaskExecution, output: Value, comment: str) -> None:
    """Go on after the task with this output: a std.noop with that result is added to the attempts (R15-R21, decision
    4)."""
    keeps = output.data is None and step.workflow.rules.skip_keeps_result
    only = () if keeps else None
    step.change(AttemptsBegun(task=task.number, attempt=task.next_attempt, only=only, stands_in=True, at_s=step.at_s))
    key = (task.number, 0, task.progress.attempt)
    step.change(
        AttemptAdded(
            key=key,
            action="std.noop",
            input=EMPTY,
            state=AttemptState.READY,
            safe=True,
            comment=comment,
            actor=step.event.actor,
            stands_in=True,
            at_s=step.at_s,
        )
    )
    step.change(AttemptMoved(key=key, state=AttemptState.SUCCESS, result=output, at_s=step.at_s))
    info = "skipped" + (f": {step.event.comment}" if step.event.comment else "")
    tasks.publish(step, task, TaskState.SKIPPED, info)
    tasks.settle(step, task, TaskState.SKIPPED, info)
