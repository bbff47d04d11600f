"""Resume: continue what was paused, or go on after failures by a choice for each (R1-R27, decision 1)."""

from __future__ import annotations

from dalsegno.workflow.changes import EnvironmentChanged, RepeatedBy
from dalsegno.workflow.events import ResumeRequested, Verdict
from dalsegno.workflow.operating import choosing, repeating
from dalsegno.workflow.operating.choosing import Chosen, RequestFaults
from dalsegno.workflow.operating.control import go_on
from dalsegno.workflow.refusals import Obstacle
from dalsegno.workflow.running import lifecycle
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.states import TAKEN, ExecutionState, Request

_PAUSED = frozenset({ExecutionState.PAUSING, ExecutionState.PAUSED})


def resume(step: Step, event: ResumeRequested) -> None:
    """Continue what was paused (R2, O5), or carry out the choices for failed tasks; refuse or carry out all of them."""
    execution = step.execution
    if event.cascaded and (execution.state not in _PAUSED or execution.unhandled):
        if execution.state is not ExecutionState.RUNNING or not _pass_down(step, event):
            step.verdict = Verdict.DUPLICATE  # with failed tasks it stays paused: an operator chooses (R3)
        return
    faults = RequestFaults()
    environment = choosing.environment(step, event.environment, faults)
    if environment is not None and execution.state is ExecutionState.RUNNING:
        faults.obstacle("environment", "cannot be changed while the execution is RUNNING")
    chosen = _chosen(step, event, faults) if event.choices else _check_continues(step, event, faults)
    faults.wrong += lifecycle.unknown_stops(step, event.stop_at)
    faults.refuse()
    was_running = execution.state is ExecutionState.RUNNING
    if not event.cascaded:
        step.set_stops(event.stop_at)
        step.left_paused = tuple(below for below in step.surroundings.paused_below(execution.id) if below.failed)
    if environment is not None:
        step.change(EnvironmentChanged(environment=environment, entry=execution.entry_edited))
    if not was_running:
        step.move_execution(ExecutionState.RUNNING)
    repeating.carry_out(step, chosen, RepeatedBy.RESUME)
    if not was_running:
        go_on(step, event.environment)
    elif not event.choices:
        _pass_down(step, event)


def _pass_down(step: Step, event: ResumeRequested) -> bool:
    """Pass the resume of a RUNNING execution on to what is paused below it (O7). Return False when nothing is."""
    children = {below.path[0] for below in step.surroundings.paused_below(step.execution.id) if not below.failed}
    resumed = ResumeRequested(at_s=step.at_s, actor=event.actor, comment=event.comment, cascaded=True)
    for key in step.execution.children:
        child_id = step.execution.attempts[key].child_id
        if child_id in children:
            step.tell_child(child_id, resumed)
    return bool(children)


def _check_continues(step: Step, event: ResumeRequested, faults: RequestFaults) -> list[Chosen]:
    """Check a resume without choices: something must be paused, here or below, and nothing failed (R2-R4, decision
    15)."""
    execution = step.execution
    if execution.state is ExecutionState.RUNNING:
        _check_below(step, faults)
    elif execution.state not in _PAUSED:
        description = f"only a PAUSED execution can be resumed, it is {execution.state}"
        if execution.state is ExecutionState.REVERTED:
            description += ": go to an entry of a checkpoint to go on from there"
        faults.obstacle(f"execution {execution.id}", description)
    if not event.cascaded and execution.state is not ExecutionState.RUNNING:
        for number in execution.unhandled:
            task = execution.tasks[number]
            faults.obstacle(f"task {task.name}", f"has failed: {task.info}", Obstacle.TASK_FAILED)
    return []


def _check_below(step: Step, faults: RequestFaults) -> None:
    """Check the resume of a RUNNING execution: something below it must be paused that has no failed tasks."""
    execution = step.execution
    paused = step.surroundings.paused_below(execution.id)
    if not paused:
        description = "only what is paused can be resumed: it is RUNNING, and none of its sub-workflows is paused"
        faults.obstacle(f"execution {execution.id}", description)
    elif all(below.failed for below in paused):
        for below in paused:
            description = (
                f"of execution {below.execution_id} ({below.workflow}) has failed: resume that execution with a choice"
            )
            for name in below.failed:
                faults.obstacle(f"task {name}", description, Obstacle.TASK_FAILED)


def _chosen(step: Step, event: ResumeRequested, faults: RequestFaults) -> list[Chosen]:
    execution = step.execution
    if not execution.takes(Request.RESUME_TASKS):
        states = ", ".join(sorted(TAKEN[Request.RESUME_TASKS]))
        faults.obstacle(
            f"execution {execution.id}", f"its tasks can be resumed while it is {states}, it is {execution.state}"
        )
    chosen: dict[int, Chosen] = {}
    for index, choice in enumerate(event.choices):
        for task in choosing.executions_of(step, choice, faults, failed=True):
            if task.state not in choosing.FAILED:
                description = f"did not fail: it is {task.state}"
                faults.obstacle(f"task {task.name}", description)
            else:
                one = choosing.check(step, index, choice, task, faults)
                choosing.gather(chosen, index, one, faults)
    return list(chosen.values())
