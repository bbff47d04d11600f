"""Stories of the core: a branch that has arrived is never forgotten (decision 3)."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage, run, skip
from tests.world import Played

from dalsegno.workflow.events import TaskChoice

THREE = """
version: '2.0'
wf:
  output: {q: <% $.get(q) %>, w: <% $.get(w) %>, s: <% $.get(s) %>}
  tasks:
    quick: {action: std.noop, publish: {q: <% task().result %>}, on-success: all_in}
    wrong: {action: std.noop, publish: {w: <% task().result %>}, on-success: all_in}
    slow: {action: std.noop, publish: {s: <% task().result %>}, on-success: all_in}
    all_in: {join: all, action: std.noop}
"""
HANDLED = THREE.replace(
    "{join: all, action: std.noop}", "{join: all, action: std.noop, on-error: tell}\n    tell: {action: std.noop}"
)
CHAIN = THREE.replace(
    "w: <% task().result %>}, on-success: all_in}",
    "w: <% task().result %>}, on-success: middle}\n    middle: {action: std.noop, on-success: all_in}",
)
CHILD = """
version: '2.0'
wf:
  tasks:
    call: {workflow: sub}
""" + THREE.partition("\n")[2].partition("\n")[2].replace("wf:", "sub:")
ORQUESTA = """
version: 1.0
name: wf
output: [a: <% ctx().get(a) %>, b: <% ctx().get(b) %>, c: <% ctx().get(c) %>]
tasks:
  a: {action: std.noop, next: [{when: <% succeeded() %>, publish: [{a: <% result() %>}], do: meet}]}
  b: {action: std.noop, next: [{when: <% succeeded() %>, publish: [{b: <% result() %>}], do: meet}]}
  c: {action: std.noop, next: [{when: <% succeeded() %>, publish: [{c: <% result() %>}], do: meet}]}
  meet: {join: 2, action: std.noop}
"""


def _late(text: str) -> Stage:
    """`quick` ends, `wrong` fails, so that the join fails, and only then `slow` ends."""
    stage = Stage(text)
    stage.end("quick", "Q")
    stage.end("wrong", error="broken")
    stage.end("slow", "S")
    return stage


ALL = {"q": "Q", "w": "W", "s": "S"}


@pytest.mark.parametrize("text", [THREE, HANDLED, CHAIN, THREE.replace("wf:", "wf:\n  on-failure: pause")])
@pytest.mark.parametrize("way", ["skip", "resume", "rerun", "failed"])
def test_a_late_arrival_counts_when_the_failed_task_goes_on(text: str, way: str) -> None:
    """Decision 3: whatever has the failed branch continue, the join then begins with all three branches."""
    stage = _late(text)
    if text is HANDLED:
        stage.end("tell")
    if stage.execution.state == "PAUSED" and way in ("rerun", "failed"):
        way = "resume"  # a rerun takes completed executions only
    if way == "skip":
        stage.resume(skip("wrong", "W"))
    elif way == "resume":
        stage.resume(run("wrong"))
    else:
        stage.rerun(*([run("wrong")] if way == "rerun" else []))
    if way != "skip":
        stage.end("wrong", "W")
    if text is CHAIN:
        stage.end("middle")
    join = stage.execution.latest("all_in")
    assert join is not None
    assert join.arrivals.arrived == {"quick", "slow", "middle" if text is CHAIN else "wrong"}
    stage.end("all_in")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", ALL)
    stage.check()


def test_a_late_arrival_counts_in_a_child() -> None:
    """Decisions 3 and 11: the same inside of a sub-workflow, whose parent takes the result."""
    stage = Stage(CHILD)
    child = stage.child()
    stage.end("quick", "Q", on=child)
    stage.end("wrong", error="broken", on=child)
    stage.end("slow", "S", on=child)
    assert (child.state, stage.execution.state) == ("ERROR", "ERROR")
    stage.rerun(run("wrong"), on=child)
    stage.end("wrong", "W", on=child)
    stage.end("all_in", on=child)
    assert child.output is not None
    assert child.output.data == ALL
    assert (child.state, stage.execution.state) == ("SUCCESS", "SUCCESS")
    stage.check()


def test_a_late_arrival_while_paused_counts() -> None:
    """Decisions 3 and 6: a branch that arrives at a failed join while the execution is PAUSED is not forgotten."""
    stage = Stage(THREE.replace("wf:", "wf:\n  on-failure: pause"))
    stage.end("quick", "Q")
    stage.end("wrong", error="broken")
    stage.end("slow", "S")
    assert stage.execution.state == "PAUSED"
    stage.resume(skip("wrong", "W"))
    stage.end("all_in")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", ALL)


def test_what_a_late_branch_published_reaches_the_output_of_a_failure() -> None:
    """A branch that ends at a failed join ends there: its variables are told, as long as the join does not run."""
    stage = _late(THREE.replace("wf:", "wf:\n  output-on-error: {s: <% $.get(s) %>}"))
    assert stage.execution.state == "ERROR"
    output = stage.output()
    assert output["s"] == "S"


def test_the_failed_join_itself_is_run_with_what_came_too_late() -> None:
    """Decisions 1 and 3: resuming the failed join runs it as it is, with everything that has arrived."""
    stage = _late(THREE)
    stage.resume(run("all_in"), skip("wrong", "W"))
    stage.end("all_in")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", ALL)


def test_a_late_source_that_runs_again_arrives_once() -> None:
    """Decision 3: a rerun of the late source takes its arrival back; it counts again when it has ended again."""
    stage = _late(THREE)
    stage.rerun(run("slow"), run("wrong"))
    join = stage.execution.latest("all_in")
    assert join is not None
    assert (str(join.state), join.arrivals.arrived, dict(join.arrivals.late)) == ("WAITING", {"quick"}, {})
    stage.end("slow", "S")
    stage.end("wrong", "W")
    stage.end("all_in")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", ALL)
    stage.check()


@pytest.mark.parametrize("join", ["2", "one"])
def test_the_latecomer_counts_when_one_of_the_first_is_taken_back(join: str) -> None:
    """Decision 3: of a join that has begun the next arrival counts when a rerun takes an earlier one back."""
    stage = Stage(THREE.replace("join: all", f"join: {join}"))
    stage.end("quick", "Q")
    if join == "2":
        stage.end("wrong", "W")
    stage.end("all_in")
    stage.end("slow", "S")
    if join == "one":
        stage.end("wrong", "W")
    assert stage.execution.state == "SUCCESS"
    before = stage.task("all_in")
    assert (set(before.arrivals.arrived) & {"slow"}, len(before.arrivals.late)) == (set(), 1 if join == "2" else 2)
    stage.rerun(run("quick"))
    join_again = stage.execution.latest("all_in")
    assert join_again is not None
    assert (join_again.number != before.number, str(join_again.state)) == (True, "RUNNING")
    assert "slow" in join_again.arrivals.arrived
    stage.end("all_in")
    stage.end("quick", "Q2")
    assert stage.execution.state == "SUCCESS"
    stage.check()


def test_orquestas_latecomer_counts_too() -> None:
    """Decision 3: the same for branches with variables of their own."""
    stage = Stage(ORQUESTA)
    stage.end("a", "A")
    stage.end("b", "B")
    stage.end("meet")
    stage.end("c", "C")
    assert stage.output() == {"a": "A", "b": "B", "c": "C"}, "a branch that comes too late ends there"
    stage.rerun(run("a"))
    join = stage.execution.latest("meet")
    assert join is not None
    assert (str(join.state), join.arrivals.arrived) == ("RUNNING", {"b", "c"})
    stage.end("meet")
    stage.end("a", "A2")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"a": "A2", "b": "B", "c": "C"})
    stage.check()


def test_a_late_arrival_in_a_cycle_stays_in_its_round() -> None:
    """Decision 3: a branch that arrives when its cycle is in the next round is an arrival of its own round."""
    text = """
