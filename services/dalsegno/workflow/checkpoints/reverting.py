"""Going back to an entry: come to rest, revert what has ended since, restore the state (decisions 17 to 19)."""

from __future__ import annotations

from dalsegno.workflow.changes import AttemptAdded, RevertMoved, RevertState, TaskMoved, Timer
from dalsegno.workflow.checkpoints import arriving, ends, resting
from dalsegno.workflow.checkpoints.ends import Undo
from dalsegno.workflow.commands import Send
from dalsegno.workflow.events import ChildMoved, GoToRequested, HandedOut, ResumeRequested, TimerFired
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.model import START
from dalsegno.workflow.records import End, Reverting, TaskExecution, Undoing
from dalsegno.workflow.running import adhoc, reporting
from dalsegno.workflow.running.step import HardFailure, Step
from dalsegno.workflow.scope import Constant, EvaluationError
from dalsegno.workflow.states import COMPLETED_ATTEMPT, AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import UnfitValue, Value

_REVERTING, _FAILED, _DELAYED = ExecutionState.REVERTING, RevertState.FAILED, RevertState.DELAYED
_GOES_ON = ResumeRequested | GoToRequested
AT_ONCE_MAX = 1000
"""The most items of a task that are reverted at once."""

_FAULTS = (EvaluationError, HardFailure, adhoc.Unresolved, UnfitValue)


def advance(step: Step) -> None:
    """Take a REVERTING execution as far as it gets in this step: it rests, the next reverts begin, it arrives."""
    execution = step.execution
    if isinstance(step.event, HandedOut):
        return
    while execution.state is _REVERTING and execution.revert is not None:
        revert = execution.revert
        if not revert.lowest and resting.rests(step, revert):
            return
        if revert.delayed or isinstance(step.event, TimerFired | _GOES_ON):
            call_due(step)
        if revert.failed:
            _fail(step, revert)
            return
        following = _following(step, revert)
        if following is None:
            if not revert.open:
                arriving.arrive(step)
            return
        if not _fits(step, revert, following):
            return
        _begin(step, following)


def _following(step: Step, revert: Reverting) -> Undo | None:
    return next(ends.behind(step, revert.to, revert.lowest), None)


def _fits(step: Step, revert: Reverting, following: Undo) -> bool:
    """Return whether this end may be reverted now: one after the other, items of one task up to its concurrency. An
    item that has ended several times is reverted as often, and its sub-workflow may be the same each time."""
    if not revert.open:
        return True
    end = following.end
    if end.item < 0 or _task_of_open(revert) != end.task:
        return False
    if any(each.end.item == end.item for each in revert.open.values()):
        return False
    return len(revert.open) < _concurrency(step, following)


def _concurrency(step: Step, undo: Undo) -> int:
    """Return how many items of a task are reverted at once; when that cannot be evaluated, one after the other."""
    template = None if undo.revert is None else undo.revert.concurrency
    if template is None:
        return 1
    if isinstance(template, Constant) and isinstance(template.value, int):
        return min(template.value, AT_ONCE_MAX)
    try:
        return min(ends.whole(template, _view(step, undo.end), "concurrency", 1), AT_ONCE_MAX)
    except (EvaluationError, HardFailure):
        return 1


def _task_of_open(revert: Reverting) -> int:
    """Return the task whose ends are being reverted: several at once are items of one task."""
    return next(iter(revert.open.values())).end.task


def _view(step: Step, end: End) -> ends.RevertView:
    revert = step.execution.revert
    assert revert is not None
    return ends.view(step, end, revert.aim.failure)


def _begin(step: Step, undo: Undo) -> None:
    """Begin to revert an end: its sub-workflow first, then its own revert action is called."""
    task = step.execution.tasks[undo.end.task]
    _show(step, task, TaskState.REVERTING)
    if undo.child_id:
        _order_child(step, undo)
    else:
        _call(step, undo, 0)


def _show(step: Step, task: TaskExecution, state: TaskState, info: str = "") -> None:
    if task.state is not state:
        step.change(TaskMoved(task=task.number, state=state, info=info, at_s=step.at_s))


def _order_child(step: Step, undo: Undo) -> None:
    event = step.event
    step.change(RevertMoved(end=undo.end.sequence, state=RevertState.CHILD, at_s=step.at_s))
    order = GoToRequested(at_s=step.at_s, actor=event.actor, comment=event.comment, name=START, cascaded=True)
    step.tell_child(undo.child_id, order)


