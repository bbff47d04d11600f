"""Stories of the core: more details that no other story shows, each where a small mistake would go unnoticed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.workflow.stories.operating import Stage, run
from tests.world import HOLD, World, described

from dalsegno.workflow.changes import Timer
from dalsegno.workflow.events import (
    ChildMoved,
    ContextUpdated,
    DeliveryLost,
    DiscardRequested,
    Poisoned,
    SliceDue,
    TimerFired,
    Verdict,
)
from dalsegno.workflow.journal import replay
from dalsegno.workflow.model import ActionDescription
from dalsegno.workflow.refusals import InvalidRequest, RevisionMoved, TooLarge
from dalsegno.workflow.running.step import ERRORS_MAX
from dalsegno.workflow.states import ExecutionState


def read_back(stage: Stage) -> None:
    """Continue with the execution as its journal gives it, as after the start of an engine."""
    world, execution_id = stage.world, stage.execution.id
    stage.execution = world.executions[execution_id] = replay(world.journal(execution_id))


def test_what_runs_on_sees_what_led_to_it_and_not_its_repetition() -> None:
    """Decision 3: a task that a rerun has left active sees the variables of before, also once it is loaded anew."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n"
        "    a: {action: std.noop, publish: {x: <% task().result %>}, on-success: b}\n"
        "    b: {action: std.noop, publish: {seen: <% $.x %>}}\n    breaks: {action: std.noop, on-error: fail}\n"
    )
    stage.end("a", "first")
    stage.end("breaks", error="broken")
    stage.rerun(run("a"))
    assert stage.standing() == {"a": "RUNNING", "b": "RUNNING", "breaks": "ERROR"}
    read_back(stage)
    stage.end("b")
    assert stage.task("b").published["seen"].data == "first"
    stage.check()


TWICE = """
version: '2.0'
wf:
  tasks:
    s: {action: std.noop, on-success: [p, q]}
    p: {action: std.noop, on-success: a}
    q: {action: std.noop, on-success: a}
    a: {action: std.noop, on-success: meet}
    b: {action: std.noop, on-success: meet}
    meet: {join: all, action: std.noop}
    breaks: {action: std.noop, on-error: fail}
"""


def test_a_join_that_a_rerun_has_filled_begins_once() -> None:
    """Decision 3: it is of the generation of its newest arrival, so that another arrival of that generation is late."""
    stage = Stage(TWICE)
    stage.end("b")
    stage.end("breaks", error="broken")
    stage.end("s")
    stage.rerun(run("s"))
    stage.end("s")
    stage.end("p")
    stage.end("a")
    assert (stage.standing()["meet"], stage.task("meet").generation) == ("RUNNING", 1)
    stage.end("q")
    stage.end("a")
    assert len(stage.execution.by_name["meet"]) == 1
    assert list(stage.task("meet").arrivals.late) == [stage.execution.by_name["a"][-1]]
    stage.check()


def test_an_input_is_removed_by_an_edit() -> None:
    """Decision 14: what reads it afterwards finds nothing."""
    stage = Stage(
        "version: '2.0'\nwf:\n  input: [who, what]\n  tasks:\n    a: {action: std.noop, on-success: b}\n"
        "    b:\n      action: std.echo output=<% $.get(who, nobody) %>\n",
        {"who": "ann", "what": 1},
    )
    stage.pause()
    stage.end("a")
    stage.tell(ContextUpdated(removed=("who",)))
    assert stage.execution.input.data == {"what": 1}
    stage.resume()
    (attempt,) = stage.attempts("b")
    assert attempt.input.data == {"output": "nobody"}
    stage.check()


def test_the_retries_of_a_checkpoint_come_before_the_pause_of_a_failure() -> None:
    """Decisions 13 and 22: while there are any, the execution goes back and tries again; then it is PAUSED."""
    stage = Stage(
        "version: '2.0'\nwf:\n  on-failure: pause\n  tasks:\n"
        "    a: {action: std.noop, checkpoint: {name: here, retry: 1}, on-success: b}\n    b: {action: std.noop}\n"
    )
    stage.end("a")
    stage.end("b", error="broken")
    assert (str(stage.execution.state), stage.standing()["b"]) == ("RUNNING", "RUNNING")
    stage.end("b", error="broken")
    assert (str(stage.execution.state), stage.standing()["b"]) == ("PAUSED", "ERROR")
    stage.check()


