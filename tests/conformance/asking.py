"""What a person or a third party may ask of an execution or tell of an action, as calls of the public api."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from tests.conformance.stage import Refused
from tests.processes import CALL_S, System
from tests.world import Played

from dalsegno.v1 import action_service_pb2, execution_pb2, execution_service_pb2, operation_pb2
from dalsegno.workflow.events import (
    CancelRequested,
    Choice,
    Event,
    PauseRequested,
    RerunRequested,
    ResumeRequested,
    TaskChoice,
)

REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)

COMPLETIONS = {
    "succeeded": action_service_pb2.COMPLETION_OUTCOME_SUCCEEDED,
    "failed": action_service_pb2.COMPLETION_OUTCOME_FAILED,
    "cancelled": action_service_pb2.COMPLETION_OUTCOME_CANCELLED,
}
UPDATES = {"paused": execution_pb2.ACTION_STATE_PAUSED, "running": execution_pb2.ACTION_STATE_RUNNING}


@contextmanager
def refused() -> Iterator[None]:
    """Turns the api's refusals into Refused."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if error.code() not in REFUSALS:
            raise
        raise Refused(f"{error.code().name}: {error.details()}") from error


async def ask(system: System, execution_id: str, request: Event) -> None:
    """Pause, resume, cancel or rerun an execution."""
    service, stub = execution_service_pb2, system.executions
    if isinstance(request, PauseRequested):
        await stub.PauseExecution(service.PauseExecutionRequest(execution_id=execution_id), timeout=CALL_S)
    elif isinstance(request, ResumeRequested):
        resume = service.ResumeExecutionRequest(
            execution_id=execution_id,
            tasks=map(_resumed, request.choices),
            environment_overlay="" if request.environment is None else request.environment.text,
        )
        await stub.ResumeExecution(resume, timeout=CALL_S)
    elif isinstance(request, CancelRequested):
        cancel = service.CancelExecutionRequest(execution_id=execution_id, comment=request.comment)
        if request.terminate:
            state = execution_pb2.ExecutionState.Value(f"EXECUTION_STATE_{request.terminate}")
            cancel.terminate.CopyFrom(operation_pb2.Terminate(state=state, message=request.message))
        await stub.CancelExecution(cancel, timeout=CALL_S)
    else:
        assert isinstance(request, RerunRequested), request
        start_from = operation_pb2.RERUN_FROM_TASKS if request.choices else operation_pb2.RERUN_FROM_FAILED
        rerun = service.RerunExecutionRequest(
            execution_id=execution_id, start_from=start_from, tasks=map(_rerun, request.choices)
        )
        await stub.RerunExecution(rerun, timeout=CALL_S)


def _resumed(choice: TaskChoice) -> operation_pb2.ResumeTask:
    return operation_pb2.ResumeTask(
        task=choice.task,
        task_number=choice.number,
        reset=choice.reset,
        skip=choice.choice is Choice.SKIP,
        output="" if choice.output is None else choice.output.text,
    )


def _rerun(choice: TaskChoice) -> operation_pb2.RerunTask:
    return operation_pb2.RerunTask(task=choice.task, task_number=choice.number, reset=choice.reset)


async def report(system: System, action_execution_id: str, played: Played) -> None:
    """Tell of an action from outside: that it has ended, is paused, or runs again."""
    service = action_service_pb2
    if played.outcome in UPDATES:
        update = service.UpdateActionRequest(action_execution_id=action_execution_id, state=UPDATES[played.outcome])
        await system.actions.UpdateAction(update, timeout=CALL_S)
        return
    complete = service.CompleteActionRequest(
        action_execution_id=action_execution_id,
        outcome=COMPLETIONS[played.outcome],
        result=result_of(played),
        error=played.error if played.outcome == "failed" else "",
    )
    await system.actions.CompleteAction(complete, timeout=CALL_S)


def result_of(played: Played) -> str:
    """The result as text; none of what was cancelled or continues."""
    value = played.value if played.outcome in ("succeeded", "failed") else None
    return "" if value is None else value.text
