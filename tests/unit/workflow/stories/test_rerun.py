"""Stories of the core: rerun of completed executions, O16 to O36."""

from __future__ import annotations

from itertools import permutations

import pytest
from tests.unit.workflow.stories.operating import Stage, run
from tests.world import ABSENT

from dalsegno.workflow.events import ChildChoice, RerunRequested, TaskDone, TaskOutcome
from dalsegno.workflow.refusals import Refused
from dalsegno.workflow.value import Value

CHAIN = """
version: '2.0'
wf:
  output: {a: <% $.get(a) %>, b: <% $.get(b) %>, c: <% $.get(c) %>}
  tasks:
    a: {action: std.echo output=1, publish: {a: <% task().result %>}, on-success: b}
    b: {action: std.echo output=<% $.a %>, publish: {b: <% task().result %>}, on-success: c}
    c: {action: std.echo output=<% $.b %>, publish: {c: <% task().result %>}}
"""
DIAMOND = """
version: '2.0'
wf:
  output: {x: <% $.get(x) %>, y: <% $.get(y) %>}
  tasks:
    top: {action: std.noop, on-success: [left, right]}
    left: {action: std.noop, publish: {x: <% task().result %>}, on-success: join}
    right: {action: std.noop, publish: {y: <% task().result %>}, on-success: join}
    join: {join: all, action: std.noop, on-success: last}
    last: {action: std.noop}
"""
ITEMS = """
version: '2.0'
wf:
  output: {all: <% $.get(all) %>}
  tasks:
    first: {action: std.noop, on-success: each}
    each:
      with-items: i in [10, 20, 30]
      action: std.echo output=<% $.i %>
      publish: {all: <% task().result %>}
"""


def ended(*results: object) -> Stage:
    """A chain that has come to its end with these results."""
    stage = Stage(CHAIN)
    for name, result in zip("abc", results or (1, 2, 3), strict=True):
        stage.end(name, result)
    assert stage.execution.state == "SUCCESS"
    return stage


def diamond() -> Stage:
    """A diamond that has come to its end."""
    stage = Stage(DIAMOND)
    stage.end("top")
    stage.end("left", "x1")
    stage.end("right", "y1")
    stage.end("join")
    stage.end("last")
    assert stage.execution.state == "SUCCESS"
    return stage


def test_only_a_completed_execution_is_rerun() -> None:
    """O18, O19: one that runs, is pausing, paused or cancelling is refused, and stays as it is."""
    stage = Stage(CHAIN)
    for ask, state in ((None, "RUNNING"), (stage.pause, "PAUSING"), (stage.cancel, "CANCELLING")):
        if ask is not None:
            ask()
        revision = stage.execution.revision
        assert stage.execution.state == state
        with pytest.raises(Refused, match="only a completed execution"):
            stage.rerun(run("a"))
        assert stage.execution.revision == revision
    stage.end("a")
    assert stage.execution.state == "CANCELLED"
    stage.rerun(run("a"))
    assert stage.execution.state == "RUNNING"


def test_a_paused_execution_is_not_rerun() -> None:
    """O19: PAUSED is not completed."""
    stage = Stage(CHAIN)
    stage.pause()
    stage.end("a")
    with pytest.raises(Refused, match="PAUSED"):
        stage.rerun(run("a"))


def test_rerun_reuses_the_execution() -> None:
    """O20, O36, R23: the same execution and task execution, a new attempt that says who launched it; the old stays."""
    stage = ended()
    stage.rerun(run("b"), comment="once more")
    first, second = stage.attempts("b")
    assert (first.state, first.result, first.comment) == ("SUCCESS", Value(data=2), "")
    assert (second.state, second.comment, second.actor) == (
        "RUNNING",
        "launched by workflow-rerun: once more",
        "ann",
    )
    assert len(stage.execution.by_name["b"]) == 1
    stage.check()