def test_a_mistral_execution_keeps_no_list_of_errors() -> None:
    """Its failures are in its state info; the list is Orquesta's."""
    stage = Stage("version: '2.0'\nwf:\n  tasks:\n    a: {action: std.noop}\n")
    stage.end("a", error="broken")
    assert (str(stage.execution.state), stage.execution.errors) == ("ERROR", [])
    assert stage.execution.reported_errors is None


def test_a_list_of_errors_is_bounded() -> None:
    """What comes after the limit is not noted."""
    tasks = "".join(f"  t{number}: {{action: std.echo output=<% int(no) %>}}\n" for number in range(ERRORS_MAX + 1))
    stage = Stage(f"version: 1.0\nname: wf\ntasks:\n{tasks}")
    assert (stage.execution.state, len(stage.execution.errors)) == ("ERROR", ERRORS_MAX)


def test_of_several_descriptions_of_an_action_the_one_that_takes_the_input_counts() -> None:
    """Executors of different versions serve it: the newest description that fits."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    a: {action: std.noop, on-success: b}\n    b: {action: p.act old=1}\n"
    )
    newest, older = replace(described("p.act", "new"), digest="n"), replace(described("p.act", "old"), digest="o")
    stage.world.actions["p.act"] = replace(newest, others=(older,))
    stage.end("a")
    (attempt,) = stage.attempts("b")
    assert (attempt.digest, attempt.input.data, str(attempt.state)) == ("o", {"old": 1}, "RUNNING")
    stage.end("b", error="broken")
    with pytest.raises(InvalidRequest, match="tasks\\[0\\]"):
        stage.rerun(run("b", input={"odd": 2}))
    stage.rerun(run("b", input={"old": 2}))
    assert [each.digest for each in stage.attempts("b")] == ["o", "o"]


@pytest.mark.parametrize(
    ("limit", "told"), [(4 << 20, "4 MiB"), (1_000_000, "1,000,000 bytes"), (1 << 19, "524,288 bytes")]
)
def test_a_limit_is_told_in_mebibytes_only_if_it_is_a_whole_number_of_them(limit: int, told: str) -> None:
    """Else in bytes, so that the message is exact."""
    assert str(TooLarge("the value", limit + 1, limit)) == f"the value has {limit + 1} bytes; the limit is {told}"


def test_a_message_to_go_on_with_items_that_go_on_already_is_superseded() -> None:
    """Each SliceDue says how many items had begun; one of an earlier moment changes nothing."""
    stage = Stage("version: '2.0'\nwf:\n  tasks:\n    each: {action: std.noop, with-items: 'i in [1, 2]'}\n")
    for begun in (1, 3):
        outcome = stage.tell(SliceDue(task=1, attempt=1, begun=begun))
        assert (outcome.verdict, outcome.changes) == (Verdict.SUPERSEDED, [])


def test_a_sub_workflow_whose_task_has_ended_is_superseded() -> None:
    """Decision 11: what it comes to after the timeout of its task changes nothing."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    below: {workflow: sub, timeout: 5}\n",
        others=("version: '2.0'\nsub:\n  tasks:\n    t: {action: std.noop}\n",),
    )
    child = stage.child()
    stage.world.run(until_s=6)
    assert (stage.standing()["below"], str(child.state)) == ("ERROR", "CANCELLING")
    (attempt,) = stage.attempts("below")
    outcome = stage.tell(
        ChildMoved(key=attempt.key, child_id=child.id, state=ExecutionState.CANCELLED, revision=child.revision + 1)
    )
    assert (outcome.verdict, outcome.changes, outcome.commands) == (Verdict.SUPERSEDED, [], [])