version: 1.0
name: wf
vars: [round: 0]
tasks:
  begin: {action: std.noop, next: [{do: fork}]}
  fork:
    action: std.noop
    next: [{publish: [{round: <% ctx(round) + 1 %>}], do: [left, right]}]
  left: {action: std.noop, next: [{do: meet}]}
  right: {action: std.noop, next: [{do: meet}]}
  meet:
    join: 1
    action: std.noop
    next: [{when: <% ctx(round) < 2 %>, do: fork}]
"""
    stage = Stage(text)
    stage.end("begin")
    stage.end("fork")
    first_right = stage.task("right")
    stage.end("left")
    stage.end("meet")
    stage.end("fork")
    stage.end("left")  # of the second round: the join of that round begins
    stage.world.finish(stage.execution, stage.attempts("right")[0], Played())  # that of the first round
    stage.world.run(until_s=0)
    assert dict(stage.task("meet").arrivals.late) == {first_right.number: (0,)}
    assert dict(stage.task("meet", 2).arrivals.late) == {}
    stage.check()


@pytest.mark.parametrize("is_planned", [False, True])
def test_a_join_takes_a_late_arrival_as_it_is(is_planned: bool) -> None:
    """Decision 3: neither the state, the generation, the context nor the row of the join changes by a late arrival."""
    stage = Stage(THREE)
    stage.end("quick", "Q")
    stage.end("wrong", error="broken")
    join = stage.task("all_in")
    before = (str(join.state), join.generation, list(join.arrivals.sources), set(join.arrivals.arrived), join.info)
    stage.end("slow", "S")
    assert (
        str(join.state),
        join.generation,
        list(join.arrivals.sources),
        set(join.arrivals.arrived),
        join.info,
    ) == before
    assert dict(join.arrivals.late) == {stage.task("slow").number: (-1,)}
    assert stage.task("slow").next == (join.number,)
    if is_planned:
        stage.rerun(TaskChoice(task="slow"))
        assert dict(join.arrivals.late) == {}
