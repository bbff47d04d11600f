"""Discards for the store's tests: an execution that discards its beginning, as the core would have it do."""

from __future__ import annotations

from collections.abc import Collection

from msgspec.structs import replace
from tests.store.scenes import Scene, add_task, finish_task, start

from dalsegno.store.discards import Removal
from dalsegno.store.store import Store
from dalsegno.workflow import journal
from dalsegno.workflow.changes import CheckpointReached, HistoryDiscarded
from dalsegno.workflow.consolidated import Discarded
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.journal import replay
from dalsegno.workflow.value import Value


def reach(scene: Scene, task: int, name: str = "sign", data: Value | None = None) -> int:
    """The execution reaches a checkpoint. Returns the sequence number of the entry."""
    scene.do(CheckpointReached(name=name, task=task, data=data, at_s=scene.now_s))
    return scene.execution.revision


def reduce(execution: Execution, sequence: int, count: int, kept: Collection[int]) -> frozenset[int]:
    """Take out of an execution what is discarded. Returns the tasks whose records that alters."""
    for number in [each for each in execution.tasks if each <= count and each not in kept]:
        task = execution.tasks.pop(number)
        execution.by_name[task.name].remove(number)
        execution.by_route.pop((task.name, task.route), None)
        for index in (execution.ends, execution.unrouted, execution.unhandled, execution.cancelled):
            index.pop(number, None)
    reduced = frozenset(each for each in kept if not execution.tasks[each].is_consolidated)
    for number in reduced:
        task = execution.tasks[number]
        task.is_consolidated, task.next, task.arrivals.sources = True, (), []
    for key in list(execution.attempts):
        task_gone = key[0] not in execution.tasks
        if task_gone or (key[0] in reduced and not execution.is_current(key)):
            del execution.attempts[key]
    execution.ended = [each for each in execution.ended if each.sequence > sequence]
    execution.entries = {each: entry for each, entry in execution.entries.items() if each >= sequence}
    execution.start = None
    execution.first_sequence = sequence
    return reduced


def discard(
    store: Store, scene: Scene, sequence: int, kept: Collection[int] = (), *, fault: Exception | None = None
) -> Removal:
    """The execution discards what came before the entry, in one transaction with its changes that are pending.

    `fault`: fails the transaction at its end.
    """
    execution = scene.execution
    stored = execution.revision - len(scene.pending)
    with store.write() as transaction:
        before = transaction.changes_after(execution.id, 0, min(sequence, stored)) if stored else []
        past = replay([*before, *scene.pending[: max(0, sequence - stored)]])
        count = past.task_count
        reduce(past, sequence, count, kept)
        consolidated = journal.written(past, past.entries[sequence], scene.now_s)
        reduced = reduce(execution, sequence, count, kept)
        scene.do(HistoryDiscarded(sequence=sequence, at_s=scene.now_s))
        discarded = Discarded(consolidated, count, frozenset(kept), reduced)
        removal = transaction.save_all([replace(scene.saved(), discarded=discarded)])[execution.id]
        if fault is not None:
            raise fault
        return removal


def loop(execution_id: str, rounds: int, *, result: Value | None = None, **options: object) -> Scene:
    """An execution that runs tasks one after the other; nothing of it is stored yet."""
    scene = start(execution_id, **options)
    for number in range(1, rounds + 1):
        finish_task(add_task(scene, number), number, Value(data=number) if result is None else result)
    return scene