def test_what_came_before_is_kept_and_what_came_after_follows_anew() -> None:
    """O21, O22, O36: a task that succeeded is repeated with the context it had; those after it are superseded."""
    stage = ended(1, 2, 3)
    stage.rerun(run("b"))
    assert stage.attempts("b")[-1].input.data == {"output": 1}
    assert stage.task("c").superseded_by == "workflow-rerun"
    assert stage.standing() == {"a": "SUCCESS", "b": "RUNNING"}
    stage.end("b", 22)
    assert stage.attempts("c", 2)[0].input.data == {"output": 22}
    stage.end("c", 33)
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"a": 1, "b": 22, "c": 33})
    assert [stage.task("c", nth).generation for nth in (1, 2)] == [0, 1]
    stage.check()


def test_rerun_with_another_input() -> None:
    """O21, O22: the new input stands in the place of the evaluated one."""
    stage = ended()
    stage.rerun(run("c", input={"output": "new"}))
    assert stage.attempts("c")[-1].input.data == {"output": "new"}


def test_the_first_task_repeats_everything() -> None:
    """O33: from the ancestor alone all that follows runs again as the definition says, and joins once."""
    stage = diamond()
    stage.rerun(run("top"))
    stage.end("top")
    stage.end("right", "y2")
    stage.end("left", "x2")
    assert len(stage.execution.by_name["join"]) == 2
    stage.end("join")
    stage.end("last")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"x": "x2", "y": "y2"})
    assert [task.superseded_by != "" for task in stage.execution.tasks.values()] == [False] + [True] * 4 + [False] * 4
    stage.check()


def test_two_failed_branches_join_once() -> None:
    """O32: both are rerun together, and the join runs once."""
    stage = Stage(DIAMOND)
    stage.end("top")
    stage.end("left", error="one")
    stage.end("right", error="two")
    assert stage.execution.state == "ERROR"
    stage.rerun(run("left"), run("right"))
    stage.end("right", "y")
    assert stage.standing().get("join") in (None, "WAITING")
    stage.end("left", "x")
    assert stage.standing()["join"] == "RUNNING"
    stage.end("join")
    stage.end("last")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"x": "x", "y": "y"})
    stage.check()


def test_a_join_keeps_the_other_branch() -> None:
    """O29, O32, decision 3: one branch is rerun; the join runs again, once, with the other branch's variables."""
    stage = diamond()
    stage.rerun(run("left"))
    assert stage.standing() == {"top": "SUCCESS", "left": "RUNNING", "right": "SUCCESS", "join": "WAITING"}
    stage.end("left", "x2")
    assert stage.standing()["join"] == "RUNNING"
    stage.end("join")
    stage.end("last")
    assert stage.output() == {"x": "x2", "y": "y1"}
    assert len(stage.execution.by_name["join"]) == 2
    stage.check()


def test_a_join_is_renewed_again_and_again() -> None:
    """Decision 3: first one branch is rerun, then the other; each time the join keeps what was not taken back."""
    stage = diamond()
    for name, result in (("left", "x2"), ("right", "y2"), ("left", "x3")):
        stage.rerun(run(name))
        stage.end(name, result)
        stage.end("join")
        stage.end("last")
        assert stage.execution.state == "SUCCESS"
        stage.check()
    assert stage.output() == {"x": "x3", "y": "y2"}


def test_named_twice_is_named_once() -> None:
    """O27: a task named twice is run again once."""
    stage = ended()
    stage.rerun(run("a"), run("a"))
    assert len(stage.attempts("a")) == 2


@pytest.mark.parametrize("names", list(permutations("abc")))
def test_what_lies_downstream_is_subsumed(names: tuple[str, ...]) -> None:
    """O28, O29, O35: along the whole path, in any order; nothing runs twice, and the outcome says so."""
    stage = ended()
    outcome = stage.rerun(*map(run, names))
    assert sorted(outcome.subsumed) == ["b", "c"]
    assert stage.standing() == {"a": "RUNNING"}
    for name in "abc":
        stage.end(name)
    assert stage.execution.state == "SUCCESS"
    assert {name: len(numbers) for name, numbers in stage.execution.by_name.items()} == {"a": 1, "b": 2, "c": 2}
    stage.check()


