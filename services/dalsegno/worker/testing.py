"""Call an action as a worker does, in a test, without an engine.

    outcome = call(greet, {"name": "Ada"})
    assert outcome.result == "Hello, Ada"

The input and the result travel as JSON, inputs are checked, deadline and cancel reach the action: by the code that a
worker uses. An action is still a function, so that a test of what it computes may call it directly.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal, cast

from dalsegno.actions.action import ActionContext, AnyAction
from dalsegno.actions.registry import Registry
from dalsegno.rpc import convert
from dalsegno.v1 import executor_service_pb2 as wire
from dalsegno.worker import isolation
from dalsegno.worker.outcome import WORDS
from dalsegno.worker.runner import Run, Runner
from dalsegno.workflow.value import decode, encode

Word = Literal["succeeded", "failed", "cancelled", "delegated"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the engine would be told of one run of an action."""

    word: Word
    result: Any = None
    """The result as the workflow sees it: plain data. After a failure, its data."""
    error: str = ""
    """The message of a failure, or why the action was stopped."""
    alias: str = ""
    """The name by which a delegated action may be completed."""
    completion_timeout_s: float | None = None
    """How long a delegated action may wait for its completion; None: without a limit."""
    heartbeat_timeout_s: float | None = None
    """How long a delegated action may be without a sign of life; None: without a limit."""
    progress: tuple[tuple[str, float | None], ...] = ()
    """All reports of progress, in order: text and fraction."""


def call(
    action: AnyAction,
    input: object = None,
    *,
    context: ActionContext | None = None,
    timeout_s: float | None = None,
    cancel_after_s: float | None = None,
) -> Outcome:
    """Run an action with an input (an object, as a workflow gives it) and return its outcome.

    The action is stopped at its deadline, `timeout_s` seconds after its start, and cancelled after `cancel_after_s`
    seconds, if it has not ended. `context` is what an action reads of its run. Within an event loop use `call_async`.
    """
    return asyncio.run(call_async(action, input, context=context, timeout_s=timeout_s, cancel_after_s=cancel_after_s))


async def call_async(
    action: AnyAction,
    input: object = None,
    *,
    context: ActionContext | None = None,
    timeout_s: float | None = None,
    cancel_after_s: float | None = None,
) -> Outcome:
    """Do the same as `call` within an event loop."""
    ended: asyncio.Future[wire.TaskDone] = asyncio.get_running_loop().create_future()
    told: list[tuple[str, float | None]] = []

    def note(progress: wire.TaskDone, _: Run) -> None:
        reported = progress.progress
        told.append((reported.text, reported.fraction if reported.HasField("fraction") else None))

    isolation.check([action])
    isolation.prepare([action])
    runner = Runner(Registry([action]), 1, lambda done, _: ended.set_result(done), lambda _: None, note)
    order = _order(action.name, {} if input is None else input, context)
    try:
        runner.start(order, "", timeout_s)
        if cancel_after_s is not None:
            asyncio.get_running_loop().call_later(
                cancel_after_s, runner.stop, (order.action_execution_id, order.delivery), "cancelled by the test"
            )
        done = await ended
    finally:
        await runner.close(1.0)
    return Outcome(
        cast(Word, WORDS[done.outcome]),
        decode(done.result) if done.result else None,
        done.error,
        done.alias,
        convert.length_s(done.completion_timeout) if done.HasField("completion_timeout") else None,
        convert.length_s(done.heartbeat_timeout) if done.HasField("heartbeat_timeout") else None,
        tuple(told),
    )


def _order(action: str, input: object, context: ActionContext | None) -> wire.RunAction:
    where = context or ActionContext("test.1.0.1")
    return wire.RunAction(
        action_execution_id=where.action_execution_id,
        delivery=where.delivery,
        action=action,
        input=encode(input),
        task_token=where.task_token,
        trace_context=where.trace_context,
        has_secrets=where.has_secrets,
        context=wire.ActionContext(
            namespace=where.namespace,
            execution_id=where.execution_id,
            workflow=where.workflow,
            task_name=where.task_name,
            task_number=where.task_number,
            item=where.item,
            attempt=where.attempt,
            safe_to_rerun=where.safe_to_rerun,
        ),
    )
