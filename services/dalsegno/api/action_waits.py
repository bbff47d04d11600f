"""WaitAction: wait for the end of one action execution."""

from __future__ import annotations

import asyncio
from typing import Any

from dalsegno.api.follow import Follower
from dalsegno.api.reads import Reads
from dalsegno.api.watch import time_to_wait_s
from dalsegno.rpc import convert, views
from dalsegno.store.store import Queries
from dalsegno.v1 import action_service_pb2 as wire
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.refusals import NotFound
from dalsegno.workflow.states import COMPLETED_ATTEMPT, COMPLETED_EXECUTION

PAUSE_S = 0.05
"""An execution that changes without a pause is read at most so often for each wait."""


async def wait(
    reads: Reads, follower: Follower, request: wire.WaitActionRequest, context: Any
) -> wire.WaitActionResponse:
    """Return when the action execution has ended, or when the time is over."""
    fields = convert.Fields()
    execution_id, (task, item, attempt) = fields.numbered_id("action_execution_id", request.action_execution_id, 3)
    timeout_s = time_to_wait_s(fields, request, context)
    fields.done()
    ends_s = asyncio.get_running_loop().time() + timeout_s
    with follower.watch(execution_id) as watched:
        while True:
            watched.moved.clear()
            answer = await reads.run(lambda queries: _read(queries, execution_id, (task, item, attempt)))
            if answer.ended or asyncio.get_running_loop().time() >= ends_s:
                return answer
            try:
                async with asyncio.timeout_at(ends_s):
                    await watched.moved.wait()
                    await asyncio.sleep(PAUSE_S)
            except TimeoutError:
                continue


def _read(queries: Queries, execution_id: str, key: AttemptKey) -> wire.WaitActionResponse:
    """Return the attempt, or the newest one of an action without a workflow, and whether it has ended for good. Raises
    NotFound."""
    execution = queries.execution(execution_id)
    row = queries.attempt(execution_id, key)
    if execution is None or row is None or row.runs_workflow:
        raise NotFound("action execution", f"{execution_id}.{'.'.join(map(str, key))}")
    ended = row.state in COMPLETED_ATTEMPT
    if execution.is_standalone_action:
        ended = execution.state in COMPLETED_EXECUTION
        task = queries.task(execution_id, key[0])
        if task is not None and task.attempt != key[2]:
            row = queries.attempt(execution_id, (key[0], key[1], task.attempt)) or row
    return wire.WaitActionResponse(action_execution=views.action_messages(queries, [row])[0], ended=ended)