def test_an_unrelated_task_saves_nothing_downstream() -> None:
    """O28: with three tasks, the last of them on a path of the first and the second on none, only two begin."""
    stage = diamond()
    outcome = stage.rerun(run("left"), run("last"), run("right"))
    assert outcome.subsumed == ("last",)
    assert stage.standing() == {"top": "SUCCESS", "left": "RUNNING", "right": "RUNNING"}
    stage.end("left", "x2")
    stage.end("right", "y2")
    stage.end("join")
    stage.end("last")
    assert stage.output() == {"x": "x2", "y": "y2"}
    stage.check()


def test_what_never_ran_refuses_all() -> None:
    """O30, O31: one task that was never executed refuses the request as a whole, each such task named."""
    stage = Stage(CHAIN)
    stage.end("a", error="boom")
    revision = stage.execution.revision
    with pytest.raises(Refused) as refused:
        stage.rerun(run("a"), run("b"), run("nothing"))
    assert [(violation.subject, violation.kind) for violation in refused.value.violations] == [
        ("task b", "NOT_EXECUTED"),
        ("task nothing", "TASK_UNKNOWN"),
    ]
    assert "is not a task of the workflow, which has a, b" in str(refused.value)
    assert stage.execution.revision == revision


def failed_items(*results: str) -> Stage:
    """Three items; an empty result is a failure."""
    stage = Stage(ITEMS)
    stage.end("first")
    for item, result in enumerate(results):
        stage.end("each", result or ABSENT, item=item, error="" if result else "boom")
    return stage


def test_items_are_reset() -> None:
    """O24: by default all items run again, over the list evaluated again."""
    stage = failed_items("A", "", "C")
    stage.rerun(run("each"))
    assert [len(stage.attempts("each", item=item)) for item in range(3)] == [2, 2, 2]


def test_items_without_reset() -> None:
    """O25: only the failed items run again, the others keep their results in place."""
    stage = failed_items("A", "", "C")
    stage.rerun(run("each", reset=False))
    assert [len(stage.attempts("each", item=item)) for item in range(3)] == [1, 2, 1]
    stage.end("each", "B", item=1)
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"all": ["A", "B", "C"]})
    stage.check()


def test_items_that_succeeded_are_rerun() -> None:
    """O21, O24: a with-items task that succeeded is rerun like any other; without reset nothing of it has to."""
    stage = failed_items("A", "B", "C")
    assert stage.execution.state == "SUCCESS"
    stage.rerun(run("each"))
    for item in range(3):
        stage.end("each", f"new {item}", item=item)
    assert stage.output() == {"all": ["new 0", "new 1", "new 2"]}
    stage.rerun(run("each", reset=False))
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"all": ["new 0", "new 1", "new 2"]})
    stage.rerun(run("each", items={1: {"output": 5}}))
    assert stage.attempts("each", item=1)[-1].input.data == {"output": 5}
    stage.end("each", "one", item=1)
    assert stage.output() == {"all": ["new 0", "one", "new 2"]}
    stage.check()


def test_reset_is_per_task() -> None:
    """O26: of two with-items tasks rerun together, one is reset and one is not."""
    body = "{with-items: 'i in [1, 2]', action: std.echo output=<% $.i %>}"
    stage = Stage(f"version: '2.0'\nwf:\n  tasks:\n    one: {body}\n    two: {body}\n")
    for name in ("one", "two"):
        stage.end(name, 1, item=0)
        stage.end(name, error="boom", item=1)
    stage.rerun(run("one", reset=False), run("two"))
    counts = {name: [len(stage.attempts(name, item=item)) for item in range(2)] for name in ("one", "two")}
    assert counts == {"one": [1, 2], "two": [2, 2]}
    stage.check()


def test_from_an_ancestor_items_are_reset() -> None:
    """O34: what lies downstream is subsumed with its no-reset: all of its items run again."""
    stage = failed_items("A", "", "C")
    outcome = stage.rerun(run("first"), run("each", reset=False))
    assert outcome.subsumed == ("each",)
    stage.end("first")
    assert [len(stage.attempts("each", nth=2, item=item)) for item in range(3)] == [1, 1, 1]
    stage.check()