def _call(step: Step, undo: Undo, retries: int, given: Value | None = None) -> None:
    """Call the revert action of an end: the next attempt of its task. What cannot be called has failed."""
    end, revert = undo.end, step.execution.revert
    assert revert is not None
    task = step.execution.tasks[end.task]
    try:
        call = ends.call(step, undo, revert.aim.failure, given)
    except _FAULTS as fault:
        _fault(step, end, f"cannot call the revert action of task '{task.name}': {fault}", retries)
        return
    step.change(
        AttemptAdded(
            key=_key(step, task, max(end.item, 0)),
            action=call.action.description.name,
            input=call.input,
            state=AttemptState.READY,
            safe=call.safe,
            adhoc=call.action.adhoc,
            target=call.target,
            digest=call.action.description.digest,
            timeout_s=call.timeout_s,
            comment="revert" + (f": {step.event.comment}" if step.event.comment else ""),
            actor=step.event.actor,
            reverts=end.sequence,
            at_s=step.at_s,
        )
    )
    if call.timeout_s is not None:
        _wake(step, end.task, step.at_s + call.timeout_s)


def _key(step: Step, task: TaskExecution, item: int) -> AttemptKey:
    """Return the next key of a revert: items that are reverted in a row share a number, as those of a round do."""
    key = (task.number, item, task.last_attempt)
    is_free = task.last_attempt > task.last_round and key not in step.execution.attempts
    return key if is_free else (task.number, item, task.next_attempt)


def _wake(step: Step, task: int, due_s: float) -> None:
    step.command(Send(step.execution.id, TimerFired(task=task, timer=Timer.REVERT, due_s=due_s), due_s))


def ended(step: Step, key: AttemptKey) -> None:
    """Continue after a revert action has ended: the end is undone, another attempt follows, or the revert failed."""
    execution = step.execution
    attempt, revert = execution.attempts[key], execution.revert
    undoing = None if revert is None else revert.open.get(attempt.reverts)
    if revert is None or undoing is None or undoing.key != key:
        return
    undo = _undo(step, undoing)
    try:
        if attempt.state is AttemptState.SUCCESS:
            _done(step, undoing, ends.published(step, undo, revert.aim.failure, attempt))
        elif attempt.state is AttemptState.CANCELLED or not _retry(step, undoing, undo):
            _fault(step, undoing.end, attempt.error or "the revert action was cancelled", undoing.retries)
    except _FAULTS as fault:
        _fault(step, undoing.end, str(fault), undoing.retries)


def _undo(step: Step, undoing: Undoing) -> Undo:
    found = ends.of_end(step, undoing.end)
    assert found is not None
    return found


def _retry(step: Step, undoing: Undoing, undo: Undo) -> bool:
    """Have another attempt of the revert action follow, if its `retry` says so."""
    retry = None if undo.revert is None else undo.revert.retry
    if retry is None:
        return False
    scope = _view(step, undoing.end)
    if undoing.retries >= ends.whole(retry.count, scope, "retry.count", 0):
        return False
    if retry.break_on is not None and step.decide(retry.break_on, scope):
        return False
    due_s = step.at_s + ends.seconds(retry.delay_s, scope, "retry.delay")
    retries = undoing.retries + 1
    step.change(RevertMoved(end=undoing.end.sequence, state=_DELAYED, due_s=due_s, retries=retries, at_s=step.at_s))
    if due_s > step.at_s:
        _wake(step, undoing.end.task, due_s)
    return True


def call_due(step: Step) -> None:
    """Call the revert actions again whose delay is over, and end the attempts whose time is up."""
    execution = step.execution
    revert = execution.revert
    assert revert is not None
    for undoing in list(revert.open.values()):
        due_s = _due_s(execution, undoing)
        if due_s is None or due_s > step.at_s:
            continue
        if undoing.state is _DELAYED:
            _call(step, _undo(step, undoing), undoing.retries)
        else:
            _time_out(step, undoing)


def wake_again(step: Step) -> None:
    """Send the timers of a revert that goes on once more: see `policies.wake`."""
    execution = step.execution
    assert execution.revert is not None
    for undoing in execution.revert.open.values():
        due_s = _due_s(execution, undoing)
        if due_s is not None and due_s > step.at_s:
            _wake(step, undoing.end.task, due_s)