def test_a_result_that_is_not_kept_is_null() -> None:
    """`keep-result: false`: what follows sees no result, nor does it see one of what has none."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    a: {action: std.noop, keep-result: false, on-success: b}\n"
        "    b: {action: std.echo output=<% task(a).result %>}\n"
    )
    stage.end("a", "secret")
    (attempt,) = stage.attempts("b")
    assert attempt.input.data == {"output": None}


def test_tasks_without_an_execution_are_those_of_the_namespace() -> None:
    """`tasks()`: this execution's own, and those of all others."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    mine: {action: std.noop, publish: {all: <% tasks().select($.name) %>}}\n",
    )
    stage.world.define("version: '2.0'\nother:\n  tasks:\n    theirs: {action: std.noop}\n")
    stage.world.start("other")
    stage.end("mine")
    assert stage.task("mine").published["all"].data == ["mine", "theirs"]


def test_an_input_that_an_operation_gave_counts_when_tasks_begin_together() -> None:
    """R8: Orquesta evaluates what tasks will run before any of them begins; that is not in place of what was given."""
    stage = Stage(
        "version: 1.0\nname: wf\ntasks:\n"
        "  a: {action: std.echo, input: {output: own}, checkpoint: {name: here, when: before}}\n"
        "  b: {action: std.echo, input: {output: own}}\n"
    )
    stage.end("a")
    stage.end("b")
    stage.rerun(run("a", input={"output": "given"}), run("b"), stop_at=("here",))
    assert (str(stage.execution.state), stage.standing()) == ("PAUSED", {"a": "IDLE", "b": "IDLE"})
    stage.resume()
    inputs = [[one.input.data for one in stage.attempts(name)] for name in "ab"]
    assert inputs == [[{"output": "own"}, {"output": "given"}], [{"output": "own"}, {"output": "own"}]]
    stage.check()


@pytest.mark.parametrize(
    ("text", "stands"),
    [
        ("version: '2.0'\nwf:\n  tasks:\n    t: {action: sub, checkpoint: here}\n", []),
        ("version: 1.0\nname: wf\ntasks:\n  t: {action: sub, checkpoint: here}\n", ["here"]),
        ("version: 1.0\nname: wf\ntasks:\n  t: {action: <% 'sub' %>, checkpoint: here}\n", []),
    ],
    ids=("mistral", "orquesta", "orquesta-expression"),
)
def test_a_checkpoint_stands_before_what_is_known_to_run_a_sub_workflow(text: str, stands: list[str]) -> None:
    """C2, C25: in Orquesta that is an action with the name of a workflow, if it is no expression; in Mistral none."""
    world = World(player=lambda execution, attempt: HOLD)
    world.actions["sub"] = described("sub")
    world.define("version: 1.0\nname: sub\ntasks:\n  inner: {action: std.noop}\n")
    world.define(text)
    execution = world.start("wf")
    world.run(until_s=0)
    assert [entry.name for entry in execution.entries.values()] == stands


def test_an_action_that_is_not_described_as_safe_is_not_run_twice() -> None:
    """When its executor is lost after it has received it, it fails."""
    stage = Stage("version: '2.0'\nwf:\n  tasks:\n    a: {action: std.noop, on-success: b}\n    b: {action: p.act}\n")
    stage.world.actions["p.act"] = ActionDescription("p.act")
    stage.end("a")
    (attempt,) = stage.attempts("b")
    stage.tell(DeliveryLost(key=attempt.key, delivery=attempt.delivery, executor_id="e", received=True))
    assert stage.standing()["b"] == "ERROR"
    assert "not known to be safe" in stage.task("b").info


LEFT = """
version: 1.0
name: wf
tasks:
  each:
    with: <% [1, 2] %>
    action: std.noop
    next: [{when: <% failed() %>, do: noop}]
  other: {action: std.noop}
"""


def test_an_execution_is_not_paused_by_a_report_while_an_action_runs() -> None:
    """Decision 12: not even while it is an item of a task that has ended; then it is."""
    stage = Stage(LEFT)
    stage.end("each", outcome="paused", item=0)
    stage.end("each", error="broken", item=1)
    stage.end("each", outcome="running", item=0)
    stage.end("other", outcome="paused")
    assert (str(stage.execution.state), stage.standing()) == ("RUNNING", {"each": "ERROR", "other": "PAUSED"})
    stage.end("each", item=0)
    assert stage.execution.state == "PAUSED"
    stage.check()