def test_rerun_of_all_that_failed() -> None:
    """Decision 1, R27: without names all failed and cancelled tasks run again, of items those that failed."""
    stage = Stage(DIAMOND)
    stage.end("top")
    stage.end("left", error="boom")
    stage.end("right", outcome="cancelled")
    assert stage.execution.state == "CANCELLED"
    stage.rerun()
    assert stage.standing() == {"top": "SUCCESS", "left": "RUNNING", "right": "RUNNING"}
    items = failed_items("A", "", "")
    items.rerun()
    assert [len(items.attempts("each", item=item)) for item in range(3)] == [1, 2, 2]


def test_nothing_has_failed() -> None:
    """O30: a rerun of what failed is refused where nothing did."""
    with pytest.raises(Refused, match="none of its tasks has failed"):
        ended().rerun()


def test_interrupted_branches_go_on() -> None:
    """Decision 3: what a cancel had interrupted follows when the execution runs again."""
    stage = Stage(DIAMOND)
    stage.end("top")
    stage.cancel()
    stage.end("left", "x")
    stage.end("right", error="boom")
    assert (stage.execution.state, stage.standing().get("join")) == ("CANCELLED", None)
    stage.rerun(run("right"))
    assert stage.standing()["join"] == "WAITING"
    stage.end("right", "y")
    stage.end("join")
    stage.end("last")
    assert stage.output() == {"x": "x", "y": "y"}
    stage.check()


def test_what_is_still_active_goes_on_and_counts() -> None:
    """Decision 3: a task downstream that still runs continues, sees what it saw, and counts."""
    stage = Stage(
        "version: '2.0'\nwf:\n  output: {seen: <% $.get(seen) %>, v: <% $.get(v) %>}\n  tasks:\n"
        "    a: {action: std.noop, publish: {v: <% task().result %>}, on-success: [slow, breaks]}\n"
        "    slow: {action: std.noop, publish: {seen: <% $.v %>}}\n    breaks: {action: std.noop, on-success: fail}\n"
    )
    stage.end("a", "old")
    stage.end("breaks")
    assert (stage.execution.state, stage.execution.active_count) == ("ERROR", 1)
    slow = stage.task("slow")
    stage.rerun(run("a"))
    assert (slow.state, slow.superseded_by) == ("RUNNING", "")
    attempt = stage.attempts("slow")[0]
    stage.tell(TaskDone(key=attempt.key, outcome=TaskOutcome.SUCCEEDED, delivery=attempt.delivery))
    assert slow.published["seen"].data == "old"
    assert stage.standing()["a"] == "RUNNING"
    stage.check()


def test_a_late_answer_of_before_the_rerun() -> None:
    """O36, P24: the superseded attempt's answer is refused, the new one's counts."""
    stage = ended()
    stage.rerun(run("c"))
    assert stage.tell(TaskDone(key=(3, 0, 1), outcome=TaskOutcome.FAILED, delivery=1)).verdict in (
        "duplicate",
        "superseded",
    )
    stage.end("c", 9)
    assert stage.output()["c"] == 9


def test_rerun_of_a_rerun() -> None:
    """O20, O23: a rerun may itself be paused, cancelled, fail and be rerun; retries start afresh."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop, retry: {count: 1, delay: 0}, on-success: u}\n"
        "    u: {action: std.noop}\n"
    )
    for _ in range(2):
        stage.end("t", error="boom")
        stage.end("t", error="boom")
        assert stage.execution.state == "ERROR"
        stage.rerun(run("t"))
    stage.pause()
    stage.end("t")
    assert stage.execution.state == "PAUSED"
    stage.resume()
    stage.cancel()
    stage.end("u")
    assert stage.execution.state == "CANCELLED"
    stage.rerun(run("t"))
    stage.end("t")
    stage.end("u")
    assert (stage.execution.state, len(stage.attempts("t"))) == ("SUCCESS", 6)
    stage.check()


TREE = """
version: '2.0'
child:
  output: {got: <% $.got %>}
  tasks:
    c: {action: std.noop, publish: {got: <% task().result %>}, on-success: d}
    d: {action: std.noop}
