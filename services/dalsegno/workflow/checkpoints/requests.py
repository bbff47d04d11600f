"""Pause, resume and cancel while a revert is under way, or has failed (decision 23)."""

from __future__ import annotations

from dalsegno.workflow.changes import RevertState
from dalsegno.workflow.checkpoints import reverting
from dalsegno.workflow.events import (
    CancelRequested,
    Choice,
    Event,
    ForcedEnd,
    PauseRequested,
    ResumeRequested,
    TaskChoice,
    Verdict,
)
from dalsegno.workflow.operating import control
from dalsegno.workflow.operating.choosing import RequestFaults
from dalsegno.workflow.records import Reverting, Undoing
from dalsegno.workflow.refusals import Refused, Violation
from dalsegno.workflow.running import lifecycle, reporting
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import COMPLETED_ATTEMPT, ExecutionState, Request

_PAUSED = frozenset({ExecutionState.PAUSING, ExecutionState.PAUSED})


def pause(step: Step, event: PauseRequested) -> None:
    """Pause the revert: the reverts that run come to their end, and no other begins."""
    execution = step.execution
    _check(step, Request.PAUSE, "paused")
    if execution.state in _PAUSED:
        step.verdict = Verdict.DUPLICATE
        return
    step.pause(event.comment)
    _tell_children(step, PauseRequested(at_s=step.at_s, actor=event.actor, comment=event.comment))


def resume(step: Step, event: ResumeRequested) -> None:
    """Go on with a revert that was paused, or that has failed: the failed reverts run again, or are skipped."""
    execution, revert = step.execution, _revert(step)
    if event.cascaded and execution.state not in _PAUSED:
        step.verdict = Verdict.DUPLICATE
        return
    _check(step, Request.RESUME_TASKS if event.choices else Request.RESUME, "resumed")
    faults = RequestFaults()
    faults.wrong += lifecycle.unknown_stops(step, event.stop_at)
    if event.environment is not None:
        faults.obstacle("environment", "cannot be changed during a revert")
    chosen = _chosen(step, revert, event, faults) if event.choices else []
    faults.refuse()
    if not event.cascaded:
        step.set_stops(event.stop_at)
    was_paused = execution.state in _PAUSED
    step.move_execution(ExecutionState.REVERTING, execution.info if was_paused else event.comment)
    go_on(step, was_paused=was_paused)
    for undoing, choice in chosen:
        if choice.choice is Choice.SKIP:
            reverting.skip(step, undoing, event.comment)
        elif choice.choice is Choice.RUN:
            reverting.run_again(step, undoing, choice.input)
    if not event.choices:
        run_failed(step)


def go_on(step: Step, *, was_paused: bool) -> None:
    """Have the timers of the revert fire again, and the sub-workflows that were paused with it go on."""
    event = step.event
    if was_paused:
        _tell_children(step, ResumeRequested(at_s=step.at_s, actor=event.actor, comment=event.comment, cascaded=True))
    reverting.wake_again(step)


def run_failed(step: Step) -> None:
    """Run the reverts again that have failed or were stopped."""
    for undoing in list(_revert(step).open.values()):
        if reverting.is_over(step, undoing):
            reverting.run_again(step, undoing)


def _chosen(
    step: Step, revert: Reverting, event: ResumeRequested, faults: RequestFaults
) -> list[tuple[Undoing, TaskChoice]]:
    found: list[tuple[Undoing, TaskChoice]] = []
    for index, choice in enumerate(event.choices):
        of_task = [
            undoing
            for undoing in revert.open.values()
            if step.execution.tasks[undoing.end.task].name == choice.task
            and choice.number in (0, undoing.end.task)
            and (not choice.items or undoing.end.item in choice.items)
        ]
        if not of_task:
            faults.obstacle(f"task {choice.task}", "has no revert that has failed")
        if choice.input is not None and not isinstance(choice.input.data, dict):
            faults.wrong.append(Violation(f"tasks[{index}].input", "must be an object"))
        found += [(undoing, choice) for undoing in of_task]
    return found


def cancel(step: Step, event: CancelRequested) -> None:
    """Cancel the revert: what runs comes to its end, then the execution is REVERT_ERROR with what is left; or end by
    force."""
    execution = step.execution
    by_force = event.terminate is not ForcedEnd.NONE
    reason = event.message or event.comment or (f"terminated: {event.terminate}" if by_force else "cancelled")
    _check(step, Request.TERMINATE if by_force else Request.CANCEL, "cancelled")
    if by_force:
        control.terminate(step, event, reason)
        _give_up(step, reason)
    elif execution.state is ExecutionState.CANCELLING:
        step.verdict = Verdict.DUPLICATE
    else:
        step.move_execution(ExecutionState.CANCELLING, reason)
        for key in list(execution.ready):
            reporting.stop(step, execution.attempts[key], reason)
        _tell_children(step, CancelRequested(at_s=step.at_s, actor=event.actor, comment=event.comment))


def come_to_rest(step: Step) -> None:
    """End a revert that is being cancelled once nothing of it runs any more."""
    execution, revert = step.execution, step.execution.revert
    if revert is None or execution.state is not ExecutionState.CANCELLING or execution.active_count:
        return
    if any(undoing.state is RevertState.CHILD for undoing in revert.open.values()):
        return
    _give_up(step, execution.info)
    info = f"{execution.info}\n{reverting.failure_info(step)}" if revert.open else execution.info
    step.move_execution(ExecutionState.REVERT_ERROR, info)


def _give_up(step: Step, reason: str) -> None:
    """Stop the reverts that are under way: they have failed."""
    for undoing in list(_revert(step).open.values()):
        attempt = None if undoing.key is None else step.execution.attempts[undoing.key]
        if attempt is not None and attempt.state not in COMPLETED_ATTEMPT:
            reporting.stop(step, attempt, reason)
        if undoing.state is not RevertState.FAILED:
            reverting.fail(step, undoing, reason)


def _revert(step: Step) -> Reverting:
    revert = step.execution.revert
    assert revert is not None
    return revert


def _check(step: Step, request: Request, verb: str) -> None:
    execution = step.execution
    if not execution.takes(request):
        description = f"its revert cannot be {verb} now, it is {execution.state}"
        if execution.is_completed:
            description += ": go to an entry that is older than what has been undone"
        raise Refused.of(f"execution {execution.id}", description)


def _tell_children(step: Step, event: Event) -> None:
    """Tell the sub-workflows that are being reverted."""
    for undoing in _revert(step).open.values():
        attempt = step.execution.attempts.get((undoing.end.task, max(undoing.end.item, 0), undoing.end.attempt))
        if undoing.state is RevertState.CHILD and attempt is not None:
            step.tell_child(attempt.child_id, event)
