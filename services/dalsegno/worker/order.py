"""Read the orders of an engine: the arguments of an action, and the context in which it runs."""

from __future__ import annotations

import logging

from dalsegno.actions.action import ActionContext, AnyAction
from dalsegno.v1.executor_service_pb2 import RunAction
from dalsegno.workflow.value import decode


def log_raised(log: logging.Logger, level: int, order: RunAction, error: BaseException) -> None:
    """Log what an action has raised: with its traceback, but of one that was given secrets only the type, because the
    texts of errors quote values."""
    told = f": {type(error).__name__}, not shown because it was given secrets" if order.has_secrets else ""
    shown = None if order.has_secrets else error
    log.log(level, "action %s of %s raised%s", order.action, order.action_execution_id, told, exc_info=shown)


def read_input(order: RunAction, action: AnyAction) -> dict[str, object]:
    """Return the action's arguments. Raises UnfitValue or TypeError if it cannot be called with the input."""
    given = decode(order.input) if order.input not in ("", "{}") else {}
    if not isinstance(given, dict):
        raise TypeError(f"the input is not an object but {order.input[:80]}")
    return action.arguments(given)


def read_context(order: RunAction, timeout_s: float | None) -> ActionContext:
    """Return the context, without what it does with progress."""
    where = order.context
    deadline = order.deadline
    return ActionContext(
        action_execution_id=order.action_execution_id,
        delivery=order.delivery,
        namespace=where.namespace,
        execution_id=where.execution_id,
        workflow=where.workflow,
        task_name=where.task_name,
        task_number=where.task_number,
        item=where.item if where.HasField("item") else None,
        attempt=where.attempt,
        safe_to_rerun=where.safe_to_rerun,
        timeout_s=timeout_s,
        deadline_s=deadline.seconds + deadline.nanos / 1e9 if order.HasField("deadline") else None,
        task_token=order.task_token,
        callback_url=order.callback_url,
        signing_key=order.signing_key,
        trace_context=dict(order.trace_context),
        has_secrets=order.has_secrets,
    )
