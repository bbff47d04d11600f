"""Random graphs of forks and joins, failures, skips, reruns and orders of arrival, compared with a plain model of what
must arrive: no branch is forgotten (decision 3).

More of it: DALSEGNO_SIMULATION_STEPS=20000 (examples).
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from tests.simulation.invariants import check_execution
from tests.unit.workflow.stories.operating import Stage, run, skip
from tests.world import Played

from dalsegno.workflow.events import CancelRequested, Choice, ForcedEnd
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import TaskExecution
from dalsegno.workflow.refusals import Refusal
from dalsegno.workflow.states import AttemptState, ExecutionState, TaskState

EXAMPLES = int(os.environ.get("DALSEGNO_SIMULATION_STEPS", "0"))
"""0: as many as take a quarter of a minute, always the same ones; else so many, never the same."""

ROUNDS_MAX = 40
"""So often somebody deals with what has failed, before the end is compared."""

GOOD = frozenset({TaskState.SUCCESS, TaskState.SKIPPED})


@dataclass
class Graph:
    """Tasks, named in an order in which every edge leads forward; a task with several sources has a join."""

    names: list[str]
    good: dict[str, list[str]] = field(default_factory=dict)
    """Where each task leads when it has succeeded."""
    bad: dict[str, list[str]] = field(default_factory=dict)
    """Where each task leads when it has failed."""
    joins: dict[str, int] = field(default_factory=dict)
    """How many of its sources each join waits for; 0: all."""
    pauses: bool = False

    def sources(self, name: str) -> list[str]:
        """The tasks that may lead there."""
        return [each for each in self.names if name in self.good[each] or name in self.bad[each]]

    def needed(self, name: str) -> int:
        """How many must arrive before the task begins; 0: it is a start."""
        count = len(self.sources(name))
        return (self.joins[name] or count) if name in self.joins else min(count, 1)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Graphs of up to eight tasks."""
    names = [f"t{number}" for number in range(draw(st.integers(3, 8)))]
    graph = Graph(names, pauses=draw(st.integers(0, 4)) == 4)
    for number, name in enumerate(names):
        after = names[number + 1 :]
        graph.good[name] = [each for each in after if draw(st.integers(0, 2)) == 2]
        graph.bad[name] = [each for each in after if each not in graph.good[name] and draw(st.integers(0, 9)) == 9]
    for name in names:
        count = len(graph.sources(name))
        if count > 1:
            graph.joins[name] = draw(st.sampled_from([0, 0, 0, *range(1, count + 1)]))
    return graph


def mistral(graph: Graph) -> str:
    """The graph as a workflow of Mistral: each task publishes its own name."""
    tasks = {}
    for name in graph.names:
        task: dict[str, object] = {"action": "std.noop", "publish": {name: 1}, "publish-on-skip": {name: 1}}
        if graph.good[name]:
            task["on-success"] = graph.good[name]
        if graph.bad[name]:
            task["on-error"] = graph.bad[name]
        if name in graph.joins:
            task["join"] = graph.joins[name] or "all"
        tasks[name] = task
    document = {"version": "2.0", "wf": {"tasks": tasks} | ({"on-failure": "pause"} if graph.pauses else {})}
    return yaml.safe_dump(document, sort_keys=False)


def orquesta(graph: Graph) -> str:
    """The graph as a workflow of Orquesta."""
    tasks = {}
    for name in graph.names:
        good: dict[str, object] = {"when": "<% succeeded() %>", "publish": [{name: 1}]}
        ways = [good | ({"do": graph.good[name]} if graph.good[name] else {})]
        if graph.bad[name]:
            ways.append({"when": "<% failed() %>", "do": graph.bad[name]})
        join = {"join": graph.joins[name] or "all"} if name in graph.joins else {}
        tasks[name] = {"action": "std.noop", "next": ways} | join
    document = {"version": 1.0, "name": "wf", "output": [{name: f"<% ctx().get({name}) %>"} for name in graph.names]}
    return yaml.safe_dump(
        document | ({"on-failure": "pause"} if graph.pauses else {}) | {"tasks": tasks}, sort_keys=False
    )


