"""Two worlds in the same weather: in one of them history is discarded, in the other one nothing is (decision 24)."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import assume, note
from tests.simulation.random_loops import VALUES, that_keep_all
from tests.unit.workflow.test_going_back import Wind
from tests.unit.workflow.test_properties import ONCE
from tests.world import HOLD, Outside, World

from dalsegno.definitions.document import read
from dalsegno.workflow.changes import RevertBegun
from dalsegno.workflow.events import ChildMoved, ContextUpdated, DiscardRequested, Event, GoToRequested, TaskDone
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import AttemptKey
from dalsegno.workflow.journal import replay
from dalsegno.workflow.machine import StepResult
from dalsegno.workflow.records import Entry, TaskExecution
from dalsegno.workflow.refusals import HistoryDiscarded, Obstacle, Refusal, Refused
from dalsegno.workflow.running.step import Step
from dalsegno.workflow.running.view import context_in, values
from dalsegno.workflow.states import AttemptState, ExecutionState
from dalsegno.workflow.value import Value

ENOUGH = 500
"""What has not come to its end after so many happenings never does."""


class Parted(Exception):
    """A failure led back to an entry in one of the two. The other one has it no more, or would have to revert a
    sub-workflow that has discarded its history."""


class Twins(Wind):
    """Whatever happens, happens in both; whatever follows is the same in both, but for what is gone."""

    def __init__(self, texts: list[str], params: dict[str, Any], seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self.whole = World(player=lambda execution, attempt: HOLD)
        for text in that_keep_all(texts):
            assume(not read(text).problems)
            self.whole.define(text)
        super().__init__(texts, params)
        self.whole.start("wf", params=params)
        self._happenings += [*[self.discard] * 4, *[self.load] * 6, *[self.edit] * 2, self.pause]

    def make_world(self) -> World:
        return World(player=lambda execution, attempt: HOLD)

    # What happens.

    def tell(self, execution_id: str, event: Event) -> None:
        """Both are told the same."""
        self.tell_both(execution_id, event, event)

    def tell_both(self, execution_id: str, event: Event, same: Event) -> None:
        """One of them is told an event, and the other one what is the same there."""
        self.told.append((execution_id, event))
        self.whole.now_s = self.world.now_s
        if self._is_irrevertible(execution_id, event):
            raise Parted
        refusal = other = None
        outcome = whole = None
        try:
            outcome = self.world.tell(execution_id, event)
        except Refusal as error:
            refusal = error
        if refusal is not None and needs_history(refusal):
            note(f"  {event} refused: {refusal}")
            return
        try:
            whole = self.whole.tell(execution_id, same)
        except Refusal as error:
            other = error
        note(f"  {event} {refusal or (outcome and (outcome.verdict, outcome.changes))}")
        self._compare(execution_id, outcome, whole)
        assert str(refusal) == str(other)

    def _is_irrevertible(self, execution_id: str, event: Event) -> bool:
        """Whether a sub-workflow is to be reverted that has discarded its history, or has failed and would be."""
        execution = self.world.executions[execution_id]
        if isinstance(event, GoToRequested) and event.cascaded:
            return execution.first_sequence > execution.created.sequence
        task = execution.tasks.get(event.key[0]) if isinstance(event, ChildMoved) else None
        if task is None or not isinstance(event, ChildMoved) or event.state is not ExecutionState.ERROR:
            return False
        checkpoint = self.world.compiled[execution.created.definition_id].tasks[task.name].checkpoint
        return checkpoint is not None and checkpoint.retry > 0 and bool(self.world.discarded_below([event.child_id]))

    def _compare(self, execution_id: str, outcome: StepResult | None, whole: StepResult | None) -> None:
        one, other = self.world.executions[execution_id], self.whole.executions[execution_id]
        aims, wanted = _aims(one, outcome), _aims(other, whole)
        same = list(map(_named, aims)) == list(map(_named, wanted))
        children = [attempt.child_id for attempt in one.attempts.values() if attempt.child_id]
        if not same and (self.world.discarded_below(children) or not all(_has(one, aim) for aim in wanted)):
            raise Parted
        assert same, (aims, wanted)
        if outcome is not None and whole is not None:
            assert outcome.verdict == whole.verdict
        check_same(one, other)

    def deliver(self, choice: int) -> None:
        """A message arrives in both."""
        recipients = list(dict.fromkeys(to for to, _ in self.world._mail))
        if recipients:
            chosen = recipients[choice % len(recipients)]
            event, same = _taken(self.world, chosen), _taken(self.whole, chosen)
            assert type(event) is type(same), (event, same)
            self.tell_both(chosen, self._now(event), self._now(same))

    def wake(self, choice: int) -> None:
        """The next timer fires in both."""
        if self.world._later:
            due_s, _, to, event = self.world._later.pop(0)
            whole_due_s, _, whole_to, same = self.whole._later.pop(0)
            self.world._later.sort(key=lambda each: each[:2])
            self.whole._later.sort(key=lambda each: each[:2])
            assert (due_s, to, event) == (whole_due_s, whole_to, same)
            self.world.now_s = max(self.world.now_s, due_s)
            self.tell_both(to, self._now(event), self._now(same))

    def repeat(self, choice: int) -> None:
        """What was told is told again where it may be gone: then too it changes nothing."""
        once = [each for each in self.told if isinstance(each[1], ONCE)]
        gone = [each for each in once if self._is_gone(*each)]
        if gone:
            execution_id, event = gone[choice % len(gone)]
            before = self.world.executions[execution_id].revision
            try:
                self.world.tell(execution_id, event)
            except Refusal:
                assert isinstance(event, TaskDone)
            assert self.world.executions[execution_id].revision == before

    def _is_gone(self, execution_id: str, event: Event) -> bool:
        execution = self.world.executions[execution_id]
        key: AttemptKey | None = getattr(event, "key", None)
        task: int | None = getattr(event, "task", None)
        return (key is not None and key[0] not in execution.tasks) or bool(task and task not in execution.tasks)

    def discard(self, choice: int) -> None:
        """Somebody discards history, in one of them."""
        execution = self._any(choice)
        standing = [entry.sequence for entry in execution.entries.values() if not entry.is_undone]
        if standing:
            event = DiscardRequested(at_s=self.world.now_s, sequence=standing[choice // 7 % len(standing)])
            note(f"  {event}")
            try:
                self.world.tell(execution.id, event)
            except Refused as refusal:
                note(f"  refused: {refusal}")
            check_same(self.world.executions[execution.id], self.whole.executions[execution.id])

    def edit(self, choice: int) -> None:
        """Somebody edits variables of the workflow, or what a task has published."""
        execution = self._any(choice)
        names = [*execution.by_name]
        task = names[choice // 7 % len(names)] if names and choice % 3 == 0 else ""
        values = {("v0", "v1")[choice % 2]: Value(data=VALUES[choice % len(VALUES)])}
        self.tell(execution.id, ContextUpdated(at_s=self.world.now_s, task=task, values=values))

    def load(self, choice: int) -> None:
        """The execution in memory is forgotten, and made again from its journal."""
        execution = self._any(choice)
        self.world.executions[execution.id] = replay(self.world.journal(execution.id))

    def _any(self, choice: int) -> Execution:
        """An execution that is there: ended sub-workflows of what is discarded are gone."""
        there = [execution for execution in self._executions() if self._is_there(execution)]
        return there[choice % len(there)]

    def _is_there(self, execution: Execution) -> bool:
        parent = execution.created.parent
        if parent is None:
            return True
        above = self.world.executions[parent.execution_id]
        return parent.key in above.attempts and self._is_there(above)

    def check_seen(self) -> None:
        """What is open sees the same variables in both."""
        for execution in self._executions():
            other = self.whole.executions[execution.id]
            for number in execution.incomplete:
                ours, theirs = (
                    _seen(world, each, number) for world, each in ((self.world, execution), (self.whole, other))
                )
                assert ours == theirs, (execution.tasks[number].name, ours, theirs)

    def comes_to_rest(self) -> bool:
        """Everything comes to its end; return whether it does: a workflow may go round for ever."""
        return any(not self._bring_to_end() for _ in range(ENOUGH))

    def _bring_to_end(self) -> bool:
        """Of what runs, anything may come to its end first; now and then history is discarded."""
        if self._chance.random() < 0.05:
            self.discard(self._chance.randrange(100))
        if self._chance.random() < 0.1:
            self.load(self._chance.randrange(100))
        running = self._attempts(AttemptState.RUNNING)
        ready = self._attempts(AttemptState.READY)
        if self.world._mail or ready or not running:
            return super()._bring_to_end()
        execution, attempt = self._chance.choice(running)
        self.tell(execution.id, self._done(attempt, "succeeded"))
        return True

    def check_rest(self) -> None:
        """Both have come to the same end."""
        for execution in self._executions():
            other = self.whole.executions[execution.id]
            check_same(execution, other)
            ours, theirs = execution.output, other.output
            assert (ours and ours.data) == (theirs and theirs.data)
        assert len(self.world.executions) == len(self.whole.executions)
        self.world.check_journals()


def needs_history(refusal: Refusal) -> bool:
    """Whether a request is refused because of what is discarded."""
    if isinstance(refusal, HistoryDiscarded):
        return True
    return isinstance(refusal, Refused) and any(each.kind is Obstacle.DISCARDED for each in refusal.violations)


def _taken(world: World, to: str) -> Event:
    index = next(index for index, each in enumerate(world._mail) if each[0] == to)
    _, event = world._mail[index]
    del world._mail[index]
    return event


def _aims(execution: Execution, outcome: StepResult | None) -> list[Entry | None]:
    """The entries that an execution begins to go back to; None: `start`."""
    begun = [change for change in outcome.changes if isinstance(change, RevertBegun)] if outcome else []
    return [execution.entries.get(change.sequence) for change in begun]


def _has(execution: Execution, aim: Entry | None) -> bool:
    """Whether an execution still has what is the same entry in the other world."""
    if aim is None:
        return execution.first_sequence == execution.created.sequence
    return any(_named(entry) == _named(aim) for entry in execution.entries.values())


def _named(entry: Entry | None) -> tuple[object, ...] | None:
    return None if entry is None else (entry.name, entry.task, entry.at_s, entry.retries)


def _seen(world: World, execution: Execution, number: int) -> dict[str, object]:
    workflow = world.compiled[execution.created.definition_id]
    step = Step(workflow, execution, DiscardRequested(at_s=world.now_s), Outside(world))
    return values(context_in(step, execution.tasks[number]))


SAME = (
    *("state", "info", "started_s", "ended_s", "paused_since_s", "paused_s", "goes_on_s", "stop_at"),
    *("not_reached", "is_paused_by_report", "waits_for_delegates", "globals", "input", "environment"),
    *(
        "edit_count",
        "generation",
        "task_count",
        "route_count",
        "errors",
        "reported_errors",
        "active_count",
    ),
)
IN_ORDER = ("incomplete", "idle", "waiting", "unrouted", "unhandled", "cancelled", "ready", "children", "delegates")
OF_TASK = (
    *("name", "state", "tags", "timing", "generation", "edition", "superseded_by", "route", "info", "routed"),
    *("handled", "created_s", "started_s", "ended_s", "last_round", "last_attempt"),
)


def check_same(execution: Execution, whole: Execution) -> None:
    """What is there of an execution is as it is where nothing is discarded."""
    for name in SAME:
        assert getattr(execution, name) == getattr(whole, name), name
    for name in IN_ORDER:
        assert list(getattr(execution, name)) == list(getattr(whole, name)), name
    for name in whole.by_name:
        assert _number(execution.latest(name)) == _number(whole.latest(name)), f"the newest {name}"
    assert execution.by_route == whole.by_route
    for number, task in execution.tasks.items():
        other = whole.tasks[number]
        for name in OF_TASK:
            assert getattr(task, name) == getattr(other, name), (task.name, number, name)
        assert task.published == other.published
        assert execution.result(task) == whole.result(other), (task.name, "result")
    for key, attempt in execution.attempts.items():
        ours, theirs = attempt, whole.attempts[key]
        assert (ours.state, ours.accepted, ours.result, ours.error) == (
            theirs.state,
            theirs.accepted,
            theirs.result,
            theirs.error,
        )
    standing = [entry for entry in execution.entries.values() if not entry.is_undone]
    others = [entry for entry in whole.entries.values() if not entry.is_undone]
    assert list(map(_named, standing)) == list(map(_named, others))[len(others) - len(standing) :]


def _number(task: TaskExecution | None) -> int:
    return 0 if task is None else task.number