wf:
  output: {got: <% $.got %>}
  tasks:
    s: {workflow: child, publish: {got: <% task().result.got %>}, on-success: after}
    after: {action: std.noop}
"""


def test_a_rerun_inside_a_child_wakes_its_ancestors() -> None:
    """Decision 11: the ended parent runs again, its task waits for the same child, what came after is superseded."""
    stage = Stage(TREE)
    child = stage.child()
    stage.end("c", 1, on=child)
    stage.end("d", on=child)
    stage.end("after")
    assert stage.execution.state == "SUCCESS"
    stage.rerun(run("c"), on=child)
    assert (stage.execution.state, stage.standing()) == ("RUNNING", {"s": "RUNNING"})
    assert [attempt.child_id for attempt in stage.attempts("s")] == [child.id, child.id]
    stage.end("c", 2, on=child)
    stage.end("d", on=child)
    stage.end("after")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"got": 2})
    stage.check()


def test_a_replaced_child_leaves_its_ancestors_alone() -> None:
    """Decision 11: only the current child of a task represents it."""
    stage = Stage(TREE)
    old = stage.child()
    stage.end("c", error="boom", on=old)
    stage.rerun(run("s"))
    new = stage.child()
    assert new is not old
    revision = stage.execution.revision
    stage.resume(run("c"), on=old)
    stage.end("c", 1, on=old)
    stage.end("d", on=old)
    assert (old.state, stage.execution.revision) == ("SUCCESS", revision)
    stage.end("c", 2, on=new)
    stage.end("d", on=new)
    stage.end("after")
    assert stage.output() == {"got": 2}
    stage.check()


def test_a_paused_ancestor_takes_the_result() -> None:
    """Decision 11: a PAUSED parent stays PAUSED, and has the child's new result when it is resumed."""
    stage = Stage(TREE.replace("after: {action: std.noop}", "after: {action: std.noop}\n    peer: {action: std.noop}"))
    child = stage.child()
    stage.end("c", error="boom", on=child)
    stage.pause()
    stage.end("peer")
    assert stage.execution.state == "PAUSED"
    stage.resume(run("c"), on=child)
    stage.end("c", 2, on=child)
    stage.end("d", on=child)
    assert (stage.execution.state, stage.standing()["s"], stage.standing()["after"]) == ("PAUSED", "SUCCESS", "IDLE")
    stage.resume()
    stage.end("after")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"got": 2})
    stage.check()


def test_rerun_of_the_failed_tasks_inside_the_child() -> None:
    """Decision 11: `child: RERUN_FAILED` keeps what succeeded inside of the existing child."""
    stage = Stage(TREE)
    child = stage.child()
    stage.end("c", 1, on=child)
    stage.end("d", error="boom", on=child)
    assert stage.execution.state == "ERROR"
    stage.rerun(run("s", child=ChildChoice.RERUN_FAILED))
    assert len(stage.world.children(stage.execution)) == 1
    assert (child.state, stage.execution.state) == ("RUNNING", "RUNNING")
    stage.end("d", on=child)
    stage.end("after")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"got": 1})
    assert [attempt.comment for attempt in stage.attempts("s")] == ["", "launched by workflow-rerun"]
    stage.check()


def test_a_child_with_nothing_to_rerun_says_so() -> None:
    """Decision 11: the parent does not wait for ever for a child in which nothing failed."""
    stage = Stage(TREE)
    child = stage.child()
    stage.end("c", 1, on=child)
    stage.end("d", on=child)
    stage.end("after", error="boom")
    stage.rerun(run("s", child=ChildChoice.RERUN_FAILED))
    assert (child.state, stage.standing()) == ("SUCCESS", {"s": "SUCCESS", "after": "RUNNING"})
    stage.check()


