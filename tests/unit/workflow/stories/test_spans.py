"""Stories of the core: what is inside the span that an execution goes back over (decisions 17 to 19, C26, C28, C30)."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage, run
from tests.unit.workflow.stories.test_reverting import as_it_counts, revert, reverts
from tests.unit.workflow.stories.test_strategies import UNDO, Log
from tests.world import Played

from dalsegno.workflow.events import RerunRequested
from dalsegno.workflow.refusals import Refused
from dalsegno.workflow.states import AttemptState

GRAPH = """
version: '2.0'
wf:
  {strategy}
  tasks:
    begin: {{action: std.noop, checkpoint: {{name: begun{retry}}}, revert: undo, on-success: [left, right]}}
    left: {{action: std.noop, revert: undo, on-success: left2}}
    left2: {{action: std.noop, revert: undo, on-success: meet}}
    right: {{workflow: sub, revert: undo, on-success: meet}}
    meet: {{join: all, action: {last}}}
"""
SUB = """
version: '2.0'
sub:
  tasks:
    one: {action: std.noop, on-success: two, revert: undo}
    two: {action: std.noop, revert: undo}
"""


def test_two_branches_and_a_child_are_reverted_newest_end_first() -> None:
    """C28, decision 17: in any branch; a child goes back to its own start, then the task's own revert is called."""
    done = Log(UNDO, SUB, GRAPH.format(strategy="on-failure: {revert: begun}", retry="", last="std.fail"))
    forward = [call for call in done.calls if not call.startswith("-")]
    assert forward[0] == "begin"
    assert forward[-1] == "meet"
    assert done.execution.state == "REVERTED"
    back = done.calls[len(forward) :]
    assert sorted(back) == sorted(["-left", "-left2", "-right", "-one", "-two"])
    assert back.index("-two") < back.index("-one") < back.index("-right"), "the child first"
    assert back.index("-left2") < back.index("-left")
    by_end = [done.execution.tasks[end.task].name for end in done.execution.ended]
    assert by_end == ["begin"], "what is undone is no end any more"
    assert [child.state for child in done.world.children(done.execution)] == ["REVERTED"]
    done.world.check_journals()


def test_the_retries_of_a_graph_are_used_up_and_the_next_strategy_applies() -> None:
    """C26, C30: the graph with its child is tried again as often as the checkpoint says, then reverted as a whole."""
    done = Log(UNDO, SUB, GRAPH.format(strategy="on-failure: revert", retry=", retry: 2", last="std.fail"))
    assert [done.calls.count(name) for name in ("begin", "left", "one", "meet")] == [1, 3, 3, 3]
    assert [done.calls.count(name) for name in ("-begin", "-left", "-one", "-right")] == [1, 3, 3, 3]
    assert done.execution.state == "REVERTED"
    states = [child.state for child in done.world.children(done.execution)]
    assert states == ["REVERTED"] * 3, "each try has a fresh child"
    done.world.check_journals()


def test_a_child_that_runs_is_brought_to_rest_and_reverted() -> None:
    """Decision 17: also one that was active; a fresh child follows when the execution goes on."""
    stage = Stage(GRAPH.format(strategy="description: x", retry="", last="std.noop"), others=(UNDO, SUB))
    stage.end("begin")
    stage.end("one", on=stage.child())
    stage.go_to("begun")
    stage.end("left")
    assert stage.execution.state == "REVERTING"
    child = stage.child()
    stage.end("two", on=child)
    assert child.state == "REVERTING", "what ran in it came to its end, and is reverted"
    while stage.execution.state == "REVERTING":
        (attempt,) = [one for one in stage.world.held.values() if one.reverts]
        owner = child if attempt in child.attempts.values() else stage.execution
        stage.world.finish(owner, attempt, Played())
        stage.world.run(until_s=0)
    assert (stage.execution.state, stage.stands_at(), child.state) == ("PAUSED", "begun", "REVERTED")
    stage.resume()
    assert len(stage.world.children(stage.execution)) == 2
    stage.check()


