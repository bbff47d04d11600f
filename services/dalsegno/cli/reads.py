"""The reads of executions and tasks that several commands share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc

from dalsegno.cli.connection import Connection, ask
from dalsegno.cli.paging import page_size, read_pages
from dalsegno.cli.retries import RETRY_S, Retries, is_cut
from dalsegno.cli.waits import OPEN_ACTIONS, OPEN_TASKS, Waiting, waiting_of
from dalsegno.v1 import action_service_pb2, change_pb2, execution_pb2
from dalsegno.v1 import execution_service_pb2 as messages

OPEN_READ = 100
"""The number of open tasks and actions of an execution that are read at most."""
_AT_ONCE = 8
_LAST_CHANGES = 50
_TIMES_READ = 5
_FAILED_TASKS = "state=ERROR superseded=false"
ENDED = {
    execution_pb2.EXECUTION_STATE_SUCCESS,
    execution_pb2.EXECUTION_STATE_ERROR,
    execution_pb2.EXECUTION_STATE_CANCELLED,
    execution_pb2.EXECUTION_STATE_REVERTED,
    execution_pb2.EXECUTION_STATE_REVERT_ERROR,
}
PAUSES = {execution_pb2.EXECUTION_STATE_PAUSING, execution_pb2.EXECUTION_STATE_PAUSED}


@dataclass(slots=True)
class ExecutionStatus:
    """An execution with what it waits for."""

    execution: execution_pb2.Execution
    tasks: list[execution_pb2.TaskExecution] = field(default_factory=list)
    """The first tasks that have not ended."""
    actions: list[execution_pb2.ActionExecution] = field(default_factory=list)
    """The first actions that have not ended, with their input."""
    failed: list[execution_pb2.TaskExecution] = field(default_factory=list)
    """If it has not ended: the first tasks that failed without error handling."""
    is_paused_by_request: bool = False
    """Whether a user requested the pause, and not the workflow."""

    def waits(self) -> list[tuple[execution_pb2.TaskExecution, Waiting]]:
        """Return the open tasks that wait, each with what it waits for."""
        found = [(task, waiting_of(task, self.actions)) for task in self.tasks]
        return [(task, waiting) for task, waiting in found if str(waiting)]

    def open_questions(self) -> list[execution_pb2.ActionExecution]:
        """Return the open inquiries."""
        asking = {waiting.delegate for _, waiting in self.waits() if waiting.questions}
        return [action for action in self.actions if action.id in asking]


async def read_execution(connection: Connection, execution_id: str) -> execution_pb2.Execution:
    """Return an execution with all its values. Raises grpc.aio.AioRpcError."""
    request = messages.GetExecutionRequest(execution_id=execution_id)
    return (await ask(connection.executions.GetExecution, request, RETRY_S)).execution


async def read_whole(connection: Connection, execution_id: str) -> execution_pb2.Execution:
    """Return an execution, also with values that are too large for one message with the others."""
    execution = await read_execution(connection, execution_id)
    for name in list(execution.left_out):
        setattr(
            execution,
            name,
            await read_value(connection, messages.ReadValueRequest(execution_id=execution_id, field=name)),
        )
        execution.left_out.remove(name)
    return execution


async def read_value(connection: Connection, request: messages.ReadValueRequest) -> str:
    """Return the JSON text of one value, read in pieces; empty when there is none. Raises grpc.aio.AioRpcError."""
    async with Retries() as retries:
        while True:
            pieces = []
            try:
                async for message in connection.executions.ReadValue(request):
                    retries.answered()
                    pieces.append(message.piece)
                return "".join(pieces)
            except grpc.aio.AioRpcError as error:
                if not is_cut(error):
                    raise
                await retries.wait(error)


async def read_waits(connection: Connection, execution: execution_pb2.Execution) -> ExecutionStatus:
    """Return what an execution waits for; nothing, without a call, if it has ended."""
    status = ExecutionStatus(execution)
    if execution.state not in ENDED:
        status.tasks = await read_tasks(connection, execution.id, OPEN_TASKS, OPEN_READ)
        status.actions = await read_actions(connection, execution.id, OPEN_ACTIONS, OPEN_READ)
    return status


async def read_status(connection: Connection, execution: execution_pb2.Execution) -> ExecutionStatus:
    """Return what an execution waits for, what has failed, and why it is paused."""
    status = await read_waits(connection, execution)
    has_failed = any(each.state == execution_pb2.TASK_STATE_ERROR for each in execution.task_counts)
    if has_failed and execution.state not in ENDED:
        failed = await read_tasks(connection, execution.id, _FAILED_TASKS, OPEN_READ)
        status.failed = [each for each in failed if not each.error_handled]
    if execution.state in PAUSES:
        status.is_paused_by_request = await _is_paused_by_request(connection, execution)
    return status


async def read_open_actions(
    connection: Connection, executions: Sequence[execution_pb2.Execution], chosen: str
) -> list[ExecutionStatus]:
    """Return for each execution only the actions that the filter chooses; a few calls run at once."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def read(execution: execution_pb2.Execution) -> ExecutionStatus:
        async with turns:
            return ExecutionStatus(execution, actions=await read_actions(connection, execution.id, chosen))

    return list(await asyncio.gather(*map(read, executions)))