def test_a_join_of_before_that_runs_on() -> None:
    """Decision 3, O29: the task that failed had already reached the join; running again it reaches the next one."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    left: {action: std.noop, on-complete: join}\n"
        "    right: {action: std.noop, on-complete: join}\n    join: {join: all, action: std.noop}\n"
    )
    stage.end("left", error="boom")
    stage.end("right")
    first = stage.task("join")
    assert first.state == "RUNNING"
    stage.resume(run("left"))
    assert (first.state, first.superseded_by) == ("RUNNING", "")
    stage.end("left")
    second = stage.task("join", 2)
    assert (second.state, second.generation, sorted(second.arrivals.arrived)) == ("RUNNING", 1, ["left", "right"])
    stage.tell(TaskDone(key=(first.number, 0, 1), outcome=TaskOutcome.SUCCEEDED, delivery=1))
    stage.tell(TaskDone(key=(second.number, 0, 1), outcome=TaskOutcome.SUCCEEDED, delivery=1))
    assert stage.execution.state == "SUCCESS"
    stage.check()


def test_of_many_children_those_that_failed_run_on() -> None:
    """Decision 11, O25: `child: RERUN_FAILED` over items leaves the children that succeeded as they are."""
    stage = Stage(
        "version: '2.0'\nchild: {tasks: {c: {action: std.noop}}}\n"
        "wf:\n  tasks:\n    s: {workflow: child, with-items: 'i in [1, 2]', timeout: 100}\n"
    )
    good, bad = stage.world.children(stage.execution)
    stage.end("c", on=good)
    stage.end("c", error="boom", on=bad)
    assert stage.execution.state == "ERROR"
    stage.rerun(run("s", child=ChildChoice.RERUN_FAILED))
    assert (good.state, bad.state, len(stage.world.children(stage.execution))) == ("SUCCESS", "RUNNING", 2)
    assert [len(stage.attempts("s", item=item)) for item in range(2)] == [1, 2]
    stage.end("c", on=bad)
    assert stage.execution.state == "SUCCESS"
    stage.rerun(run("c"), on=bad)
    assert stage.task("s").timing.timeout_due_s == pytest.approx(stage.world.now_s + 100)
    stage.end("c", on=bad)
    assert stage.execution.state == "SUCCESS"
    stage.check()


def test_a_failed_join_behind_stays_behind() -> None:
    """Decision 3: the task that a join's failure had led to leads back to it; run again it does not revive the join."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    start: {action: std.noop, on-success: [a, b]}\n"
        "    a: {action: std.noop, on-success: join}\n    b: {action: std.noop, on-success: join}\n"
        "    join: {join: all, action: std.noop, on-error: mend}\n"
        "    mend: {action: std.noop, on-success: join}\n"
    )
    stage.end("start")
    stage.end("a")
    stage.end("b", error="boom")
    assert stage.standing()["join"] == "ERROR"
    stage.end("mend", error="boom")
    stage.rerun(run("mend"))
    assert stage.standing()["join"] == "ERROR"
    stage.end("mend")
    assert stage.execution.state == "ERROR"
    stage.rerun(run("b"))
    assert [stage.task("join").superseded_by, stage.task("mend").superseded_by] == ["workflow-rerun"] * 2
    assert stage.standing()["join"] == "WAITING"
    stage.end("b")
    stage.check()


def test_what_still_runs_of_a_superseded_task_is_stopped() -> None:
    """Decision 3: items that ran on after their task had ended are cancelled when it no longer counts."""
    stage = Stage(ITEMS)
    stage.end("first")
    stage.end("each", item=0, outcome="cancelled")
    assert (stage.execution.state, stage.execution.active_count) == ("CANCELLED", 2)
    stage.rerun(run("first"))
    assert [attempt.state for attempt in stage.execution.current_attempts(stage.task("each"))] == ["CANCELLED"] * 3
    assert len(stage.world.cancelled) == 2
    stage.check()


def test_a_child_that_is_rerun_by_two_at_once() -> None:
    """Decision 11: its parent asks it to rerun what failed while somebody else has done so already; nobody waits."""
    stage = Stage(TREE)
    child = stage.child()
    stage.end("c", error="boom", on=child)
    stage.world.tell(stage.execution.id, RerunRequested(choices=(run("s", child=ChildChoice.RERUN_FAILED),)))
    stage.world.tell(child.id, RerunRequested())
    stage.world.run(until_s=0)
    stage.end("c", error="boom", on=child)
    assert (child.state, stage.execution.state) == ("ERROR", "ERROR")
    stage.check()