def test_an_item_that_pauses_while_its_task_waits_for_a_retry_changes_nothing_of_it() -> None:
    """O4: the task has failed already, and its retry comes when it is due."""
    stage = Stage(
        LEFT.replace("action: std.noop\n    next", "retry: {delay: 60, count: 3}\n    action: std.noop\n    next")
    )
    stage.end("each", outcome="paused", item=0)
    stage.end("each", error="broken", item=1)
    task = stage.task("each")
    due_s = task.timing.due_s
    stage.world.now_s += 5
    for outcome in ("running", "paused"):
        stage.end("each", outcome=outcome, item=0)
        assert (str(task.state), task.timing.due_s) == ("RUNNING_DELAYED", due_s)
    stage.check()


def test_a_task_that_is_superseded_on_one_route_counts_on_the_other() -> None:
    """Decision 3: what expressions see of a task on a route is never its execution on another route."""
    stage = Stage(
        "version: 1.0\nname: wf\ntasks:\n  s: {action: std.noop, next: [{do: [a, b]}]}\n"
        "  a: {action: std.noop, next: [{do: t}]}\n  b: {action: std.noop, next: [{do: t}]}\n  t: {action: std.noop}\n"
    )
    for name in ("s", "a", "t", "b", "t"):
        stage.end(name)
    first, second = (stage.task("t", nth) for nth in (1, 2))
    assert (stage.execution.state, first.route != second.route) == ("SUCCESS", True)
    stage.rerun(run("a"))
    assert (bool(first.superseded_by), bool(second.superseded_by)) == (True, False)
    assert stage.execution.latest_on("t", first.route) is None
    assert stage.execution.latest_on("t", second.route) is second
    stage.end("a")
    again = stage.task("t", 3)
    assert stage.execution.latest_on("t", again.route) is again
    stage.check()


@pytest.mark.parametrize(
    "event",
    [
        TimerFired(task=1, timer=Timer.TIMEOUT, due_s=1_700_000_005.0),
        TimerFired(task=1, timer=Timer.WAIT_AFTER, due_s=1_700_000_060.0),
        TimerFired(task=0, timer=Timer.GO_ON, due_s=1_700_000_060.0),
    ],
    ids=lambda event: str(event.timer),
)
def test_a_timer_that_nobody_waits_for_is_superseded(event: TimerFired) -> None:
    """Decision 8: a task that waits for its retry waits for nothing else."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop, timeout: 5, retry: {count: 1, delay: 60}}\n"
    )
    stage.end("t", error="broken")
    assert stage.standing()["t"] == "RUNNING_DELAYED"
    outcome = stage.tell(event)
    assert (outcome.verdict, outcome.changes, outcome.commands) == (Verdict.SUPERSEDED, [], [])


def test_what_poisons_an_execution_that_has_ended_is_superseded() -> None:
    """Its end stays."""
    stage = Stage("version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop}\n")
    stage.end("t")
    outcome = stage.tell(Poisoned(reason="it crashes"))
    assert (outcome.verdict, outcome.changes, str(stage.execution.state)) == (Verdict.SUPERSEDED, [], "SUCCESS")


def test_a_revision_that_has_moved_says_whether_there_should_be_none() -> None:
    """Who creates is told that there is one already, who replaces which one there is."""
    assert str(RevisionMoved("definition", "wf", 0, 3)) == "definition 'wf' exists already, at revision 3"
    assert str(RevisionMoved("definition", "wf", 2, 3)) == "definition 'wf' is at revision 3, not at 2: read it again"


def test_an_orquesta_task_sees_its_own_end_before_it_is_final() -> None:
    """The condition of a retry sees the state that the task would have, and of others the one that they have."""
    condition = "<% task().status = failed and task(t).status = failed and task(other).status = running and "
    condition += "task_status(t) = failed and task_status(other) = running %>"
    stage = Stage(
        "version: 1.0\nname: wf\ntasks:\n  other: {action: std.noop}\n  t:\n    action: std.noop\n"
        f"    retry: {{when: {condition}, count: 1, delay: 60}}\n"
    )
    stage.end("t", error="broken")
    assert stage.standing() == {"other": "RUNNING", "t": "RUNNING_DELAYED"}


def test_a_variable_that_a_task_has_not_published_cannot_be_removed() -> None:
    """Decision 14: an edit that would have no effect is refused, and names the task."""
    stage = Stage("version: '2.0'\nwf:\n  tasks:\n    a: {action: std.noop, publish: {x: 1}}\n")
    stage.end("a")
    with pytest.raises(InvalidRequest, match="task 'a'"):
        stage.tell(ContextUpdated(task="a", removed=("y",)))
    stage.tell(ContextUpdated(task="a", removed=("x",)))
    assert stage.task("a").published == {}


def test_a_join_fails_as_soon_as_nothing_leads_to_it_any_more() -> None:
    """S8: also when a task in between is not selected, and while other tasks run."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    a: {action: std.noop, on-success: b, on-error: other}\n"
        "    b: {action: std.noop, on-success: meet}\n    c: {action: std.noop, on-success: meet}\n"
        "    other: {action: std.noop}\n    meet: {join: all, action: std.noop}\n"
    )
    stage.end("c")
    stage.end("a", error="broken")
    assert (stage.standing()["other"], stage.standing()["meet"]) == ("RUNNING", "ERROR")