async def read_all_waits(
    connection: Connection, executions: Sequence[execution_pb2.Execution]
) -> list[ExecutionStatus]:
    """Return what several executions wait for; a few calls run at once."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def read(execution: execution_pb2.Execution) -> ExecutionStatus:
        async with turns:
            return await read_waits(connection, execution)

    return list(await asyncio.gather(*map(read, executions)))


async def read_executions(
    connection: Connection, chosen: str, limit: int = 0, *, full: bool = False
) -> list[execution_pb2.Execution]:
    """Return the executions that the filter chooses, the newest first, at most `limit` (0: all)."""
    return await read_pages(
        lambda token: ask(
            connection.executions.ListExecutions,
            messages.ListExecutionsRequest(page_size=page_size(limit), page_token=token, filter=chosen, full=full),
            RETRY_S,
        ),
        lambda page: page.executions,
        limit,
    )


async def read_checkpoints(
    connection: Connection, execution_id: str, limit: int = 0
) -> messages.ListCheckpointsResponse:
    """Return the entries of checkpoints, the newest first, at most `limit` (0: all), and the names of those ahead."""
    found = messages.ListCheckpointsResponse()

    async def read(token: str) -> messages.ListCheckpointsResponse:
        request = messages.ListCheckpointsRequest(
            execution_id=execution_id, page_size=page_size(limit), page_token=token
        )
        page: messages.ListCheckpointsResponse = await ask(connection.executions.ListCheckpoints, request, RETRY_S)
        if not token:
            found.ahead.extend(page.ahead)
            found.further_ahead = page.further_ahead
        return page

    found.entries.extend(await read_pages(read, lambda page: page.entries, limit))
    return found


async def read_tasks(
    connection: Connection, execution_id: str, chosen: str = "", limit: int = 0, *, full: bool = False
) -> list[execution_pb2.TaskExecution]:
    """Return the tasks of an execution that the filter chooses, at most `limit` (0: all)."""
    return await read_pages(
        lambda token: ask(
            connection.executions.ListTasks,
            messages.ListTasksRequest(
                execution_id=execution_id, page_size=page_size(limit), page_token=token, filter=chosen, full=full
            ),
            RETRY_S,
        ),
        lambda page: page.tasks,
        limit,
    )


async def read_actions(
    connection: Connection, execution_id: str, chosen: str, limit: int = 0, task_number: int = 0
) -> list[execution_pb2.ActionExecution]:
    """Return the actions of an execution that the filter chooses, with their input, at most `limit` (0: all)."""
    return await read_pages(
        lambda token: ask(
            connection.actions.ListActionExecutions,
            action_service_pb2.ListActionExecutionsRequest(
                execution_id=execution_id,
                task_number=task_number,
                page_size=page_size(limit),
                page_token=token,
                filter=chosen,
                full=True,
            ),
            RETRY_S,
        ),
        lambda page: page.action_executions,
        limit,
    )


async def read_changes(
    connection: Connection, execution_id: str, after: int = 0, limit: int = 0
) -> list[change_pb2.Change]:
    """Return the changes of an execution with a higher number, at most `limit` (0: all).

    When a checkpoint discards them before the last page is read, all are read again.
    """

    async def read(token: str) -> messages.ListChangesResponse:
        request = messages.ListChangesRequest(
            execution_id=execution_id, page_size=page_size(limit), page_token=token, after_sequence=after
        )
        return await ask(connection.executions.ListChanges, request, RETRY_S)

    for _ in range(_TIMES_READ - 1):
        try:
            return await read_pages(read, lambda page: page.changes, limit)
        except grpc.aio.AioRpcError as error:
            if after or error.code() is not grpc.StatusCode.OUT_OF_RANGE:
                raise
    return await read_pages(read, lambda page: page.changes, limit)


async def _is_paused_by_request(connection: Connection, execution: execution_pb2.Execution) -> bool:
    """Return whether a user requested the pause, from the end of the journal."""
    after = max(0, execution.revision - _LAST_CHANGES, execution.first_sequence - 1)
    request = messages.ListChangesRequest(execution_id=execution.id, after_sequence=after, page_size=_LAST_CHANGES)
    is_asked = False
    for change in (await ask(connection.executions.ListChanges, request, RETRY_S)).changes:
        if change.WhichOneof("kind") == "execution_moved":
            pauses = change.execution_moved.state in PAUSES
            is_asked = pauses and (is_asked or change.cause.startswith("pause"))
    return is_asked