ITEMS = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, checkpoint: here, on-success: [many, wait]}
    many:
      action: std.noop
      with-items: x in [10, 20, 30, 40]
      concurrency: 2
      revert: {action: std.echo, input: {output: <% $.x %>}, concurrency: 2}
      on-success: after
    wait: {action: std.noop, wait-before: 60}
    after: {action: std.noop}
"""


def test_items_that_have_ended_are_reverted_each_with_its_variables() -> None:
    """Decision 17: also those of a task that has not ended; up to its `concurrency` at once, newest first."""
    stage = Stage(ITEMS)
    stage.end("a")
    stage.end("many", item=1)
    stage.end("many", item=0)
    stage.go_to("here")
    stage.end("many", item=2)
    stage.end("many", item=3)
    assert [given for _, _, given in reverts(stage)] == [{"output": 40}, {"output": 30}]
    revert(stage, "many", item=2)
    assert [given for _, _, given in reverts(stage)][2:] == [{"output": 10}]
    for item in (3, 0, 1):
        revert(stage, "many", item=item)
    assert stage.execution.state == "PAUSED"
    assert len({attempt.key for attempt in stage.execution.attempts.values()}) == len(stage.execution.attempts)
    stage.check()


def test_a_timer_has_the_time_that_it_had_left() -> None:
    """Decision 19: a task that was delayed at the entry waits on."""
    stage = Stage(
        """
version: '2.0'
wf:
  tasks:
    slow: {action: std.noop, wait-before: 60}
    a: {action: std.noop, on-success: b}
    b: {action: std.noop, checkpoint: here, on-success: c}
    c: {action: std.noop}
"""
    )
    stage.world.now_s += 10
    stage.end("a")
    stage.end("b")
    stage.world.now_s += 200
    stage.world.run(until_s=0)
    stage.end("slow")
    stage.end("c")
    assert stage.execution.state == "SUCCESS"
    stage.go_to("here", resumes=True)
    due_s = stage.task("slow").timing.due_s
    assert due_s is not None
    assert due_s - stage.world.now_s == pytest.approx(50)
    stage.world.run(until_s=60)
    assert stage.standing()["slow"] == "RUNNING"
    assert stage.attempts("slow")[-1].key[2] == 2
    stage.check()


DELEGATES = """
version: '2.0'
wf:
  tasks:
    old: {action: std.noop}
    a: {action: std.noop, checkpoint: here, on-success: young}
    young: {action: std.noop, revert: {action: std.echo, input: {output: undone}, when: always}}
"""


def test_delegates_inside_the_span() -> None:
    """Decision 19: one that began after the entry is cancelled, one that is open since before is left alone, one that
    was answered since is asked anew."""
    stage = Stage(DELEGATES)
    stage.end("old", outcome="delegated")
    stage.end("a")
    stage.end("young", outcome="delegated")
    stage.go_to("here")
    assert [name for name, _, _ in reverts(stage)] == ["young"], "it ended CANCELLED"
    revert(stage, "young")
    assert (stage.execution.state, stage.standing()["old"]) == ("PAUSED", "RUNNING")
    assert stage.attempts("old")[-1].delegated
    stage.resume()
    stage.end("old")
    stage.end("young")
    stage.go_to("here")
    revert(stage, "young")
    assert stage.standing()["old"] == "IDLE"
    stage.resume()
    assert [attempt.key[2] for attempt in stage.attempts("old")] == [1, 2]
    stage.check()


def test_delegates_are_waited_for_when_the_request_says_so() -> None:
    """Decision 6, 19: `delegates: WAIT`."""
    stage = Stage(DELEGATES)
    stage.end("old", outcome="delegated")
    stage.end("a")
    stage.end("young", outcome="delegated")
    stage.go_to("here", waits_for_delegates=True)
    assert (stage.execution.state, reverts(stage)) == ("REVERTING", [])
    stage.end("young")
    revert(stage, "young")
    assert stage.execution.state == "PAUSED"


RETRIED = """
version: '2.0'
wf:
  tasks:
    a:
      action: std.noop
      revert: {action: std.noop, retry: {count: 1, delay: 5}, timeout: 30}
