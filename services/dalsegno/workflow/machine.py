"""The machine: it takes an event and gives changes and commands. It has no I/O, no clock and no randomness.

`step` is the only entrance. It applies each change to the execution as soon as it decides it, so that the next decision
sees the change. The caller stores the changes and commands in one transaction; if that fails, the caller drops its copy
of the execution. A refusal (see refusals.py) is raised before the first change.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from dalsegno.workflow import graph
from dalsegno.workflow.changes import AnyChange, ExecutionCreated, Timer
from dalsegno.workflow.checkpoints import forking, going, reaching, requests, reverting, subflows
from dalsegno.workflow.commands import AnyCommand
from dalsegno.workflow.consolidated import Consolidated, Discarded
from dalsegno.workflow.discarding import discard
from dalsegno.workflow.events import (
    CancelRequested,
    ChildMoved,
    ContextUpdated,
    DeliveryLost,
    DiscardRequested,
    Event,
    GoToRequested,
    HandedOut,
    HeartbeatDue,
    PauseRequested,
    Poisoned,
    RerunRequested,
    ResumeRequested,
    SliceDue,
    StartRequested,
    TaskDone,
    TimerFired,
    Verdict,
)
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.model import START, Workflow
from dalsegno.workflow.operating import control, editing, repeating, replacing, rerun, resume
from dalsegno.workflow.outside import Given, PausedBelow, Surroundings
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.refusals import InvalidRequest
from dalsegno.workflow.routing import branches, clauses
from dalsegno.workflow.running import children, items, launching, lifecycle, policies, reporting, tasks
from dalsegno.workflow.running.follow_ups import (
    AttemptEnded,
    Begin,
    BeginAgain,
    CheckJoin,
    ChildAgain,
    ChildReported,
    ChildReverted,
    Due,
    End,
    FailJoin,
    Fill,
    FollowUp,
    GoOn,
    Launch,
    RevertEnded,
    Route,
    RunCommand,
    Settle,
    SettleItems,
    Skip,
    WindDown,
)
from dalsegno.workflow.running.step import HardFailure, Step
from dalsegno.workflow.scope import EvaluationError, Suspended
from dalsegno.workflow.secrets import hide_named
from dalsegno.workflow.states import COMPLETED_ATTEMPT, LIVE, ExecutionState, TaskState
from dalsegno.workflow.value import UnfitValue, Value

_EXECUTION_RUNNING = ExecutionState.RUNNING
_ACCEPTED = Verdict.ACCEPTED

TODO_MAX = 20_000
"""The most follow-ups that one event may have. This limit stops a cycle of tasks that all end at once."""


class StepResult(msgspec.Struct, frozen=True):
    """What a step has decided. (A frozen dataclass takes eight times as long to make, and each event makes one.)"""

    execution: Execution
    changes: list[AnyChange | Consolidated] = []
    """Only a fork begins with Consolidated, behind ExecutionCreated."""
    commands: list[AnyCommand] = []
    verdict: Verdict = Verdict.ACCEPTED
    subsumed: tuple[str, ...] = ()
    """The tasks of the request that follow another task of the request, and so are not run again separately (O28)."""
    left_paused: tuple[PausedBelow, ...] = ()
    """The descendants that a resume leaves PAUSED, because tasks of theirs have failed (decision 15)."""
    discarded: Discarded | None = None
    """What it leaves of the past; None: it discards nothing."""


def step(
    workflow: Workflow,
    execution: Execution | None,
    event: Event,
    surroundings: Surroundings,
    given: Given | None = None,
) -> StepResult:
    """Decide what follows from the event. Raise Refusal before anything has changed.

    `execution` is None only for a StartRequested that creates it. Without `given`, it is derived from the event. Raise
    Suspended when values are not known yet; the step has then asked for every value that it can name, and the caller
    discards what the step has changed.
    """
    created: ExecutionCreated | None = None
    if execution is None:
        assert isinstance(event, StartRequested), "only a start creates an execution"
        created = _with_defaults(workflow, event, surroundings)
        execution = Execution(created)
        execution.revision = created.sequence
    current = Step(workflow, execution, event, surroundings, given)
    if created is not None:
        current.changes.append(created)
    _decide(current, event)
    _work_off(current)
    if current.verdict is _ACCEPTED:  # the other verdicts leave the execution as it is
        _come_to_rest(current)
    if execution.is_completed:
        lifecycle.tell_not_begun(current)
        lifecycle.tell_errors(current)
    if current.keeps is not None:
        discard.discard_reached(current, *current.keeps)
    return StepResult(
        execution,
        current.changes,
        current.commands,
        current.verdict,
        current.subsumed,
        current.left_paused,
        current.discarded,
    )


def _with_defaults(workflow: Workflow, event: StartRequested, surroundings: Surroundings) -> ExecutionCreated:
    """Return the creation with the declared defaults added to its input, and its secrets hidden."""
    assert event.creation is not None
    given = event.creation.input.data
    if not isinstance(given, dict):
        raise InvalidRequest.of("input", f"must be an object, not {type(given).__name__}")
    completed = {**given, **launching.with_defaults(workflow, given)}
    if not workflow.rules.calls.checks_input:
        completed = launching.with_defaults(workflow, given)
    if workflow.secrets & completed.keys():
        try:
            completed = hide_named(completed, workflow.secrets, surroundings.cipher(event.creation.namespace))
        except (UnfitValue, EvaluationError) as error:
            raise InvalidRequest.of("input", str(error)) from None
    elif completed.keys() == given.keys():
        return event.creation
    return msgspec.structs.replace(event.creation, input=Value(data=completed))


def _start(step: Step, event: StartRequested) -> None:
    execution = step.execution
    if execution.state is not ExecutionState.IDLE:
        step.verdict = Verdict.DUPLICATE
        return
    if event.fork is not None:
        hidden = replacing.hide(step, event)
        assert hidden.fork is not None
        forking.begin(step, hidden.fork)
        return
    try:
        variables = lifecycle.check_start(step)
    except InvalidRequest as error:
        if execution.created.parent is None:
            raise
        lifecycle.finish(step, ExecutionState.ERROR, str(error))  # a child reports this to its parent
        return
    lifecycle.start(step, event, variables)
    if execution.is_completed:
        return
    names = step.workflow.starts
    if step.workflow.reverse:
        needed = graph.needed_for(step.workflow, clauses.reverse_target(step))
        names = tuple(name for name, task in step.workflow.tasks.items() if name in needed and not task.requires)
    for name in names:
        step.later(Begin(clauses.add_task(step, name, ())))
    if START in execution.stop_at:
        step.pause(f"stopped at checkpoint '{START}'", paused_at=execution.start_sequence)


def _timer(step: Step, event: TimerFired) -> None:
    execution = step.execution
    if event.timer is Timer.DEADLINE:
        if execution.state is not ExecutionState.REVERTING and not execution.is_completed:
            lifecycle.terminate(step, ExecutionState.ERROR, "the execution's deadline has passed")
        return
    if event.timer is Timer.GO_ON:
        _go_on(step, event)
        return
    if event.timer is Timer.REVERT:
        return  # what is due is found when the step comes to rest
    task = execution.tasks.get(event.task)
    if task is None or task.is_completed:
        step.verdict = Verdict.SUPERSEDED
    elif event.timer is Timer.TIMEOUT:
        if task.state is TaskState.IDLE or task.timing.timer is Timer.RETRY or task.timing.verdict is TaskState.ERROR:
            step.verdict = Verdict.SUPERSEDED  # between two attempts, or failed already
            return
        if task.timing.timeout_due_s == event.due_s and policies.timeout_is_over(step, task):
            _time_out(step, task)
    elif task.timing.timer is not event.timer or task.timing.due_s != event.due_s:
        step.verdict = Verdict.SUPERSEDED
    elif execution.state is ExecutionState.RUNNING or (
        execution.is_completed and task.timing.timer is Timer.WAIT_AFTER
    ):
        step.later(Due(task, task.timing.timer))
    # else nothing may begin: the due time stays, and the operation that runs the execution again finds it in the past


def _go_on(step: Step, event: TimerFired) -> None:
    """Go on after the delay of a strategy, unless an operator has decided otherwise."""
    if step.execution.goes_on_s != event.due_s or step.execution.state is not ExecutionState.PAUSED:
        step.verdict = Verdict.SUPERSEDED
        return
    step.move_execution(ExecutionState.RUNNING)
    control.go_on(step)


def _time_out(step: Step, task: TaskExecution) -> None:
    info = policies.describe_timeout(step, task)
    for attempt in list(step.execution.current_attempts(task)):
        if attempt.state not in COMPLETED_ATTEMPT:
            reporting.stop(step, attempt, info)
    step.later(End(task, TaskState.ERROR, info))


def _due(step: Step, task: TaskExecution, timer: Timer) -> None:
    """Continue a task whose waiting time is over."""
    timing = task.timing
    if task.state is not TaskState.RUNNING_DELAYED or timing.timer is not timer:
        return
    if timer is Timer.WAIT_AFTER:
        assert timing.verdict is not None
        tasks.conclude(step, task, timing.verdict, task.info)
    elif not step.execution.is_completed:
        items.launch(step, task, task.progress.retries + (timer is Timer.RETRY))


def _slice(step: Step, event: SliceDue) -> None:
    task = step.execution.tasks.get(event.task)
    if task is None or task.progress.attempt != event.attempt or task.progress.item_count is None:
        step.verdict = Verdict.SUPERSEDED
    elif task.progress.slice_due if event.begun is None else task.progress.begun_count != event.begun:
        step.verdict = Verdict.SUPERSEDED  # another SliceDue continues with the items
    else:
        step.later(Fill(task))


def _poison(step: Step, event: Poisoned) -> None:
    """End the execution with the reason and evaluate nothing: an expression may be the cause.

    An execution that has ended keeps its state, and its actions that still run are cancelled: the event may be the
    report of one of them, and a report that is refused is not sent again. If the event is an order of its parent, the
    parent waits for an answer.
    """
    execution = step.execution
    if not execution.is_completed:
        step.note(event.reason, None)
        output = None if step.workflow.rules.failures.notes_errors else {"result": event.reason}
        lifecycle.terminate(step, ExecutionState.ERROR, event.reason, Value(data=output))
        return
    if not execution.is_at_rest:
        lifecycle.terminate(step, execution.state, event.reason)
    elif not event.parent_revision:
        step.verdict = Verdict.SUPERSEDED
    if event.parent_revision:
        info = f"{execution.info}\n{event.reason}" if execution.info else event.reason
        step.move_execution(execution.state, info, execution.output, paused_at=execution.paused_at)


def _control(step: Step, event: PauseRequested | ResumeRequested | CancelRequested) -> None:
    """Pause, resume or cancel what is under way: the flow, or the way back to an entry.

    A pause or resume of the parent that a later order of it has overtaken has no effect.
    """
    if 0 < event.parent_revision < step.execution.parent_revision and not isinstance(event, CancelRequested):
        step.verdict = Verdict.SUPERSEDED
        return
    is_going_back = step.execution.revert is not None
    match event:
        case PauseRequested():
            requests.pause(step, event) if is_going_back else control.pause(step, event)
        case ResumeRequested():
            requests.resume(step, event) if is_going_back else resume.resume(step, event)
        case CancelRequested():
            requests.cancel(step, event) if is_going_back else control.cancel(step, event)
    if event.parent_revision > step.execution.parent_revision and not step.execution.is_completed:
        step.note_order()


def _go_to(step: Step, event: GoToRequested) -> None:
    going.go_to(step, event)
    if event.parent_revision > step.execution.parent_revision and not step.execution.is_completed:
        step.note_order()


def _child_reverted(step: Step, next_: ChildReverted) -> None:
    if next_.end:
        reverting.child_reverted(step, next_.end, next_.event)
    else:
        subflows.child_reverted(step, next_.task, step.execution.attempts[next_.key], next_.event)


def _wind_down(step: Step, task: TaskExecution, reason: str) -> None:
    """Cancel the execution, because an action reported that the task or an item of it was cancelled."""
    if step.execution.state in LIVE:
        control.wind_down(step, reason)


def _attempt_ended(step: Step, task: TaskExecution, key: AttemptKey) -> None:
    attempt = step.execution.attempts[key]
    if task.state not in reporting.SHOWN or not attempt.accepted:
        return  # the task does not wait for it any more
    if not subflows.tries_again(step, task, attempt):
        items.ended(step, task, attempt)


def _decide(step: Step, event: Event) -> None:
    """Decide what the event itself changes, and put what follows on the list of the step.

    The cases are in order of frequency, because each case costs time before the next one is tried.
    """
    match event:
        case TaskDone():
            reporting.report(step, event)
        case HandedOut():
            reporting.hand_out(step, event)
        case SliceDue():
            _slice(step, event)
        case StartRequested():
            _start(step, event)
        case ChildMoved():
            children.child_moved(step, event)
        case TimerFired():
            _timer(step, event)
        case HeartbeatDue():
            reporting.heartbeat_due(step, event)
        case DeliveryLost():
            reporting.lose(step, event)
        case ResumeRequested():
            _control(step, replacing.hide(step, event))
        case PauseRequested() | CancelRequested():
            _control(step, event)
        case RerunRequested():
            rerun.rerun(step, replacing.hide(step, event))
        case ContextUpdated():
            editing.update_context(step, replacing.hide(step, event))
        case GoToRequested():
            _go_to(step, replacing.hide(step, event))
        case DiscardRequested():
            going.discard(step, event)
        case Poisoned():
            _poison(step, event)
        case _:
            raise TypeError(f"{type(event).__name__} is no event of an execution")


def _follow_up(step: Step, next_: FollowUp) -> None:
    """Do one follow-up. The cases are in order of frequency."""
    match next_:
        case AttemptEnded():
            _attempt_ended(step, next_.task, next_.key)
        case End():
            tasks.end(step, next_.task, next_.verdict, next_.info)
        case Route():
            if step.execution.revert is None and not reaching.stops_after(step, next_.task):
                clauses.route(step, next_.task)
        case Begin():
            reaching.reach_before(step, next_.task)
            if step.workflow.rules.calls.begins_together:
                tasks.prepare(step, next_.task)
            tasks.begin(step, next_.task)
        case CheckJoin():
            clauses.check_join(step, next_.task)
        case Fill():
            items.fill(step, next_.task)
        case SettleItems():
            items.settle_items(step, next_.task)
        case Due():
            _due(step, next_.task, next_.timer)
        case RunCommand():
            clauses.run_command(step, next_.task, next_.command, next_.message)
        case Launch():
            items.launch(step, next_.task, next_.retries)
        case Settle():
            tasks.settle(step, next_.task, next_.verdict, next_.info)
        case FailJoin():
            clauses.fail_join(step, next_.task, next_.reason)
        case ChildAgain():
            rerun.child_again(step, next_.task, next_.key, next_.revision, next_.by)
        case ChildReported():
            children.child_moved(step, next_.event)
        case BeginAgain():
            reaching.reach_before(step, next_.task)
            tasks.begin_again(step, next_.task)
        case Skip():
            repeating.skip(step, next_.task, next_.output, next_.comment)
        case RevertEnded():
            reverting.ended(step, next_.key)
        case ChildReverted():
            _child_reverted(step, next_)
        case GoOn():
            control.go_on_by_report(step, next_.task)
        case WindDown():
            _wind_down(step, next_.task, next_.reason)
        case _:
            assert_never(next_)


def _work_off(step: Step) -> None:
    """Do the follow-ups until the list is empty. A failure that no handler catches ends the execution, not the step.

    A follow-up that waits for a value does not block the others, so that the step asks for all values at once. Raise
    Suspended at the end in that case.
    """
    done = 0
    is_suspended = False
    while step.todo:
        next_ = step.todo.popleft()
        done += 1
        try:
            if done > TODO_MAX:
                step.todo.clear()
                raise HardFailure(
                    f"one event set off more than {TODO_MAX} decisions: a cycle whose tasks all end at once"
                )
            _follow_up(step, next_)
        except Suspended:
            is_suspended = True
        except (HardFailure, EvaluationError, UnfitValue) as error:
            if not is_suspended:  # else the whole step is discarded
                lifecycle.fail_hard(step, next_.task, str(error))
    if is_suspended:
        raise Suspended


def _come_to_rest(step: Step) -> None:
    """End the execution when nothing is left to do; make it PAUSED or CANCELLED when no action runs any more; take a
    revert as far as it gets."""
    while True:
        _complete(step)
        control.come_to_rest(step)
        if step.execution.revert is None:
            return
        reverting.advance(step)
        requests.come_to_rest(step)
        if not step.todo:
            return
        _work_off(step)  # the execution goes on from the entry


def _complete(step: Step) -> None:
    """End the execution when nothing is left to do."""
    execution = step.execution
    while execution.state is _EXECUTION_RUNNING and not execution.unrouted:
        if not execution.incomplete:
            lifecycle.complete(step)
        elif len(execution.waiting) < len(execution.incomplete) or branches.fail_joins(step):
            break
        else:
            for number in list(execution.waiting):
                join = execution.tasks[number]
                clauses.check_join(step, join, last_chance=True)
                if join.state is TaskState.WAITING and step.todo:
                    break
            _work_off(step)