def _due_s(execution: Execution, undoing: Undoing) -> float | None:
    """Return when a delay is over, or the time of an attempt is up; None: never."""
    if undoing.state is _DELAYED:
        return undoing.due_s
    if undoing.state is not RevertState.RUNNING or undoing.key is None:
        return None
    attempt = execution.attempts[undoing.key]
    return None if attempt.timeout_s is None else attempt.created_s + attempt.timeout_s


def _time_out(step: Step, undoing: Undoing) -> None:
    assert undoing.key is not None
    attempt = step.execution.attempts[undoing.key]
    if attempt.state not in COMPLETED_ATTEMPT:
        reporting.stop(step, attempt, f"Revert timed out [timeout(s)={attempt.timeout_s or 0:g}].")
    if not _retry(step, undoing, _undo(step, undoing)):
        _fault(step, undoing.end, attempt.error, undoing.retries)


def child_reverted(step: Step, sequence: int, event: ChildMoved) -> None:
    """Continue after the sub-workflow of an end has been reverted, or could not be."""
    revert = step.execution.revert
    undoing = None if revert is None else revert.open.get(sequence)
    if undoing is None or undoing.state is not RevertState.CHILD:
        return
    undo = _undo(step, undoing)
    step.change(
        RevertMoved(end=sequence, state=undoing.state, child=event.key, child_revision=event.revision, at_s=step.at_s)
    )
    if event.state is not ExecutionState.REVERTED:
        info = event.state_info or f"it has ended {event.state}"
        _fault(step, undoing.end, f"the sub-workflow could not be reverted: {info}", 0)
    elif undo.revert is None:
        _done(step, undoing, {})
    else:
        _call(step, undo, 0)


def _done(step: Step, undoing: Undoing, values: dict[str, Value], info: str = "reverted") -> None:
    """The end is undone. Its task is REVERTED unless more of it is undone now or next."""
    revert = step.execution.revert
    assert revert is not None
    end = undoing.end
    step.change(RevertMoved(end=end.sequence, state=RevertState.DONE, published=values, at_s=step.at_s))
    following = _following(step, revert)
    goes_on = following is not None and following.end.task == end.task
    if not goes_on and not (revert.open and _task_of_open(revert) == end.task):
        _show(step, step.execution.tasks[end.task], TaskState.REVERTED, info)


def _fault(step: Step, end: End, info: str, retries: int) -> None:
    """The revert of the end has failed."""
    step.change(RevertMoved(end=end.sequence, state=_FAILED, info=info, retries=retries, at_s=step.at_s))
    _show(step, step.execution.tasks[end.task], TaskState.REVERT_ERROR, info)


def fail(step: Step, undoing: Undoing, info: str) -> None:
    """Take the revert of the end as failed."""
    _fault(step, undoing.end, info, undoing.retries)


def _fail(step: Step, revert: Reverting) -> None:
    """End as REVERT_ERROR once no other revert is under way (C29)."""
    if len(revert.failed) == len(revert.open):
        step.move_execution(ExecutionState.REVERT_ERROR, failure_info(step))


def failure_info(step: Step) -> str:
    """Return which reverts failed and why."""
    revert = step.execution.revert
    assert revert is not None
    failed = [revert.open[sequence] for sequence in revert.failed]
    lines = [f"  {step.execution.tasks[each.end.task].name}: {each.info}" for each in failed[:10]]
    return "\n".join([f"{len(failed)} reverts failed:" if len(failed) != 1 else "a revert failed:", *lines])


def run_again(step: Step, undoing: Undoing, given: Value | None = None) -> None:
    """Revert the end again after its revert has failed."""
    undo = _undo(step, undoing)
    _show(step, step.execution.tasks[undoing.end.task], TaskState.REVERTING)
    if undo.child_id and undoing.key is None:
        _order_child(step, undo)
    else:
        _call(step, undo, 0, given)


def skip(step: Step, undoing: Undoing, comment: str) -> None:
    """Take the end as undone, without its revert."""
    _done(step, undoing, {}, "skipped" + (f": {comment}" if comment else ""))


def is_over(step: Step, undoing: Undoing) -> bool:
    """Return whether nothing of the revert is under way: it failed, or what ran was stopped."""
    if undoing.state is RevertState.RUNNING and undoing.key is not None:
        return step.execution.attempts[undoing.key].state in COMPLETED_ATTEMPT
    return undoing.state is _FAILED
