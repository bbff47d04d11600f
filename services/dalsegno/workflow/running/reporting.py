"""What happens to an attempt: it is handed out, reported on, ended, lost or stopped."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from dalsegno.workflow.changes import AttemptMoved, Signature, TaskMoved, Timer
from dalsegno.workflow.commands import CancelAction, Send
from dalsegno.workflow.events import (
    CancelRequested,
    ChildMoved,
    DeliveryLost,
    ForcedEnd,
    HandedOut,
    HeartbeatDue,
    TaskDone,
    TaskOutcome,
    Verdict,
)
from dalsegno.workflow.identity import attempt_id
from dalsegno.workflow.model import PauseRule
from dalsegno.workflow.records import Attempt, TaskExecution
from dalsegno.workflow.refusals import NotFound, Refused
from dalsegno.workflow.running import adhoc, policies
from dalsegno.workflow.running.follow_ups import AttemptEnded, GoOn, RevertEnded, SettleItems
from dalsegno.workflow.running.masking import masks
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.secrets import hide_value
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import NULL, UnfitValue, Value, made

OUTCOMES = {
    TaskOutcome.SUCCEEDED: AttemptState.SUCCESS,
    TaskOutcome.FAILED: AttemptState.ERROR,
    TaskOutcome.CANCELLED: AttemptState.CANCELLED,
}
PROGRESS = frozenset({TaskOutcome.DELEGATED, TaskOutcome.PAUSED, TaskOutcome.RUNNING})
"""Reports that do not end the attempt."""

SHOWN = frozenset({TaskState.RUNNING, TaskState.PAUSED})
"""A task in one of these states shows whether its only attempt is paused."""

# A lookup of a member in its class is slow, and every step needs these (see execution.py).
_READY, _RUNNING = AttemptState.READY, AttemptState.RUNNING
_SUCCESS, _ERROR, _CANCELLED = AttemptState.SUCCESS, AttemptState.ERROR, AttemptState.CANCELLED
_WAIT_AFTER = Timer.WAIT_AFTER
_AT_ONCE, _ONCE_QUIET = PauseRule.AT_ONCE, PauseRule.ONCE_QUIET


class Terms(NamedTuple):
    """How a delegate waits for its third party."""

    alias: str = ""
    deadline_s: float | None = None
    heartbeat_timeout_s: float | None = None
    signature: Signature = Signature.NONE


NO_TERMS = Terms()

TOO_LARGE = "the result cannot be kept as a secret, which takes a third more than the value"
SECRET_FAILURE = "cannot evaluate the output of the action; the cause is not shown, because its result is a secret"


def report(step: Step, event: TaskDone) -> None:
    """Record a report on an attempt. Late and repeated reports change nothing (P24)."""
    attempt = step.execution.attempts.get(event.key)
    if attempt is None:
        raise NotFound("action execution", attempt_id(step.execution.id, event.key))
    if step.execution.holds_secrets:
        event = _masked(step, attempt, event)
    if attempt.state in COMPLETED_ATTEMPT:
        same = event.delivery == attempt.delivery and _reported_state(attempt, event, attempt.ended_s) is attempt.state
        step.verdict = Verdict.DUPLICATE if same else Verdict.SUPERSEDED
    elif event.delivery is not None and event.delivery != attempt.delivery:
        step.verdict = Verdict.SUPERSEDED
    elif event.outcome in PROGRESS:
        _report_progress(step, attempt, event)
    else:
        state = _reported_state(attempt, event, step.at_s)
        assert state is not None
        close(step, attempt, state, event.result, event.error)


def _masked(step: Step, attempt: Attempt, event: TaskDone) -> TaskDone:
    """Return the report without the secrets that the action was given."""
    found = masks(step.execution, attempt, step.cipher)
    if found is None:
        return event
    try:
        result = None if event.result is None else found.value(event.result)
    except UnfitValue as error:
        fault = f"{TOO_LARGE}: {error}"
        return msgspec.structs.replace(event, outcome=TaskOutcome.FAILED, result=None, error=fault)
    return msgspec.structs.replace(event, result=result, error=found.text(event.error))


def _hidden(step: Step, result: Value) -> tuple[Value, str]:
    """Return the result as a secret; what is too large to be one is replaced by the error, which is returned too."""
    try:
        return hide_value(result, step.cipher), ""
    except (UnfitValue, EvaluationError) as error:
        fault = f"{TOO_LARGE}: {error}"
        return Value(data=fault), fault


def _reported_state(attempt: Attempt, event: TaskDone, at_s: float | None) -> AttemptState | None:
    """Return the state that a report leads to; None: the attempt goes on.

    An attempt that an executor stops at its deadline has failed (decision 8). Older executors report it as
    cancelled. What this engine cancels has ended before the executor learns of it, so such a report can only mean the
    deadline.
    """
    state = OUTCOMES.get(event.outcome)
    if state is not _CANCELLED or attempt.deadline_s is None:
        return state
    is_executors = event.delivery is not None and not attempt.delegated
    return _ERROR if is_executors and at_s is not None and at_s >= attempt.deadline_s else state


def _report_progress(step: Step, attempt: Attempt, event: TaskDone) -> None:
    """Record that the attempt is delegated, paused or running. Refuse it for an attempt that no executor has; end the
    attempt if the execution is being cancelled."""
    outcome = event.outcome
    if attempt.state is AttemptState.READY and (outcome is not TaskOutcome.DELEGATED or not attempt.delivery):
        name = attempt_id(step.execution.id, attempt.key)
        raise Refused.of(f"action execution {name}", f"has not been handed out: it cannot be {outcome}")
    waits = _waits(step) and (outcome is TaskOutcome.DELEGATED or attempt.delegated)
    ends = step.execution.state is ExecutionState.CANCELLING or (_is_going_back(step) and not attempt.reverts)
    if ends and outcome is not TaskOutcome.RUNNING and not waits:
        # A person who pauses a revert replaces its reason, perhaps by none.
        close(step, attempt, AttemptState.CANCELLED, None, step.execution.info or "reverting")
        return
    state = AttemptState.PAUSED if outcome is TaskOutcome.PAUSED else AttemptState.RUNNING
    terms = NO_TERMS
    if outcome is TaskOutcome.DELEGATED and not attempt.delegated:
        terms = _terms(step, attempt, event)
    progress(step, attempt, state, delegated=attempt.delegated or outcome is TaskOutcome.DELEGATED, terms=terms)


def _waits(step: Step) -> bool:
    revert = step.execution.revert
    return step.execution.waits_for_delegates or (revert is not None and revert.aim.waits_for_delegates)


def _is_going_back(step: Step) -> bool:
    """Return whether a revert is under way, or paused. Actions that do not end by themselves are cancelled then."""
    return step.execution.revert is not None


def _terms(step: Step, attempt: Attempt, event: TaskDone) -> Terms:
    """Return how the delegate waits, and have its times watched."""
    limit_s = None if event.completion_timeout_s is None else _limit(step, attempt, event.completion_timeout_s)
    if event.heartbeat_timeout_s is not None:
        _await_heartbeat(step, attempt, step.at_s, event.heartbeat_timeout_s)
    return Terms(event.alias, limit_s, event.heartbeat_timeout_s, event.signature)


def _await_heartbeat(step: Step, attempt: Attempt, since_s: float, timeout_s: float) -> None:
    due = HeartbeatDue(key=attempt.key, delivery=attempt.delivery, since_s=since_s)
    step.command(Send(step.execution.id, due, since_s + timeout_s))


def heartbeat_due(step: Step, event: HeartbeatDue) -> None:
    """Fail the delegate whose third party was not heard in time; else look again when its time may be over.

    A heartbeat is no event, so that it costs no journal: when the third party was heard last is looked up here.
    """
    attempt = step.execution.attempts.get(event.key)
    if attempt is None or not attempt.delegated or attempt.delivery != event.delivery:
        step.verdict = Verdict.SUPERSEDED
        return
    timeout_s = attempt.heartbeat_timeout_s
    if timeout_s is None or attempt.state in COMPLETED_ATTEMPT:
        step.verdict = Verdict.SUPERSEDED
        return
    heard_s = step.surroundings.heard_s(step.execution.id, event.key)
    since_s = step.at_s if attempt.state is AttemptState.PAUSED else max(event.since_s, heard_s)
    if since_s + timeout_s > step.at_s:
        _await_heartbeat(step, attempt, since_s, timeout_s)
    else:
        close(step, attempt, AttemptState.ERROR, None, f"heartbeat missed: none has come for {timeout_s:g} s")


def _limit(step: Step, attempt: Attempt, completion_timeout_s: float) -> float:
    """Send the failure of a delegate in advance, due when its time is over; it has no effect once the action has been
    completed. Return that time."""
    late = TaskDone(
        key=attempt.key,
        outcome=TaskOutcome.FAILED,
        delivery=attempt.delivery,
        error=f"nobody has completed the action within {completion_timeout_s:g} s",
    )
    due_s = step.at_s + completion_timeout_s
    step.command(Send(step.execution.id, late, due_s))
    return due_s


def progress(
    step: Step,
    attempt: Attempt,
    state: AttemptState,
    *,
    delegated: bool = False,
    reported: bool = True,
    terms: Terms = NO_TERMS,
) -> None:
    """Record that the attempt is paused or runs again; a task with one attempt shows the same state."""
    if attempt.state is state and attempt.delegated == delegated:
        return
    _move(step, attempt, state, delegated=delegated, reported=reported, terms=terms)
    task = step.execution.tasks[attempt.key[0]]
    if step.workflow.rules.pause is _ONCE_QUIET and step.execution.is_current(attempt.key) and reported | delegated:
        _follow(step, task)
    if step.execution.is_current(attempt.key) and task.state in SHOWN:
        shown = TaskState.PAUSED if _is_paused(step, task, state) else TaskState.RUNNING
        if task.state is not shown:
            step.change(TaskMoved(task=task.number, state=shown, at_s=step.at_s))
    pauses = step.workflow.rules.pause is _AT_ONCE
    if state is AttemptState.RUNNING and (pauses or not attempt.delegated) and _is_paused_by_report(step):
        step.later(GoOn(task))
    is_its_own = state is AttemptState.PAUSED and not attempt.child_id  # decision 12
    if is_its_own and pauses and step.execution.state is ExecutionState.RUNNING:
        step.pause(f"task '{task.name}' is paused by its action", reported=True)


def _is_paused(step: Step, task: TaskExecution, state: AttemptState) -> bool:
    """Return whether nothing of the task runs until it is resumed; `state` is the newest state of its attempt."""
    progress = task.progress
    if progress.item_count is None:
        return state is AttemptState.PAUSED
    if step.workflow.rules.items.stops_early:
        return task.state is TaskState.PAUSED  # settle_items decides
    if len(progress.quiet_items) < progress.added_count - progress.ended_count or progress.begun_count < len(
        progress.pending
    ):
        return False
    found = (step.execution.current(task, item) for item in progress.quiet_items)
    return all(attempt is not None and attempt.state is AttemptState.PAUSED for attempt in found)


def _follow(step: Step, task: TaskExecution) -> None:
    """Pause the execution of a task that has become a delegate; with items, settle the items first."""
    if task.progress.item_count is not None:
        step.later(SettleItems(task))
    elif step.execution.delegates and step.execution.state is ExecutionState.RUNNING:
        step.pause(reported=True)


def close(step: Step, attempt: Attempt, state: AttemptState, result: Value | None, error: str) -> None:
    """Record the end of the attempt. Its task goes on only if it waits for this round of attempts."""
    task = step.execution.tasks[attempt.key[0]]
    has_secret = step.workflow.tasks[task.name].secret
    is_failure = state is _ERROR
    if state is _SUCCESS:
        result = result or NULL
        if attempt.adhoc:
            state, result, error = _transformed(step, attempt, result)
            error = SECRET_FAILURE if error and has_secret else error
    elif is_failure:
        error = error or "the action failed and gave no reason"
        result = result or Value(data=error)
    if result is not None and has_secret:
        result, fault = _hidden(step, result)
        state, error = (_ERROR, fault) if fault else (state, error)
    if is_failure:
        step.note("Execution failed. See result for details.", task, result=result)
    rules = step.workflow.rules
    answered = attempt.delegated or (rules.pause is _AT_ONCE and attempt.state is AttemptState.PAUSED)
    _move(step, attempt, state, result=result, error=error)
    if answered and _is_paused_by_report(step) and not (rules.pause is _ONCE_QUIET and step.execution.delegates):
        step.later(GoOn(task))
    if attempt.reverts:
        step.later(RevertEnded(task, attempt.key))
    elif attempt.accepted and not task.is_completed and task.timing.timer is not _WAIT_AFTER:
        step.later(AttemptEnded(task, attempt.key))


def _is_paused_by_report(step: Step) -> bool:
    return step.execution.is_paused_by_report and step.execution.state in (
        ExecutionState.PAUSING,
        ExecutionState.PAUSED,
    )


def _transformed(step: Step, attempt: Attempt, result: Value) -> tuple[AttemptState, Value, str]:
    try:
        return AttemptState.SUCCESS, made(adhoc.output(step, attempt.adhoc, result.data)), ""
    except (EvaluationError, UnfitValue) as error:
        text = f"cannot evaluate the output of action '{attempt.adhoc}': {error}"
        return AttemptState.ERROR, Value(data=text), text


def _move(
    step: Step,
    attempt: Attempt,
    state: AttemptState,
    *,
    result: Value | None = None,
    error: str = "",
    delegated: bool = False,
    reported: bool = False,
    terms: Terms = NO_TERMS,
) -> None:
    moved = AttemptMoved(
        key=attempt.key,
        state=state,
        result=result,
        error=error,
        delegated=delegated,
        reported=reported,
        alias=terms.alias,
        deadline_s=terms.deadline_s,
        heartbeat_timeout_s=terms.heartbeat_timeout_s,
        signature=terms.signature,
        child_revision=step.event.revision if isinstance(step.event, ChildMoved) and attempt.child_id else 0,
        at_s=step.at_s,
    )
    step.change(moved)


def hand_out(step: Step, event: HandedOut) -> None:
    """Give the attempt to a session of an executor: its next delivery."""
    attempt = step.execution.attempts.get(event.key)
    if attempt is None or attempt.state is not _READY:
        step.verdict = Verdict.SUPERSEDED
        return
    task = step.execution.tasks[event.key[0]]
    if attempt.reverts:
        deadline_s = None if attempt.timeout_s is None else attempt.created_s + attempt.timeout_s
    else:
        policies.start_limit(step, task, attempt)
        deadline_s = task.timing.timeout_due_s
    step.change(
        AttemptMoved(
            key=event.key,
            state=_RUNNING,
            delivery=attempt.delivery + 1,
            session_id=event.session_id,
            executor_id=event.executor_id,
            engine=event.engine,
            deadline_s=deadline_s,
            at_s=step.at_s,
        )
    )


def lose(step: Step, event: DeliveryLost) -> None:
    """Hand the attempt out again after its executor was lost, if that is safe; else fail it and name the executor."""
    attempt = step.execution.attempts.get(event.key)
    if attempt is None or not attempt.is_active or attempt.delivery != event.delivery:
        step.verdict = Verdict.SUPERSEDED  # a delegate or a paused action does not depend on the executor
    elif step.execution.state in (ExecutionState.CANCELLING, ExecutionState.CANCELLED):
        close(step, attempt, AttemptState.CANCELLED, None, f"executor '{event.executor_id}' was lost while cancelling")
    elif _is_going_back(step) and not attempt.reverts:
        close(step, attempt, AttemptState.CANCELLED, None, f"executor '{event.executor_id}' was lost while reverting")
    elif attempt.safe or not event.received:
        _move(step, attempt, AttemptState.READY)
    else:
        reason = (
            f"executor '{event.executor_id}' was lost while it ran this action, and running "
            f"'{attempt.action}' twice is not known to be safe (set safe-rerun on the task if it is)"
        )
        close(step, attempt, AttemptState.ERROR, None, reason)


def stop(step: Step, attempt: Attempt, reason: str, *, by_force: bool = False) -> None:
    """End an attempt as CANCELLED and tell its executor; a sub-workflow is cancelled, by force or not."""
    if attempt.child_id:
        terminate = ForcedEnd.CANCELLED if by_force else ForcedEnd.NONE
        event = CancelRequested(at_s=step.at_s, actor=step.event.actor, comment=reason, terminate=terminate)
        step.tell_child(attempt.child_id, event)
    elif attempt.state is AttemptState.RUNNING and not attempt.delegated:
        step.command(CancelAction(attempt.key, attempt.delivery, attempt.session_id))
    step.change(
        AttemptMoved(key=attempt.key, state=AttemptState.CANCELLED, error=reason, discarded=True, at_s=step.at_s)
    )
