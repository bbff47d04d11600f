"""Executions for the store's tests: made change by change, as an engine would have them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dalsegno.store.records import JournalEntry, Saved
from dalsegno.store.store import Store
from dalsegno.workflow.changes import (
    AnyChange,
    AttemptAdded,
    AttemptMoved,
    AttemptsBegun,
    CheckpointReached,
    ExecutionCreated,
    ExecutionMoved,
    Fork,
    GlobalsPublished,
    JoinReached,
    Link,
    Published,
    ResultDropped,
    StopsSet,
    TaskAdded,
    TaskMoved,
    TaskRouted,
    TaskTimed,
    Timer,
)
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState
from dalsegno.workflow.value import EMPTY, Value

LARGE = Value(data={"long": "ä" * 3000})


@dataclass
class Scene:
    """An execution and its changes that are not stored yet."""

    execution: Execution
    pending: list[AnyChange]
    now_s: float

    def do(self, *changes: AnyChange) -> Scene:
        """Apply changes."""
        for change in changes:
            self.execution.apply(change)
            self.pending.append(change)
        return self

    def saved(self, event: str = "task_done", actor: str = "", comment: str = "") -> Saved:
        """What is to be stored, as one step."""
        changes, self.pending = self.pending, []
        return Saved(self.execution, changes, [JournalEntry(event, self.now_s, actor, comment, len(changes))])


def create(
    execution_id: str,
    *,
    at_s: float = 100.0,
    workflow: str = "pack.flow",
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
    parent: Link | None = None,
    root_id: str = "",
    given: Value = EMPTY,
    forked_from: Fork | None = None,
) -> Scene:
    """An execution that has just been created."""
    created = ExecutionCreated(
        execution_id=execution_id,
        definition_id="definition-1",
        workflow=workflow,
        namespace=namespace,
        version=3,
        input=given,
        labels=labels or {},
        parent=parent,
        root_id=root_id,
        forked_from=forked_from,
        at_s=at_s,
        actor="ada",
        comment="begin",
    )
    execution = Execution(created)
    execution.revision = 1
    return Scene(execution, [created], at_s)


def start(execution_id: str, **options: object) -> Scene:
    """An execution that runs."""
    scene = create(execution_id, **options)  # type: ignore[arg-type]
    return scene.do(ExecutionMoved(state=ExecutionState.RUNNING, at_s=scene.now_s))


def add_task(scene: Scene, number: int, state: AttemptState = AttemptState.READY, **options: object) -> Scene:
    """A task with one attempt in this state."""
    begun: list[AnyChange] = [
        TaskAdded(task=number, name=f"step_{number}", state=TaskState.RUNNING, at_s=scene.now_s),
        AttemptsBegun(task=number, attempt=1, at_s=scene.now_s),
        AttemptAdded(
            key=(number, 0, 1),
            action="std.echo",
            input=Value(data={"output": number}),
            state=AttemptState.READY,
            at_s=scene.now_s,
            **options,  # type: ignore[arg-type]
        ),
    ]
    scene.do(*begun)
    if state is AttemptState.RUNNING:
        hand_out(scene, number)
    return scene


def hand_out(scene: Scene, number: int, session_id: str = "session-1", delivery: int = 1) -> Scene:
    """The attempt of a task goes to a session."""
    return scene.do(
        AttemptMoved(
            key=(number, 0, 1),
            state=AttemptState.RUNNING,
            delivery=delivery,
            session_id=session_id,
            executor_id="executor-1",
            deadline_s=scene.now_s + 60,
            at_s=scene.now_s,
        )
    )


def finish_task(scene: Scene, number: int, result: Value) -> Scene:
    """A task succeeds and publishes its result."""
    return scene.do(
        AttemptMoved(key=(number, 0, 1), state=AttemptState.SUCCESS, result=result, at_s=scene.now_s),
        Published(task=number, values={"got": result, "Name ü": Value(data=1)}),
        TaskMoved(task=number, state=TaskState.SUCCESS, at_s=scene.now_s),
        TaskRouted(task=number),
    )


def live_through_everything(execution_id: str) -> Iterator[Saved]:
    """An execution with every kind of change, retries and large values included: what to store, step by step.

    Each step has to be stored before the next is asked for: they share the execution, which continues.
    """
    ready, ended, failed = AttemptState.READY, AttemptState.SUCCESS, AttemptState.ERROR
    scene = start(execution_id, labels={"team": "red", "tier": "1"}, given=LARGE)
    scene.do(StopsSet(names=("half way", "end")))
    scene.do(GlobalsPublished(values={"$": LARGE, "n": Value(data=1)}))
    add_task(scene, 1, AttemptState.RUNNING, comment="why\0not", timeout_s=5.0)
    scene.do(TaskTimed(task=1, due_s=160.0))
    yield scene.saved("start_requested")
    scene.now_s = 110.0
    scene.do(AttemptMoved(key=(1, 0, 1), state=failed, error="it broke\0here", result=LARGE, at_s=110.0))
    scene.do(TaskMoved(task=1, state=TaskState.RUNNING_DELAYED, timer=Timer.RETRY, due_s=112.0, at_s=110.0))
    yield scene.saved(actor="bob", comment="again")
    scene.do(TaskMoved(task=1, state=TaskState.RUNNING, at_s=112.0), AttemptsBegun(task=1, attempt=2, retries=1))
    scene.do(AttemptAdded(key=(1, 0, 2), action="std.echo", input=LARGE, state=ready, safe=True, target="gpu"))
    yield scene.saved("timer_fired")
    scene.do(AttemptMoved(key=(1, 0, 2), state=ended, result=Value(data=None), at_s=113.0))
    scene.do(Published(task=1, values={"big": LARGE, "small": Value(data=[1, {"z": 1, "a": 2}])}))
    scene.do(TaskMoved(task=1, state=TaskState.SUCCESS, verdict=TaskState.SUCCESS, at_s=113.0))
    scene.do(CheckpointReached(name="half way", task=1, data=LARGE, at_s=113.0))
    scene.do(TaskAdded(task=2, name="join", state=TaskState.WAITING), JoinReached(task=2, source=1))
    scene.do(TaskRouted(task=1, next=(2,)))
    yield scene.saved()
    yield _fan_out(scene, f"{execution_id}-child")


def _fan_out(scene: Scene, child_id: str) -> Saved:
    """The second task: three items, of which one succeeds, one is a child that fails, and one never begins."""
    ready, running = AttemptState.READY, AttemptState.RUNNING
    scene.do(TaskMoved(task=2, state=TaskState.RUNNING, at_s=114.0))
    scene.do(AttemptsBegun(task=2, attempt=1, items=Value(data=[[1], [2], [3]]), concurrency=2))
    scene.do(AttemptAdded(key=(2, 0, 1), action="std.echo", input=EMPTY, state=ready))
    scene.do(AttemptAdded(key=(2, 1, 1), action="sub", input=EMPTY, state=running, child_id=child_id))
    scene.do(AttemptMoved(key=(2, 0, 1), state=AttemptState.SUCCESS, result=LARGE, at_s=115.0))
    scene.do(AttemptMoved(key=(2, 1, 1), state=AttemptState.ERROR, error="child failed", at_s=115.0))
    scene.do(TaskMoved(task=2, state=TaskState.ERROR, info="1 of 3 failed", at_s=116.0), TaskRouted(task=2))
    scene.do(ExecutionMoved(state=ExecutionState.ERROR, info="join failed", output=LARGE, at_s=117.0))
    scene.do(ResultDropped(task=1))
    return scene.saved()


def save(store: Store, *scenes: Scene) -> None:
    """Store what is pending of these."""
    with store.write() as transaction:
        transaction.save_all([scene.saved("start_requested") for scene in scenes])


def save_each(store: Store, steps: Iterable[Saved]) -> None:
    """Store steps one after the other, a transaction each."""
    for step in steps:
        with store.write() as transaction:
            transaction.save_all([step])
