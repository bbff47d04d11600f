"""The functions of Orquesta's expressions about their own execution, with Orquesta's names of states."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from dalsegno.expressions import functions
from dalsegno.expressions.functions import ASK_COST
from dalsegno.expressions.keys import pay_for_key
from dalsegno.expressions.values import CONTAINER_COST, describe, quote
from dalsegno.expressions.yaql.frame import Frame
from dalsegno.expressions.yaql.registry import Builtin, builtin
from dalsegno.workflow.scope import EvaluationError
from dalsegno.workflow.states import COMPLETED_TASK, TaskState

FUNCTIONS: dict[str, Builtin] = {}
"""By name."""

T = TaskState
STATUSES: dict[str, str] = {
    T.IDLE: "requested",
    T.WAITING: "requested",
    T.RUNNING: "running",
    T.RUNNING_DELAYED: "delayed",
    T.PAUSED: "paused",
    T.SUCCESS: "succeeded",
    T.SKIPPED: "succeeded",
    T.ERROR: "failed",
    T.CANCELLED: "canceled",
    T.REVERTING: "running",
    T.REVERTED: "canceled",
    T.REVERT_ERROR: "failed",
}
"""Orquesta's names of our states."""
NEVER_RUN = "null"
"""Orquesta's status of a task that has not run."""
ABSENT = object()
"""Represents a missing argument where null has a meaning."""
STORED_COST = 1_000
"""Steps of reading a stored value: it may come from the database."""
OWN_ENVIRONMENT = "user"
"""The environment of keys in StackStorm's store without an environment."""


@builtin("ctx", least=0, most=1, function=True, table=FUNCTIONS)
def ctx(frame: Frame, key: object = None) -> object:
    """Represent `ctx()`, which each evaluator implements itself, so that it reads only the named variable; this entry
    declares that the function exists."""
    raise EvaluationError("ctx() stands where there is no context")


@builtin("item", least=0, most=1, function=True, table=FUNCTIONS, named=True)
def item(frame: Frame, key: object = None) -> object:
    """Return the current item of a task with items, or a key of it."""
    frame.budget.step(1)
    found = frame.scope.item()
    if not key:
        return found
    if not isinstance(found, Mapping):
        raise EvaluationError(f"item({quote(key)}) needs an item that is a dict, not {describe(found)}")
    pay_for_key(frame.budget, key, len(found))
    if key not in found:
        raise EvaluationError(f"the item has no key {quote(key)}")
    return found[key]


@builtin("result", least=0, function=True, table=FUNCTIONS)
def result(frame: Frame) -> object:
    """Return the result of the current task."""
    frame.budget.step(ASK_COST)
    found = frame.scope.result()
    if isinstance(found, list):  # For a task with items it is a new list each time.
        frame.budget.step(len(found))
    return found


@builtin("callback_url", least=0, function=True, table=FUNCTIONS)
def callback_url(frame: Frame) -> str:
    """Return the mark of the address where a third party completes the action that has it in its input."""
    return functions.callback_url(frame.budget)


@builtin("task_status", least=1, most=2, function=True, table=FUNCTIONS, named=True)
def task_status(frame: Frame, task_id: object, route: object = None) -> str:
    """Return the status of a task on a route, or on the current one and its predecessors."""
    if not isinstance(task_id, str):
        raise EvaluationError(f"task_status() needs the name of a task, not {describe(task_id)}")
    return _status(frame, task_id, _route(route, "task_status()"))


@builtin("succeeded", least=0, function=True, table=FUNCTIONS)
def succeeded(frame: Frame) -> bool:
    """Return whether the current task succeeded; a skipped one counts."""
    return STATUSES[_need_task(frame, "succeeded()")] == "succeeded"


@builtin("failed", least=0, function=True, table=FUNCTIONS)
def failed(frame: Frame) -> bool:
    """Return whether the current task failed; a cancelled one does not count."""
    return STATUSES[_need_task(frame, "failed()")] == "failed"


@builtin("completed", least=0, function=True, table=FUNCTIONS)
def completed(frame: Frame) -> bool:
    """Return whether the current task has ended."""
    return _need_task(frame, "completed()") in COMPLETED_TASK


@builtin("task", least=0, most=2, function=True, table=FUNCTIONS, named=True)
def task(frame: Frame, task_id: object = None, route: object = None) -> dict[str, object]:
    """Return the record of a task's newest execution, with StackStorm's keys."""
    if task_id is not None and not isinstance(task_id, str):
        raise EvaluationError(f"task() needs the name of a task, not {describe(task_id)}")
    frame.budget.step(ASK_COST)
    run = frame.scope.run(task_id, _route(route, "task()"))
    if run is None:
        raise EvaluationError(f"task {quote(task_id)} has not run" if task_id else "there is no task here")
    return {
        "task_execution_id": run["id"],
        "workflow_execution_id": run["execution_id"],
        "task_name": run["name"],
        "task_id": run["name"],
        "route": run["route"],
        "result": run["result"] if run["items"] is None else _item_results(frame, run["items"]),
        "status": STATUSES[str(run["state"])],
        "start_timestamp": _timestamp(run["started_s"]),
        "end_timestamp": _timestamp(run["ended_s"]),
    }


def _item_results(frame: Frame, items: object) -> dict[str, object]:
    """Return the results of items in StackStorm's form."""
    assert isinstance(items, list)
    frame.budget.step(len(items))
    frame.budget.build(CONTAINER_COST * len(items))
    return {"items": [{"result": result, "status": STATUSES.get(state, "requested")} for result, state in items]}


@builtin("st2kv", least=1, most=3, function=True, table=FUNCTIONS, named=True)
def st2kv(frame: Frame, key: object, decrypt: object = False, default: object = ABSENT) -> object:
    """Return a stored value: `NAME.rest` is the key `rest` of the environment NAME. No value is encrypted."""
    if not isinstance(key, str):
        raise EvaluationError(f"st2kv() needs a key that is a string, not {describe(key)}")
    if not isinstance(decrypt, bool):
        raise EvaluationError(f"st2kv() needs a boolean for decrypt, not {describe(decrypt)}")
    frame.budget.step(STORED_COST)
    frame.budget.read(key)
    environment, dot, rest = key.partition(".")
    if not dot:
        environment, rest = OWN_ENVIRONMENT, key
    try:
        return frame.scope.stored(environment, rest)
    except KeyError:
        if default is ABSENT:
            told = f"st2kv(): there is no key {quote(rest)} in the environment {quote(environment)}"
            raise EvaluationError(told) from None
        return default


def _status(frame: Frame, name: str, route: int | None) -> str:
    frame.budget.step(ASK_COST)
    state = frame.scope.status(name, route)
    return NEVER_RUN if state is None else STATUSES[state]


def _need_task(frame: Frame, what: str) -> str:
    """Return the state of the current task. EvaluationError where there is none."""
    frame.budget.step(ASK_COST)
    state = frame.scope.status(None, None)
    if state is None:
        raise EvaluationError(f"{what} stands where there is no task")
    return state


def _route(route: object, what: str) -> int | None:
    if route is None or (isinstance(route, int) and not isinstance(route, bool)):
        return route
    raise EvaluationError(f"{what} needs a route that is an integer, not {describe(route)}")


def _timestamp(time_s: object) -> str | None:
    return str(datetime.fromtimestamp(time_s, UTC)) if isinstance(time_s, (int, float)) else None