def test_a_reverse_task_begins_once_all_that_it_requires_has_ended() -> None:
    """Also when some of that has not begun itself."""
    stage = Stage(
        "version: '2.0'\nwf:\n  type: reverse\n  tasks:\n    a: {action: std.noop}\n    x: {action: std.noop}\n"
        "    b: {action: std.noop, requires: [x]}\n    c: {action: std.noop, requires: [a, b]}\n",
        params={"task_name": "c"},
    )
    stage.end("a")
    assert stage.standing() == {"a": "SUCCESS", "x": "RUNNING"}
    stage.end("x")
    stage.end("b")
    assert stage.standing()["c"] == "RUNNING"


def test_errors_from_before_a_discard_stay_in_the_list() -> None:
    """Decision 24: the list of an Orquesta execution does not depend on what is kept of its history."""
    stage = Stage(
        "version: 1.0\nname: wf\ntasks:\n  a: {action: std.noop, next: [{when: <% failed() %>, do: b}]}\n"
        "  b: {action: std.noop, checkpoint: here, next: [{do: c}]}\n  c: {action: std.noop}\n"
    )
    stage.end("a", error="broken")
    stage.end("b")
    errors = stage.execution.errors
    stage.tell(DiscardRequested(name="here"))
    stage.check()
    read_back(stage)
    assert ([error.name for error in errors], stage.execution.errors) == (["a"], errors)


def test_a_branch_with_an_engine_command_ends_there_after_a_rerun_too() -> None:
    """Orquesta: `do: [meet, noop]` also ends the branch, so that the output has its variables when the join fails to
    begin. It stays so when a rerun fills the join again."""
    stage = Stage(
        "version: 1.0\nname: wf\noutput: [{x: <% ctx(x) %>}]\ntasks:\n"
        "  a: {action: std.noop, next: [{publish: [{x: 1}], do: [meet, noop]}]}\n"
        "  b: {action: std.noop, next: [{when: <% succeeded() %>, do: meet}]}\n"
        "  meet: {join: all, action: std.noop}\n  breaks: {action: std.noop}\n"
    )
    for name in ("a", "b", "meet"):
        stage.end(name)
    stage.end("breaks", error="broken")
    stage.rerun(run("b"))
    stage.end("b", error="broken again")
    assert stage.standing() == {"a": "SUCCESS", "b": "ERROR", "breaks": "ERROR", "meet": "WAITING"}
    assert stage.execution.output is not None
    assert stage.execution.output.data == {"x": 1}
    stage.check()
