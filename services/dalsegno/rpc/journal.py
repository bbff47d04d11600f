"""The changes of the core as messages of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from dalsegno.rpc import convert, sizes
from dalsegno.store.records import JournalChange
from dalsegno.v1 import change_pb2, execution_pb2
from dalsegno.workflow import changes
from dalsegno.workflow.consolidated import Consolidated
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.value import Value, byte_length, encode

TEXT_BYTES = 16 * 1024
"""A change omits a longer value: clients read it from the resource."""


class Named(NamedTuple):
    """The fields of a task execution that its changes contain."""

    name: str = ""
    has_items: bool = False


def task_numbers(change: changes.AnyChange | Consolidated) -> tuple[int, ...]:
    """Return the task executions whose fields change_message needs."""
    match change:
        case changes.AttemptAdded(key=key) | changes.AttemptMoved(key=key):
            return (key[0],)
        case changes.TaskMoved(task=task) | changes.TaskRouted(task=task):
            return (task,)
        case changes.AttemptsBegun(task=task) | changes.Published(task=task):
            return (task,)
        case changes.GlobalsPublished(task=task) | changes.ContextEdited(task=task) if task:
            return (task,)
        case changes.TaskSuperseded(task=task) | changes.RoundPlanned(task=task):
            return (task,)
        case changes.CheckpointReached(task=task) if task:
            return (task,)
        case _:
            return ()


def entry_of(change: changes.AnyChange | Consolidated) -> int:
    """Return the sequence number of the entry of a checkpoint whose name change_message needs; 0: none."""
    match change:
        case changes.ExecutionMoved(paused_at=sequence):
            return sequence
        case changes.RevertBegun(sequence=sequence) | changes.Restored(sequence=sequence):
            return sequence
        case changes.HistoryDiscarded(sequence=sequence):
            return sequence
        case _:
            return 0


def change_message(
    execution_id: str, row: JournalChange, tasks: Mapping[int, Named], entries: Mapping[int, str]
) -> change_pb2.Change:
    """Return the message of a change. A task or an entry of a checkpoint that is not given has an empty name."""
    message = change_pb2.Change(
        execution_id=execution_id,
        sequence=row.sequence,
        at=convert.timestamp(row.at_s),
        actor=row.actor,
        comment=row.comment,
        cause=row.event,
    )
    change = row.change
    task = tasks.get(next(iter(task_numbers(change)), 0), Named())
    name = task.name
    match change:
        case changes.ExecutionCreated():
            _set_created(message, message.execution_created, change)
        case changes.ExecutionMoved():
            _set_moved(message, change, entries)
        case changes.CheckpointReached():
            reached = message.checkpoint_reached
            reached.name, reached.task_number, reached.task_name = change.name, change.task, name
            reached.data = _told(message, "data", change.data)
            reached.route = change.route
        case changes.RevertBegun():
            message.revert_begun.to.CopyFrom(_reference(change.sequence, entries))
            message.revert_begun.failure = sizes.shortened(change.failure)
        case changes.Restored():
            message.restored.to.CopyFrom(_reference(change.sequence, entries))
            message.restored.tasks = len(change.tasks)
        case Consolidated():
            _set_consolidated(message, change)
        case changes.HistoryDiscarded():
            message.history_discarded.before.CopyFrom(_reference(change.sequence, entries))
        case changes.StopsSet():
            message.stops_set.names.extend(change.names)
            message.stops_set.continues = change.arrival is not None and change.arrival.resumes
        case changes.AttemptsBegun() | changes.AttemptAdded() | changes.AttemptMoved():
            _set_attempt(message, change, task)
        case changes.Published() | changes.GlobalsPublished():
            message.published.task_number = change.task
            message.published.task_name = name
            message.published.to_all = isinstance(change, changes.GlobalsPublished)
            message.published.values = _told_object(message, "values", change.values)
        case changes.TaskAdded() | changes.TaskMoved() | changes.TaskRouted():
            _set_task(message, change, name)
        case changes.TaskSuperseded():
            message.task_superseded.task_number = change.task
            message.task_superseded.task_name = name
            message.task_superseded.by = change.by.value
        case changes.ContextEdited():
            message.context_edited.task_number = change.task
            message.context_edited.task_name = name
            message.context_edited.set = _told_object(message, "set", change.values)
            message.context_edited.unset.extend(change.removed)
        case _:
            _set_other(message, change)
    return message


def _set_consolidated(message: change_pb2.Change, change: Consolidated) -> None:
    entry = change.entry
    message.consolidated.entry.name, message.consolidated.entry.sequence = entry.name, entry.sequence
    message.consolidated.tasks = len(change.tasks)
    message.consolidated.actions = sum(not each.runs_workflow for each in change.attempts)
    if change.created is not None:
        _set_created(message, message.consolidated.created, change.created)


def _set_created(
    message: change_pb2.Change, created: change_pb2.ExecutionCreated, change: changes.ExecutionCreated
) -> None:
    created.CopyFrom(_created(change))
    created.input = _told(message, "input", change.input)


def _created(change: changes.ExecutionCreated) -> change_pb2.ExecutionCreated:
    return change_pb2.ExecutionCreated(
        namespace=change.namespace,
        workflow=change.workflow,
        workflow_version=change.version,
        definition_id=change.definition_id,
        language=convert.language(change.language),
        parent_execution_id=change.parent.execution_id if change.parent else "",
        parent_task_number=change.parent.key[0] if change.parent else 0,
        labels=dict(change.labels),
        stop_at=change.stop_at,
        forked_from=_origin_message(change.forked_from),
    )


def _origin_message(fork: changes.Fork | None) -> execution_pb2.ForkOrigin | None:
    """Return the message of where a fork begins."""
    if fork is None:
        return None
    return execution_pb2.ForkOrigin(execution_id=fork.execution_id, sequence=fork.sequence, checkpoint=fork.checkpoint)


def _set_moved(message: change_pb2.Change, change: changes.ExecutionMoved, entries: Mapping[int, str]) -> None:
    moved = message.execution_moved
    moved.state = convert.execution_state(change.state.value)
    moved.state_info = sizes.shortened(change.info)
    moved.output = _told(message, "output", change.output)
    moved.not_reached = change.not_reached
    if (next_at := convert.timestamp(change.goes_on_s)) is not None:
        moved.next_at.CopyFrom(next_at)
    if change.paused_at:
        moved.paused_at.CopyFrom(_reference(change.paused_at, entries))


def _reference(sequence: int, entries: Mapping[int, str]) -> execution_pb2.CheckpointReference:
    return execution_pb2.CheckpointReference(name=entries.get(sequence, ""), sequence=sequence)


def _set_task(
    message: change_pb2.Change, change: changes.TaskAdded | changes.TaskMoved | changes.TaskRouted, name: str
) -> None:
    match change:
        case changes.TaskAdded():
            message.task_added.task_number = change.task
            message.task_added.task_name = change.name
            message.task_added.state = convert.task_state(change.state.value)
            message.task_added.sources.extend(change.sources)
            message.task_added.generation = change.generation
            message.task_added.route = change.route
        case changes.TaskMoved():
            message.task_moved.task_number = change.task
            message.task_moved.task_name = name
            message.task_moved.state = convert.task_state(change.state.value)
            message.task_moved.state_info = sizes.shortened(change.info)
            due = convert.timestamp(change.due_s)
            if due is not None:
                message.task_moved.next_at.CopyFrom(due)
        case changes.TaskRouted():
            message.task_routed.task_number = change.task
            message.task_routed.task_name = name
            message.task_routed.next.extend(change.next)
            message.task_routed.error_handled = change.handled


def _set_attempt(
    message: change_pb2.Change, change: changes.AttemptsBegun | changes.AttemptAdded | changes.AttemptMoved, task: Named
) -> None:
    match change:
        case changes.AttemptsBegun():
            items = change.items.data if change.items is not None else None
            message.attempts_begun.task_number = change.task
            message.attempts_begun.task_name = task.name
            message.attempts_begun.attempt = change.attempt
            message.attempts_begun.has_items = change.items is not None or change.only is not None
            message.attempts_begun.only.extend(change.only or ())
            if isinstance(items, list):
                message.attempts_begun.items = len(items)
            message.attempts_begun.retries = change.retries
        case changes.AttemptAdded():
            added = message.attempt_added
            _set_key(added, change.key, task)
            added.state = convert.action_state(change.state.value)
            added.action = change.action
            added.child_execution_id = change.child_id
            added.revert = bool(change.reverts)
            added.input = _told(message, "input", change.input)
        case changes.AttemptMoved():
            moved = message.attempt_moved
            _set_key(moved, change.key, task)
            moved.state = convert.action_state(change.state.value)
            moved.result = _told(message, "result", change.result)
            moved.error = sizes.shortened(change.error)
            moved.delivery = change.delivery
            moved.executor_id = change.executor_id
            moved.delegated = change.delegated
            moved.alias = change.alias
            moved.signature = convert.SIGNATURE_SCHEMES[change.signature]
            if change.heartbeat_timeout_s is not None:
                moved.heartbeat_timeout.CopyFrom(convert.duration(change.heartbeat_timeout_s))
            if (deadline := convert.timestamp(change.deadline_s)) is not None:
                moved.deadline.CopyFrom(deadline)


def _set_key(message: change_pb2.AttemptAdded | change_pb2.AttemptMoved, key: AttemptKey, task: Named) -> None:
    message.task_number, item, message.attempt = key
    message.task_name = task.name
    if task.has_items:
        message.item = item


def _set_other(message: change_pb2.Change, change: changes.AnyChange) -> None:
    fields = {name: getattr(change, name) for name in change.__struct_fields__}
    detail = encode(
        msgspec.to_builtins(
            fields, str_keys=True, enc_hook=lambda value: value.data if isinstance(value, Value) else None
        )
    )
    message.other.name = type(change).__name__
    message.other.detail = _fitting(message, "detail", detail)
    message.other.task_number = getattr(change, "task", 0)


def _told(message: change_pb2.Change, name: str, value: Value | None) -> str:
    return "" if value is None else _fitting(message, name, value.text)


def _told_object(message: change_pb2.Change, name: str, values: Mapping[str, Value]) -> str:
    if sum(len(value.text) for value in values.values()) > TEXT_BYTES:
        return _leave_out(message, name)
    return _fitting(message, name, "{" + ",".join(f"{encode(key)}:{value.text}" for key, value in values.items()) + "}")


def _fitting(message: change_pb2.Change, name: str, text: str) -> str:
    return text if byte_length(text) <= TEXT_BYTES else _leave_out(message, name)


def _leave_out(message: change_pb2.Change, name: str) -> str:
    message.left_out.append(name)
    return ""