"""


def test_a_revert_is_retried_and_times_out() -> None:
    """Decision 18: `retry` and `timeout` of a revert; then it is REVERT_ERROR."""
    stage = Stage(RETRIED)
    stage.end("a")
    stage.go_to("start")
    revert(stage, "a", error="stuck")
    assert stage.execution.state == "REVERTING"
    stage.world.run(until_s=6)
    assert [attempt.key[2] for attempt in stage.attempts("a")] == [1, 2, 3]
    stage.world.run(until_s=40)
    assert (stage.execution.state, stage.attempts("a")[-1].state) == ("REVERT_ERROR", AttemptState.CANCELLED)
    assert "timed out" in stage.execution.info
    assert stage.world.cancelled
    stage.check()


def test_each_end_of_a_task_that_was_rerun_is_reverted_with_its_own_result() -> None:
    """Decision 17: superseded task executions too: what they did was done."""
    text = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, publish: {x: <% task().result %>}, on-success: b, revert: std.echo output=<% task().result %>}
    b: {action: std.noop, revert: std.echo output=<% $.x %>}
"""
    stage = Stage(text)
    stage.end("a", 1)
    stage.end("b")
    stage.rerun(run("a"))
    stage.end("a", 2)
    stage.end("b")
    stage.go_to("start")
    for name in ("b", "a", "b", "a"):
        revert(stage, name)
    assert [(name, given) for name, _, given in sorted_by_end(stage)] == [
        ("b", {"output": 2}),
        ("a", {"output": 2}),
        ("b", {"output": 1}),
        ("a", {"output": 1}),
    ]
    assert stage.execution.state == "PAUSED"
    stage.check()


def sorted_by_end(stage: Stage) -> list[tuple[str, str, object]]:
    """Every revert, newest end first."""
    execution = stage.execution
    found = sorted((one for one in execution.attempts.values() if one.reverts), key=lambda one: -one.reverts)
    return [(execution.tasks[one.key[0]].name, one.action, one.input.data) for one in found]


def test_a_deadline_that_passes_meanwhile_is_acted_on_after_the_revert() -> None:
    """Decision 19: the execution's deadline stands."""
    stage = Stage(RETRIED, deadline_s=1_700_000_010.0)
    stage.end("a")
    stage.go_to("start")
    stage.world.now_s += 20
    stage.world.run(until_s=0)
    assert stage.execution.state == "REVERTING"
    revert(stage, "a")
    assert stage.execution.state == "ERROR"
    assert "deadline" in stage.execution.info


def test_what_reverts_publish_is_an_edit_at_the_entry() -> None:
    """Decision 18: of what the entry's task published; it is there whenever the entry is gone back to."""
    stage = Stage(
        """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, publish: {x: 1}, checkpoint: here, on-success: b}
    b: {action: std.noop, on-success: c, revert: {action: std.noop, publish: {undone: <% task().result %>}}}
    c: {action: std.echo output=<% $.get(undone) %>}
"""
    )
    stage.end("a")
    stage.end("b")
    stage.end("c")
    stage.go_to("here")
    revert(stage, "b", result="gone")
    at_entry = as_it_counts(stage.execution)
    assert {name: value.data for name, value in stage.task("a").published.items()} == {"x": 1, "undone": "gone"}
    stage.resume()
    stage.end("b")
    assert stage.attempts("c", len(stage.execution.by_name["c"]))[-1].input.data == {"output": "gone"}
    stage.end("c")
    stage.go_to("here")
    revert(stage, "b", result="gone")
    now = as_it_counts(stage.execution)
    assert now["indexes"] == at_entry["indexes"]
    assert stage.task("a").published["undone"].data == "gone"
    stage.check()


def test_a_reverted_task_cannot_be_rerun() -> None:
    """Decision 23: the refusal names the entry to go on from."""
    done = Log(UNDO, SUB, GRAPH.format(strategy="on-failure: {revert: begun}", retry="", last="std.fail"))
    with pytest.raises(Refused, match="task left: was reverted: go on from checkpoint 'begun'"):
        done.world.tell(done.execution.id, RerunRequested(choices=(run("left"),)))
