"""Dry runs: what an operation would do (dalsegno/README.md#contract), read from what it does to a private copy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from google.protobuf.message import Message

from dalsegno.engine.batches.batch import Batch
from dalsegno.engine.desk.going_back import find_begun, tell_going_back
from dalsegno.engine.desk.operations import LIST_MAX
from dalsegno.rpc import convert, sizes
from dalsegno.v1 import execution_pb2
from dalsegno.workflow import machine
from dalsegno.workflow.changes import AttemptAdded, AttemptsBegun, TaskAdded, TaskMoved
from dalsegno.workflow.commands import Send
from dalsegno.workflow.events import Event, GoToRequested
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.graph import dependants, outbound_tasks
from dalsegno.workflow.model import JOIN_ALL, START, Workflow
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.refusals import Refusal
from dalsegno.workflow.states import ExecutionState, TaskState
from dalsegno.workflow.value import byte_length

TASKS_MAX = 100
"""The maximum number of tasks that are named of a sub-workflow that stays PAUSED."""

CHILDREN_MAX = 100
"""The effect is tried in this many children. Of the others it is only said that they get the event."""

LEVELS_MAX = 20
"""The number of levels of children in which the effect is tried. No library reads a message that is nested in more than
100 others, and each level nests two."""


@dataclass(frozen=True, slots=True)
class Before:
    """What must be known of an execution before the operation, to say what it keeps."""

    ended: frozenset[int] = frozenset()
    superseded: frozenset[int] = frozenset()


def try_operation(
    batch: Batch, execution_id: str, event: Event, claimed: Collection[str], level: int = 0
) -> execution_pb2.DryRun:
    """Return what the event would do to an execution and, if they are claimed, to its children. `level`: how many
    executions above it are in the answer. Raises Refusal."""
    private = batch.load_private(execution_id)
    before = _before(private.execution)
    outcome = batch.try_step(private, event)
    begun = find_begun(outcome)
    if begun is not None:
        before = _before_entry(before, outcome.execution, begun.sequence)
    message = dry_run_message(batch.workflow_of(private), outcome, before)
    sent = _sent_events(outcome)
    if begun is not None:
        planned = tell_going_back(batch, batch.load_private(execution_id), event, outcome, message)
        ordered = GoToRequested(actor=event.actor, comment=event.comment, name=START, cascaded=True)
        sent += [(each.child_id, ordered) for each in planned if each.child_id]
    _try_children(batch, outcome.execution, dict(sent), claimed if level < LEVELS_MAX else (), message, level + 1)
    return shorten(message)


def _before_entry(before: Before, execution: Execution, sequence: int) -> Before:
    """Return what is kept when the execution goes back to an entry: what ended before it."""
    tasks = execution.tasks
    ended = (number for number in before.ended if number in tasks and tasks[number].ended_at <= sequence)
    return replace(before, ended=frozenset(ended))


def _try_children(
    batch: Batch,
    execution: Execution,
    sent: Mapping[str, Event],
    claimed: Collection[str],
    message: execution_pb2.DryRun,
    level: int,
) -> None:
    """Add the children that get an event, with its effect in those that are claimed."""
    by_child = {each.child_id: each.key for each in execution.attempts.values() if sent and each.child_id}
    for child_id, child_event in sent.items():
        key = by_child.get(child_id)
        if key is None:
            continue
        if len(message.children) == LIST_MAX:
            message.further["children"] += 1
            continue
        task = execution.tasks[key[0]]
        child = message.children.add(execution_id=child_id, task_name=task.name, task_number=task.number)
        if child_id in claimed and batch.exists(child_id):
            try:
                child.effect.CopyFrom(try_operation(batch, child_id, child_event, claimed, level))
            except Refusal:
                continue  # it gets the event, and does not change


def _before(execution: Execution) -> Before:
    return Before(
        ended=frozenset(number for number, task in execution.tasks.items() if task.is_completed),
        superseded=frozenset(_superseded(execution)),
    )


def _superseded(execution: Execution) -> Iterable[int]:
    return (number for number, task in execution.tasks.items() if task.superseded_by)


def _sent_events(outcome: machine.StepResult) -> list[tuple[str, Event]]:
    """Return the children that would get an event at once, in order."""
    own = outcome.execution.id
    sent = (each for each in outcome.commands if isinstance(each, Send) and each.due_s is None and each.to != own)
    return [(command.to, command.event) for command in sent]


def dry_run_message(
    workflow: Workflow, outcome: machine.StepResult, before: Before | None = None
) -> execution_pb2.DryRun:
    """Return what a step would do. `before` is None for an execution that does not exist yet."""
    execution = outcome.execution
    message = execution_pb2.DryRun(
        state=convert.execution_state(execution.state.value),
        revision=execution.revision - len(outcome.changes) if before is not None else 0,
        state_info=execution.info if execution.state is ExecutionState.ERROR else "",
    )
    added = {change.task for change in outcome.changes if isinstance(change, TaskAdded)}
    begun = _begun(outcome)
    skipped = {each.key[0] for each in outcome.changes if isinstance(each, AttemptAdded) and each.stands_in}
    partly = {each.task for each in outcome.changes if isinstance(each, AttemptsBegun) and each.only is not None}
    partly -= skipped
    for number in begun[:LIST_MAX]:
        entry = _entry(execution, number, added)
        if number in partly:
            _name_items(entry, sorted(execution.tasks[number].progress.pending))
        entry.reason = _reason(execution.tasks[number])
        message.starts.append(entry)
    names = [execution.tasks[number].name for number in begun if number not in skipped]
    message.may_follow.extend(_reachable(workflow, names))
    for number in islice(execution.waiting, LIST_MAX):
        entry = _entry(execution, number, added)
        entry.reason = _arrivals(workflow, execution.tasks[number])
        message.joins_waiting.append(entry)
    message.left_paused.extend(left_paused_messages(outcome))
    counts = {"starts": len(begun), "joins_waiting": len(execution.waiting), "left_paused": len(outcome.left_paused)}
    if before is not None:
        gone = [number for number in _superseded(execution) if number not in before.superseded]
        message.superseded.extend(_entry(execution, number, added) for number in gone[:LIST_MAX])
        kept = _kept_entries(execution, begun, partly, before)
        message.kept.extend(islice(kept, LIST_MAX))
        counts |= {"superseded": len(gone), "kept": len(message.kept) + sum(1 for _ in kept)}
    for name in outcome.subsumed[:LIST_MAX]:
        message.subsumed.add(name=name, reason="comes after another task of the request")
    counts["subsumed"] = len(outcome.subsumed)
    for name, count in counts.items():
        if count > len(getattr(message, name)):
            message.further[name] = count - len(getattr(message, name))
    return shorten(message)


def shorten(message: execution_pb2.DryRun) -> execution_pb2.DryRun:
    """Shorten the lists of the message until it fits. The longest ones are halved first."""
    while message.ByteSize() > sizes.CONTENT_BYTES_MAX:
        lists = {field.name: value for field, value in message.ListFields() if field.name in _LISTS}
        name = max(lists, key=lambda name: sum(map(_entry_bytes, lists[name])))
        removed = -(-len(lists[name]) // 2)
        del lists[name][-removed:]
        message.further[name] += removed
    return message


_LISTS = frozenset(each.name for each in execution_pb2.DryRun.DESCRIPTOR.fields if each.is_repeated) - {"further"}


def _entry_bytes(entry: str | Message) -> int:
    return byte_length(entry) if isinstance(entry, str) else entry.ByteSize()


def _name_items(entry: execution_pb2.DryRunTask, items: Sequence[int]) -> None:
    entry.items.extend(items[:LIST_MAX])
    entry.further_items = len(items) - len(entry.items)


def _entry(execution: Execution, number: int, added: Collection[int]) -> execution_pb2.DryRunTask:
    return execution_pb2.DryRunTask(name=execution.tasks[number].name, number=0 if number in added else number)


def _reason(task: TaskExecution) -> str:
    """Return why a task is among those that start, unless it is because it runs."""
    if task.state is TaskState.SKIPPED:
        return "is skipped: what follows it starts"
    return "after a delay" if task.state is TaskState.RUNNING_DELAYED else ""


def _arrivals(workflow: Workflow, join: TaskExecution) -> str:
    """Return how many tasks have arrived at a waiting join, including late ones that count now."""
    spec = workflow.tasks[join.name]
    needed = len(spec.inbound) if spec.join == JOIN_ALL else spec.join or 1
    return f"{len(join.arrivals.arrived)} of {needed} have arrived"


def left_paused_messages(outcome: machine.StepResult) -> Iterable[execution_pb2.LeftPaused]:
    """Return the sub-workflows that stay PAUSED, with the reason."""
    return (
        execution_pb2.LeftPaused(
            execution_id=below.execution_id,
            workflow=below.workflow,
            tasks=below.failed[:TASKS_MAX],
            further_tasks=max(0, len(below.failed) - TASKS_MAX),
        )
        for below in outcome.left_paused[:LIST_MAX]
    )


def _begun(outcome: machine.StepResult) -> list[int]:
    """Return the tasks that would start or be delayed at once, in order."""
    begun: dict[int, None] = {}
    for change in outcome.changes:
        if isinstance(change, AttemptsBegun):
            begun[change.task] = None
        elif isinstance(change, AttemptAdded) and not change.reverts:
            begun[change.key[0]] = None
        elif isinstance(change, TaskMoved) and change.state is TaskState.RUNNING_DELAYED:
            begun[change.task] = None
    return [number for number in begun if number in outcome.execution.tasks]


def _kept_entries(
    execution: Execution, begun: Collection[int], partly: Collection[int], before: Before
) -> Iterable[execution_pb2.DryRunTask]:
    """Return the tasks that had ended and still count, and for those that run partly again, the items that do not
    run."""
    again = set(begun)
    for number, task in execution.tasks.items():
        if number not in before.ended or task.superseded_by:
            continue
        if number not in again and task.is_completed:
            yield execution_pb2.DryRunTask(name=task.name, number=number)
        elif number in partly and task.progress.item_count is not None:
            pending = set(task.progress.pending)
            items = [index for index in range(task.progress.item_count) if index not in pending]
            if items:
                entry = execution_pb2.DryRunTask(name=task.name, number=number)
                _name_items(entry, items)
                yield entry


def _reachable(workflow: Workflow, starts: list[str]) -> list[str]:
    """Return the tasks that the definition may lead to from these, in the order of the definition."""
    onward: Mapping[str, Collection[str]] = dependants(workflow) if workflow.reverse else outbound_tasks(workflow)
    found: set[str] = set()
    ahead = [target for name in starts for target in onward[name]]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead.extend(onward[name])
    return [name for name in workflow.tasks if name in found]
