"""Notices of what happens to an execution, posted to web addresses: the parameter `notify` (mistral/README.md#notices).

    notify:
      - type: webhook
        url: https://example.com/hook
        headers: {X-Token: abc}
        event_types: [WORKFLOW_FAILED, TASK_FAILED]

A notice says which execution or task is in which state and why. The only value in it is the output of an ended
execution, because its author means that to be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from dalsegno.workflow.changes import AnyChange, ExecutionMoved, TaskMoved
from dalsegno.workflow.commands import Notify
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import task_id
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.refusals import Violation
from dalsegno.workflow.states import COMPLETED_EXECUTION, COMPLETED_TASK, ExecutionState, TaskState
from dalsegno.workflow.value import Value, moment

SUBSCRIPTIONS_MAX = 20
"""The most receivers of one execution."""

_WORKFLOW_EVENTS = {
    ExecutionState.SUCCESS: "WORKFLOW_SUCCEEDED",
    ExecutionState.ERROR: "WORKFLOW_FAILED",
    ExecutionState.CANCELLED: "WORKFLOW_CANCELLED",
    ExecutionState.PAUSED: "WORKFLOW_PAUSED",
    ExecutionState.REVERTED: "WORKFLOW_REVERTED",
    ExecutionState.REVERT_ERROR: "WORKFLOW_REVERT_ERROR",
}
_TASK_EVENTS = {
    TaskState.SUCCESS: "TASK_SUCCEEDED",
    TaskState.ERROR: "TASK_FAILED",
    TaskState.CANCELLED: "TASK_CANCELLED",
    TaskState.SKIPPED: "TASK_SKIPPED",
    TaskState.PAUSED: "TASK_PAUSED",
    TaskState.REVERTED: "TASK_REVERTED",
}
EVENT_TYPES = (
    *("WORKFLOW_LAUNCHED", "WORKFLOW_RESUMED", "WORKFLOW_RERUN", *_WORKFLOW_EVENTS.values()),
    *("TASK_LAUNCHED", "TASK_RESUMED", "TASK_RERUN", *_TASK_EVENTS.values()),
)
"""The events that a receiver can ask for."""

_KEYS = {"type", "url", "headers", "event_types"}


@dataclass(frozen=True, slots=True)
class Subscription:
    """One receiver, and the events that it asks for."""

    url: str
    headers: Mapping[str, str]
    event_types: frozenset[str]


def subscriptions(params: Value) -> tuple[Subscription, ...]:
    """Return the receivers in the parameters of a start. (`check` has seen them; what it refuses is left out.)"""
    given = params.data.get("notify") if isinstance(params.data, dict) else None
    if not isinstance(given, list):
        return ()
    return tuple(
        Subscription(
            entry["url"],
            {name: str(value) for name, value in (entry.get("headers") or {}).items()},
            frozenset(entry["event_types"]),
        )
        for entry in given
        if not any(_entry_violations(entry, "")) and entry["type"] == "webhook"
    )


def check(params: Value) -> Iterator[Violation]:
    """Yield the faults of `notify` in the parameters of a start."""
    given = params.data.get("notify") if isinstance(params.data, dict) else None
    if given is None:
        return
    if not isinstance(given, list):
        yield Violation("params.notify", f"must be a list of receivers, not {type(given).__name__}")
        return
    if len(given) > SUBSCRIPTIONS_MAX:
        yield Violation("params.notify", f"has {len(given)} receivers; at most {SUBSCRIPTIONS_MAX}")
    for index, entry in enumerate(given[:SUBSCRIPTIONS_MAX]):
        yield from _entry_violations(entry, f"params.notify[{index}]")


def _entry_violations(entry: object, path: str) -> Iterator[Violation]:
    if not isinstance(entry, dict):
        yield Violation(path, "must be an object with type, url and event_types")
        return
    kind = entry.get("type")
    if kind not in ("webhook", "noop"):
        yield Violation(f"{path}.type", f"is webhook or noop, not {kind!r}" if "type" in entry else "is missing")
    for name in sorted(entry.keys() - _KEYS):
        yield Violation(f"{path}.{name}", f"is not known: there are {', '.join(sorted(_KEYS))}")
    if kind == "webhook":
        yield from _url_violations(entry, path)
    headers = entry.get("headers")
    if headers is not None and not _are_headers(headers):
        yield Violation(f"{path}.headers", "must be an object of names and texts, each in one line")
    yield from _event_violations(entry, path)


def _url_violations(entry: Mapping[str, object], path: str) -> Iterator[Violation]:
    url = entry.get("url")
    if url is None:
        yield Violation(f"{path}.url", "is missing")
        return
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        is_fit = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_fit = False
    if not is_fit:
        yield Violation(f"{path}.url", "must be the address of a web page: http://... or https://...")


def _event_violations(entry: Mapping[str, object], path: str) -> Iterator[Violation]:
    events = entry.get("event_types")
    if events is None:
        yield Violation(f"{path}.event_types", "is missing")
    elif not isinstance(events, list):
        yield Violation(f"{path}.event_types", "must be a list")
    else:
        for event in events:
            if event not in EVENT_TYPES:
                yield Violation(f"{path}.event_types", f"{event!r} is none of {', '.join(EVENT_TYPES)}")


def _are_headers(headers: object) -> bool:
    return isinstance(headers, dict) and all(
        _is_line(name) and name and isinstance(value, str | int | float) and _is_line(str(value))
        for name, value in headers.items()
    )


def _is_line(text: str) -> bool:
    return text.isprintable() and text.isascii()


def event_of(execution: Execution, change: AnyChange) -> str:
    """Return the event that a change means, before it is applied; empty: none."""
    if isinstance(change, ExecutionMoved):
        return _workflow_event(execution.state, change.state)
    if isinstance(change, TaskMoved):
        return _task_event(execution.tasks[change.task], change.state)
    return ""


def _workflow_event(old: ExecutionState, new: ExecutionState) -> str:
    if new is old:
        return ""
    if new is ExecutionState.RUNNING:
        if old in COMPLETED_EXECUTION:
            return "WORKFLOW_RERUN"
        return {ExecutionState.IDLE: "WORKFLOW_LAUNCHED", ExecutionState.PAUSED: "WORKFLOW_RESUMED"}.get(old, "")
    return _WORKFLOW_EVENTS.get(new, "")


def _task_event(task: TaskExecution, new: TaskState) -> str:
    if new is task.state:
        return ""
    if new is TaskState.RUNNING:
        if task.state in COMPLETED_TASK:
            return "TASK_RERUN"
        if task.state is TaskState.PAUSED:
            return "TASK_RESUMED"
        return "TASK_LAUNCHED" if task.started_s is None else ""  # between two attempts it never stopped
    return _TASK_EVENTS.get(new, "")


def notices(
    receivers: Iterable[Subscription], execution: Execution, change: AnyChange, event: str, at_s: float
) -> Iterator[Notify]:
    """Yield the notices of a change that has just been applied, one for each receiver of the event."""
    payload: Value | None = None
    for index, receiver in enumerate(receivers):
        if event in receiver.event_types:
            payload = payload or Value(data=_payload(execution, change, event, at_s))
            # The same id when the event is stepped again, and no other has it: a receiver recognizes a repetition by
            # it.
            yield Notify(f"{execution.id}:{execution.revision}:{index}", receiver.url, receiver.headers, payload)


def _payload(execution: Execution, change: AnyChange, event: str, at_s: float) -> dict[str, object]:
    created = execution.created
    payload: dict[str, object] = {
        "event": event,
        "timestamp": datetime.fromtimestamp(at_s, UTC).isoformat(),
        "revision": execution.revision,
        "workflow_name": created.workflow,
        "workflow_namespace": created.namespace,
        "workflow_id": created.definition_id,
        "root_execution_id": execution.root_id,
        "updated_at": moment(at_s),
    }
    if isinstance(change, TaskMoved):
        task = execution.tasks[change.task]
        payload |= {
            "id": task_id(execution.id, task.number),
            "name": task.name,
            "workflow_execution_id": execution.id,
            "state": str(task.state),
            "state_info": task.info or None,
            "created_at": moment(task.created_s),
        }
        return payload
    payload |= {
        "id": execution.id,
        "name": created.workflow,
        "task_execution_id": task_id(created.parent.execution_id, created.parent.key[0]) if created.parent else None,
        "state": str(execution.state),
        "state_info": execution.info or None,
        "created_at": moment(created.at_s),
    }
    if execution.is_completed and execution.output is not None:
        payload["output"] = execution.output.data
    return payload