class Operator:
    """Ends what runs in any order and any way, and deals with what has failed."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.chance = random.Random(seed)

    @property
    def execution(self) -> Execution:
        """The one that is operated."""
        return self.stage.execution

    def happen(self) -> None:
        """Something happens: mostly an action ends."""
        what = self.chance.random()
        if what < 0.75:
            self._end(self.chance.random() < 0.65)
        elif what < 0.78:
            self._ask(lambda: self.stage.tell(CancelRequested(at_s=self.stage.world.now_s, terminate=ForcedEnd.ERROR)))
        else:
            self.deal()

    def finish(self) -> None:
        """Everything succeeds from here on, and what has failed is handled until nothing can be."""
        for _ in range(ROUNDS_MAX):
            while self._end(True):
                pass
            failed = self._failed()
            is_stuck = not (failed or self.execution.idle or self.execution.state is ExecutionState.PAUSED)
            if self.execution.state is ExecutionState.SUCCESS or is_stuck:
                return
            self.deal(failed_only=True)

    def _end(self, succeeds: bool) -> bool:
        running = [each for each in self.execution.attempts.values() if each.state is AttemptState.RUNNING]
        if not running:
            return False
        attempt = self.chance.choice(running)
        self.stage.world.finish(self.execution, attempt, Played() if succeeds else Played("failed", error="broken"))
        self.stage.world.run(until_s=0)
        return True

    def _failed(self) -> list[TaskExecution]:
        """What somebody can deal with: a join that nobody can fill any more is not among it."""
        numbers = sorted((*self.execution.unhandled, *self.execution.cancelled))
        return [self.execution.tasks[number] for number in numbers if self.execution.tasks[number].progress.attempt]

    def deal(self, *, failed_only: bool = False) -> None:
        """Resume or skip what has failed, rerun it, or rerun anything."""
        failed = self._failed()
        self.chance.shuffle(failed)
        some = failed[: self.chance.randint(1, len(failed))] if failed else []
        way = self.chance.randrange(3 if failed_only else 4)
        if way == 3:
            ended = [each for each in self.execution.tasks.values() if each.is_completed and not each.superseded_by]
            if ended:
                chosen = self.chance.choice(ended)
                if chosen.progress.attempt:  # a join that never began runs as it is, which the model does not know
                    self._ask(lambda: self.stage.rerun(run(chosen.name, number=chosen.number)))
        elif way == 2 and some and self.execution.is_completed:
            self._ask(lambda: self.stage.rerun(*(run(each.name, number=each.number) for each in some)))
        elif some:
            ways = [self.chance.random() < 0.5 for _ in some]
            choices = [
                skip(each.name, None, number=each.number) if skips else run(each.name, number=each.number)
                for each, skips in zip(some, ways, strict=True)
            ]
            self._ask(lambda: self.stage.resume(*choices))
        elif self.execution.state is ExecutionState.PAUSED:
            left = [self.execution.tasks[number] for number in self.execution.unhandled]
            self._ask(
                lambda: self.stage.resume(*(run(each.name, number=each.number, choice=Choice.LEAVE) for each in left))
            )
        elif self.execution.is_completed and self.execution.idle and not self.execution.unhandled:
            self._ask(self.stage.rerun)

    def _ask(self, request: Callable[[], object]) -> None:
        with contextlib.suppress(Refusal):  # it is not possible as things stand
            request()


def _stands(execution: Execution, task: TaskExecution, number: int) -> bool:
    """Whether the arrival has not been taken back since."""
    source = execution.tasks[number]
    return not source.superseded_by and task.arrivals.editions.get(number, 0) == source.edition


def compare(graph: Graph, execution: Execution) -> None:
    """What has run, and what has arrived where, is what the plain model says."""
    newest = {name: execution.latest(name) for name in graph.names}
    selected: dict[str, set[str]] = {name: set() for name in graph.names}
    for name in graph.names:
        task, arrived, needed = newest[name], selected[name], graph.needed(name)
        runs = len(arrived) >= needed
        assert task is not None or not (arrived or not needed), f"{name} is not there"
        if task is None:
            continue
        standing = [number for number in task.arrivals.sources if _stands(execution, task, number)]
        assert {execution.tasks[number].name for number in (*standing, *task.arrivals.late)} == arrived, f"at {name}"
        had_others = len(standing) < len(task.arrivals.sources)  # it was active when they were taken back: it went on
        assert arrived or not needed or had_others, f"{name} is there"
        is_left = task.state is TaskState.IDLE and execution.state is not ExecutionState.SUCCESS
        assert bool(task.progress.attempt) == (runs and not is_left) or (task.progress.attempt and had_others), (
            f"{name} has begun"
        )
        if task.progress.attempt:
            assert task.is_completed
        for each in execution.tasks.values():  # one that was active when its source ran again went on, and counts too
            if each.name == name and not each.superseded_by and each.is_completed:
                for target in graph.good[name] if each.state in GOOD else graph.bad[name]:
                    selected[target].add(name)
    if execution.state is ExecutionState.SUCCESS and not any(graph.joins.values()):
        output = execution.output.data if execution.output is not None else None
        assert isinstance(output, dict)
        good = {name for name, task in newest.items() if task is not None and task.state in GOOD}
        assert {name for name in graph.names if output.get(name) == 1} >= good, "a variable is lost"


SETTINGS = settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.long("random executions")
@pytest.mark.timeout(0 if EXAMPLES else 120)
@pytest.mark.parametrize("write", [mistral, orquesta])
@SETTINGS
@given(graph=graphs(), length=st.integers(0, 30), seed=st.integers(0, 1_000_000))
def test_no_branch_is_forgotten(write: Callable[[Graph], str], graph: Graph, length: int, seed: int) -> None:
    """Decision 3: in whatever order branches arrive, fail, are skipped and run again, each arrival counts."""
    text = write(graph)
    note(text)
    stage = Stage(text)
    operator = Operator(stage, seed)
    for _ in range(length):
        operator.happen()
    operator.finish()
    stage.check()
    check_execution(stage.execution, stage.world.compiled[stage.execution.created.definition_id])
    compare(graph, stage.execution)
