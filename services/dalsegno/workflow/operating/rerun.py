"""Rerun: repeat tasks of a completed execution, and let everything after them follow again (O18-O36, decision 1)."""

from __future__ import annotations

from dalsegno.workflow.changes import AttemptsBegun, EnvironmentChanged, RepeatedBy, TaskMoved
from dalsegno.workflow.events import CancelRequested, ChildChoice, Choice, RerunRequested, TaskChoice
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.operating import choosing, repeating
from dalsegno.workflow.operating.choosing import Chosen, RequestFaults
from dalsegno.workflow.operating.control import go_on
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.refusals import Obstacle, Refusal, Violation
from dalsegno.workflow.running import launching, lifecycle, policies
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import ExecutionState, Request, TaskState


def rerun(step: Step, event: RerunRequested) -> None:
    """Repeat these tasks, or all that failed; refuse or carry out the request as a whole (O31)."""
    if not event.cascaded:
        _rerun(step, event)
        return
    try:
        _rerun(step, event)
    except Refusal:
        _tell_parent(step)  # it waits for the rerun


def _rerun(step: Step, event: RerunRequested) -> None:
    execution = step.execution
    faults = RequestFaults()
    if not execution.takes(Request.RERUN):
        description = f"only a completed execution can be rerun, it is {execution.state}"
        if execution.revert is not None:
            description = f"cannot be rerun before its revert is over, it is {execution.state}: resume it, or go to"
            description += " an older entry"
        faults.obstacle(f"execution {execution.id}", description)
    environment = choosing.environment(step, event.environment, faults)
    chosen = _chosen(step, event, faults) if event.choices else _all_failed(step, event, faults)
    faults.wrong += lifecycle.unknown_stops(step, event.stop_at)
    faults.refuse()
    if not event.cascaded:
        step.set_stops(event.stop_at)
    if environment is not None:
        step.change(EnvironmentChanged(environment=environment, entry=execution.entry_edited))
    step.move_execution(ExecutionState.RUNNING)
    repeating.carry_out(step, chosen, RepeatedBy.RERUN)
    go_on(step, event.environment)


def _all_failed(step: Step, event: RerunRequested, faults: RequestFaults) -> list[Chosen]:
    """Choose every task that keeps the execution from success; of items only those that failed.

    Sub-workflows run as new children. A child that its parent asked to rerun its failed tasks asks its own children for
    the same.
    """
    execution = step.execution
    numbers = sorted((*execution.unhandled, *execution.cancelled))
    if not (numbers or execution.incomplete or execution.unrouted):
        faults.obstacle(f"execution {execution.id}", "none of its tasks has failed", Obstacle.NOT_EXECUTED)
    chosen = []
    for index, task in enumerate(execution.tasks[number] for number in numbers):
        inside = event.cascaded and any(attempt.child_id for attempt in execution.current_attempts(task))
        child = ChildChoice.RERUN_FAILED if inside else ChildChoice.FRESH
        choice = TaskChoice(task=task.name, number=task.number, reset=False, child=child)
        chosen.append(choosing.check(step, index, choice, task, faults))
    return chosen


def _chosen(step: Step, event: RerunRequested, faults: RequestFaults) -> list[Chosen]:
    chosen: dict[int, Chosen] = {}
    for index, choice in enumerate(event.choices):
        for task in choosing.executions_of(step, choice, faults, failed=False):
            if not task.is_completed:
                kind = Obstacle.STATE if task.progress.attempt else Obstacle.NOT_EXECUTED
                description = f"has not ended: it is {task.state}" if task.progress.attempt else "was never executed"
                faults.obstacle(f"task {task.name}", description, kind)
            elif choice.choice is not Choice.RUN:
                faults.wrong.append(Violation(f"tasks[{index}].choice", "a rerun runs tasks again, and nothing else"))
            else:
                choosing.gather(chosen, index, choosing.check(step, index, choice, task, faults), faults)
    return list(chosen.values())


def child_again(step: Step, task: TaskExecution, key: AttemptKey, revision: int, by: RepeatedBy) -> None:
    """Wait again for a child that had ended and was resumed or rerun, and so do all ancestors.

    It is the same child, as the next attempt. An execution that had ended runs again; a paused one stays PAUSED and
    takes the result when it comes (decision 11).
    """
    progress = task.progress
    execution, former = step.execution, step.execution.attempts[key]
    had_ended = execution.is_completed
    if had_ended:
        step.move_execution(ExecutionState.RUNNING)
    if task.is_completed:
        repeating.undo(step, {task.number: TaskState.RUNNING}, by)
    elif task.state not in (TaskState.RUNNING, TaskState.PAUSED):  # it waits for a retry, or after its end
        step.change(TaskMoved(task=task.number, state=TaskState.RUNNING, at_s=step.at_s))
    step.change(
        AttemptsBegun(
            task=task.number,
            attempt=task.next_attempt,
            only=None if progress.item_count is None else (key[1],),
            concurrency=progress.concurrency,
            at_s=step.at_s,
        )
    )
    policies.arm_timeout(step, task)
    launching.adopt(step, task, former, revision)
    if execution.state is ExecutionState.CANCELLING:
        step.tell_child(former.child_id, CancelRequested(at_s=step.at_s, comment=execution.info))
    if had_ended:
        go_on(step)


def _tell_parent(step: Step) -> None:
    """Report the state of this child to the parent, which waits for it."""
    execution = step.execution
    if execution.is_completed:
        step.move_execution(execution.state, execution.info, execution.output)
