"""Stories of the core: details of going back that no other story shows (decisions 17 to 19, 22, 23)."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage, run, skip
from tests.unit.workflow.stories.test_reverting import as_it_counts, revert, reverts
from tests.world import Outside

from dalsegno.workflow.checkpoints import preview
from dalsegno.workflow.commands import Send
from dalsegno.workflow.events import ChildMoved, DeliveryLost, ForcedEnd, GoToRequested, RerunRequested
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.outside import Given

JOIN = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-success: meet}
    b: {action: std.noop, on-success: meet}
    c: {action: std.noop, on-success: meet}
    mark: {action: std.noop, checkpoint: here}
    meet: {join: all, action: std.noop}
"""


def test_a_join_forgets_who_arrived_after_the_entry() -> None:
    """C16, decision 19: who has to run again has to arrive again, before the join begins."""
    stage = Stage(JOIN)
    stage.end("a")
    stage.end("mark")
    stage.end("b")
    stage.go_to("here", resumes=True)
    stage.end("c")
    arrivals = stage.task("meet").arrivals
    assert (stage.standing()["meet"], arrivals.arrived) == ("WAITING", {"a"}), "c has run on while going back"
    stage.end("c")
    assert (stage.standing()["meet"], arrivals.arrived, stage.standing()["b"]) == ("WAITING", {"a", "c"}, "RUNNING")
    stage.end("b")
    assert stage.standing()["meet"] == "RUNNING"
    stage.check()


def test_what_a_join_that_had_begun_missed_is_forgotten() -> None:
    """Decisions 3 and 19: a late arrival that came after the entry is none at the entry."""
    stage = Stage(JOIN.replace("join: all", "join: one"))
    stage.end("a")
    stage.end("mark")
    stage.end("b")
    assert stage.task("meet").arrivals.late == {2: (-1,)}
    stage.go_to("here")
    stage.end("c")
    stage.end("meet")
    assert (stage.execution.state, stage.task("meet").arrivals.late) == ("PAUSED", {})
    stage.check()


@pytest.mark.parametrize("is_paused", [False, True])
@pytest.mark.parametrize("outcome", ["lost", "delegated", "paused"])
def test_what_does_not_end_by_itself_before_a_revert_is_cancelled(outcome: str, is_paused: bool) -> None:
    """Decision 19: also while the revert is paused. Nothing of it is handed out again."""
    stage = Stage("version: '2.0'\nwf: {tasks: {busy: {action: std.noop, safe-rerun: true}}}")
    execution = stage.execution
    stage.go_to("start")
    if is_paused:
        stage.pause()
    assert execution.state == ("PAUSING" if is_paused else "REVERTING")
    if outcome == "lost":
        stage.tell(DeliveryLost(at_s=stage.world.now_s, key=(1, 0, 1), delivery=1, executor_id="ex"))
    else:
        stage.end("busy", outcome=outcome)
    if is_paused:
        stage.resume()
    (attempt,) = execution.attempts.values()
    assert (execution.state, execution.info, attempt.state) == ("PAUSED", "reverted to checkpoint 'start'", "CANCELLED")
    assert "revert" in attempt.error or "going back" in attempt.error
    stage.check()


WAITS = """
version: '2.0'
wf:
  tasks:
    a: {{action: std.noop, checkpoint: here, on-success: [w, busy]}}
    w: {{action: std.noop, revert: std.noop, {policy}}}
    busy: {{action: std.noop}}
"""


@pytest.mark.parametrize(
    ("policy", "error", "state", "reverted"),
    [
        ("wait-after: 60", "", "SUCCESS", ["w"]),
        ("wait-after: 60", "broken", "ERROR", []),
        ("'retry': {count: 3, delay: 60}", "broken", "ERROR", []),
    ],
)
def test_a_task_that_waits_after_its_action_ends_as_the_action_did(
    policy: str, error: str, state: str, reverted: list[str]
) -> None:
    """C28, decision 19: the rest of its waiting is left out; what succeeded is reverted."""
    stage = Stage(WAITS.format(policy=policy))
    stage.end("a")
    stage.end("w", error=error)
    assert stage.standing()["w"] == "RUNNING_DELAYED"
    stage.go_to("here")
    assert stage.standing()["w"] == state
    stage.end("busy")
    assert [name for name, _, _ in reverts(stage)] == reverted
    for name in reverted:
        revert(stage, name)
    assert (stage.execution.state, stage.stands_at()) == ("PAUSED", "here")
    stage.check()


def test_a_task_that_has_not_begun_its_action_is_not_ended() -> None:
    """Decision 19: it waited for its time, and has done nothing that could be reverted."""
    stage = Stage(WAITS.format(policy="wait-before: 60"))
    stage.end("a")
    stage.go_to("here")
    assert stage.standing()["w"] == "RUNNING_DELAYED"
    stage.end("busy")
    assert (reverts(stage), stage.execution.state, stage.standing()) == ([], "PAUSED", {"a": "SUCCESS"})
    stage.check()


def test_a_task_that_waits_since_before_the_entry_waits_on() -> None:
    """Decision 19: nothing of it came after the entry, so nothing of it is ended or reverted."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    w: {action: std.noop, wait-after: 60, revert: std.noop}\n"
        "    a: {action: std.noop, checkpoint: here, on-success: busy}\n    busy: {action: std.noop}\n"
    )
    stage.end("w")
    stage.end("a")
    stage.go_to("here")
    assert (stage.execution.state, stage.standing()["w"]) == ("REVERTING", "RUNNING_DELAYED")
    stage.end("busy")
    assert (stage.execution.state, reverts(stage), stage.standing()["w"]) == ("PAUSED", [], "RUNNING_DELAYED")
    stage.check()


SUB = "version: '2.0'\nsub:\n  tasks:\n    t: {action: std.noop, revert: std.noop}\n"
CHILDREN = """
version: '2.0'
wf:
  tasks:
    each:
      with-items: i in [1, 2]
      workflow: sub
      revert: {action: std.echo, input: {output: <% $.i %>}, concurrency: 2}
"""


def undo(stage: Stage, child: Execution, *, error: str = "") -> None:
    """End the revert action that runs in a sub-workflow."""
    original, stage.execution = stage.execution, child
    revert(stage, "t", error=error)
    stage.execution = original


def test_sub_workflows_that_are_reverted_at_once_report_in_any_order() -> None:
    """Decision 17: the revert of each item goes on after its own sub-workflow, whichever comes back first."""
    stage = Stage(CHILDREN, others=(SUB,))
    first, second = stage.world.children(stage.execution)
    stage.end("t", on=first)
    stage.end("t", on=second)
    stage.go_to("start")
    assert [first.state, second.state] == ["REVERTING", "REVERTING"]
    undo(stage, first)
    assert [given for _, _, given in reverts(stage)] == [{"output": 1}]
    undo(stage, second)
    assert [given for _, _, given in reverts(stage)] == [{"output": 1}, {"output": 2}]
    revert(stage, "each", item=0)
    revert(stage, "each", item=1)
    assert stage.execution.state == "PAUSED"
    stage.check()


def test_the_ends_of_one_item_are_reverted_one_after_the_other() -> None:
    """Decision 17: a sub-workflow that was run again has ended twice for its item, and both ends ask for its revert."""
    stage = Stage(CHILDREN.replace("concurrency: 2", "concurrency: 2, when: always"), others=(SUB,))
    first, second = stage.world.children(stage.execution)
    stage.end("t", on=second)
    stage.end("t", error="broken", on=first)
    stage.rerun(on=first)
    stage.end("t", on=first)
    stage.go_to("start")
    undo(stage, first)
    revert(stage, "each", item=0)
    revert(stage, "each", item=0)
    undo(stage, second)
    revert(stage, "each", item=1)
    assert stage.execution.state == "PAUSED"
    stage.check()


@pytest.mark.parametrize(
    ("action", "why"),
    [("p.nobody", "action 'p.nobody' is not known"), ("std.echo", "has the wrong input: missing output")],
)
def test_a_revert_action_that_cannot_be_called_has_failed(action: str, why: str) -> None:
    """C29: the execution is REVERT_ERROR and says why; an operator may skip it."""
    stage = Stage(f"version: '2.0'\nwf:\n  tasks:\n    a: {{action: std.noop, revert: {action}}}\n")
    stage.end("a")
    stage.go_to("start")
    assert (stage.execution.state, stage.standing()["a"]) == ("REVERT_ERROR", "REVERT_ERROR")
    assert "cannot call the revert action of task 'a': " in stage.execution.info
    assert why in stage.execution.info
    stage.resume(skip("a", None))
    assert (stage.execution.state, stage.standing()["a"]) == ("PAUSED", "IDLE")
    stage.check()


def test_a_sub_workflow_that_has_not_begun_is_reverted_at_once() -> None:
    """Decision 17: when the order overtakes its start, there is nothing to undo, and it does not begin any more."""
    stage = Stage("version: '2.0'\nwf:\n  tasks:\n    below: {workflow: sub}\n", others=(SUB,))
    world = stage.world
    execution = world.start("wf")
    child = world.children(execution)[-1]
    assert child.state == "IDLE"
    for order in ("cascaded", "again"):
        world.tell(child.id, GoToRequested(at_s=world.now_s, name="start", cascaded=True, comment=order))
        assert (child.state, child.info, child.tasks) == ("REVERTED", "nothing had begun", {})
    world.run(until_s=0)
    assert (child.state, child.tasks) == ("REVERTED", {})
    stage.check()


def test_a_sub_workflow_that_has_been_reverted_tells_its_parent_again() -> None:
    """Decision 17: a parent that asks once more gets its answer, with a newer revision."""
    stage = Stage("version: '2.0'\nwf:\n  tasks:\n    below: {workflow: sub}\n", others=(SUB,))
    child = stage.child()
    stage.end("t", on=child)
    stage.go_to("start")
    undo(stage, child)
    assert (child.state, stage.execution.state) == ("REVERTED", "PAUSED")
    before = child.revision
    outcome = stage.world.tell(child.id, GoToRequested(at_s=stage.world.now_s, name="start", cascaded=True))
    told = [command.event for command in outcome.commands if isinstance(command, Send)]
    assert [(event.state, event.revision > before) for event in told if isinstance(event, ChildMoved)] == [
        ("REVERTED", True)
    ]
    stage.check()


PLANNED = """
version: '2.0'
wf:
  tasks:
    runs: {action: std.noop, revert: {action: std.echo, input: {output: <% task().result %>}}, on-success: named}
    named: {action: std.noop, revert: p.undo, on-success: plain}
    plain: {action: std.noop, checkpoint: here, on-success: below}
    below: {workflow: sub, on-success: both}
    both: {workflow: sub, revert: std.noop, on-success: each}
    each: {action: std.noop, with-items: "i in [7, 8]", revert: std.echo output=<% $.i %>, on-success: odd}
    odd: {action: std.noop, revert: std.echo}
"""
UNDO = "version: '2.0'\np.undo: {base: std.noop}\n"


def plans(stage: Stage, entry: int = 0) -> list[tuple[object, ...]]:
    """What going back to an entry, or to the start, would undo: task, item, whether its sub-workflow is reverted, and
    the revert action with its input, or why it cannot be called."""
    execution, found = stage.execution, list[tuple[object, ...]]()
    workflow = stage.world.compiled[execution.created.definition_id]
    event, given = GoToRequested(at_s=stage.world.now_s, name="start"), Given(0.0, ())
    for end in preview.ends_behind(execution, entry or execution.start_sequence):
        place = execution.tasks[end.task].name, end.item
        plan = preview.planned(workflow, execution, event, Outside(stage.world), given, end)
        if plan is None:
            found.append((*place, "not by itself"))
        else:
            given_to = plan.fault if plan.input is None else plan.input.data
            found.append((*place, plan.child_id == stage_child(stage, end.task), plan.action, given_to))
    return found


def stage_child(stage: Stage, number: int) -> str:
    """The sub-workflow of a task."""
    attempt = stage.execution.current(stage.execution.tasks[number])
    return "none" if attempt is None or not attempt.child_id else attempt.child_id


def test_a_dry_run_says_how_each_end_would_be_undone() -> None:
    """Decision 23: newest end first, with the action and its input, or why it could not be called; items each by
    itself; during a revert only what is left."""
    stage = Stage(PLANNED, others=(SUB, UNDO))
    for name in ("runs", "named", "plain"):
        stage.end(name, "x")
    for _ in range(2):
        stage.end("t", on=stage.child())
    stage.end("each", item=1)
    stage.end("each", item=0)
    stage.end("odd")
    assert stage.execution.state == "SUCCESS"
    ends = [
        ("odd", -1, False, "", "action 'std.echo' has the wrong input: missing output"),
        ("each", -1, "not by itself"),
        ("each", 0, False, "std.echo", {"output": 7}),
        ("each", 1, False, "std.echo", {"output": 8}),
        ("both", -1, True, "std.noop", {}),
        ("below", -1, True, "", ""),
        ("plain", -1, False, "", ""),
        ("named", -1, False, "p.undo", {}),
        ("runs", -1, False, "std.echo", {"output": "x"}),
    ]
    assert plans(stage) == ends
    assert plans(stage, next(iter(stage.execution.entries))) == ends[:6]
    stage.go_to("start")
    stage.resume(skip("odd", None))
    assert plans(stage) == ends[3:], "the revert of item 0 is under way"


def test_a_dry_run_does_not_name_an_attempt_that_was_retried() -> None:
    """Decision 17: its retry is what has to be undone."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n"
        "    each: {action: std.noop, with-items: 'i in [7]', retry: {count: 1, delay: 0}}\n"
    )
    stage.end("each", error="broken")
    stage.world.run(until_s=1)
    stage.end("each")
    assert stage.execution.state == "SUCCESS"
    assert plans(stage) == [
        ("each", -1, "not by itself"),
        ("each", 0, False, "", ""),
        ("each", 0, "not by itself"),
    ]


def test_items_that_have_ended_since_the_entry_run_again_within_their_concurrency() -> None:
    """C16, decision 19: those that ran at the entry and those that had not begun."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    each: {action: std.noop, with-items: 'i in [1, 2, 3]', concurrency: 1}\n"
        "    mark: {action: std.noop, checkpoint: here}\n"
    )
    stage.end("mark")
    stage.end("each", item=0)
    stage.go_to("here", resumes=True)
    stage.end("each", item=1)
    for item in range(3):
        running = [key[1] for (_, key) in stage.world.held if stage.execution.attempts[key].is_active]
        assert (stage.standing()["each"], running) == ("RUNNING", [item])
        stage.end("each", item=item)
    assert (stage.execution.state, stage.task("each").progress.ended_count) == ("SUCCESS", 3)
    stage.check()


def test_what_a_rerun_has_superseded_since_the_entry_counts_again() -> None:
    """C16, decision 19: the rerun has not happened at the entry."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    a: {action: std.noop, publish: {x: <% task().result %>}, on-success: b}\n"
        "    b: {action: std.noop, on-success: c}\n    c: {action: std.noop, checkpoint: here}\n",
        stop_at=("here",),
    )
    for name in "abc":
        stage.end(name, 1)
    at_entry = as_it_counts(stage.execution)
    stage.resume()
    stage.rerun(run("a"))
    assert [bool(stage.task(name).superseded_by) for name in "abc"] == [False, True, True]
    stage.go_to("here")
    stage.end("a", 2)
    assert (stage.execution.state, stage.stands_at()) == ("PAUSED", "here")
    assert as_it_counts(stage.execution) == at_entry
    stage.check()


@pytest.mark.parametrize(("late_s", "state"), [(-1, "PAUSED"), (0, "ERROR")])
def test_a_deadline_has_passed_when_its_second_has_come(late_s: int, state: str) -> None:
    """Decision 19: the arrival at the entry looks whether it has, while the execution went back."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    a: {action: std.noop, revert: std.noop}\n", deadline_s=1_700_000_010.0
    )
    stage.end("a")
    stage.go_to("start")
    stage.world.now_s = 1_700_000_010.0 + late_s
    stage.world.run(until_s=0)
    revert(stage, "a")
    assert stage.execution.state == state


def test_a_pause_on_the_way_back_is_handed_to_the_sub_workflows_that_are_reverted() -> None:
    """Decision 23: they bring what runs to its end, and revert nothing more until the resume."""
    stage = Stage(CHILDREN, others=(SUB,))
    first, second = stage.world.children(stage.execution)
    stage.end("t", on=first)
    stage.end("t", on=second)
    stage.go_to("start")
    stage.pause()
    assert [first.state, second.state] == ["PAUSING", "PAUSING"]
    undo(stage, first)
    undo(stage, second)
    assert (first.state, second.state, reverts(stage)) == ("PAUSED", "PAUSED", [])
    stage.resume()
    assert [first.state, second.state] == ["REVERTED", "REVERTED"]
    assert len(reverts(stage)) == 2
    stage.check()


def test_what_no_executor_has_had_is_not_reverted() -> None:
    """Decision 17: an action that was cancelled before it was handed out has done nothing, even for `when: always`."""
    text = "version: '2.0'\nwf:\n  tasks:\n    a: {action: std.noop, revert: {action: std.noop, when: always}}\n"
    stage = Stage(text)
    for is_handed_out in (False, True):
        stage.execution = stage.world.start("wf")
        if is_handed_out:
            stage.world.run(until_s=0)
        stage.cancel()
        if is_handed_out:
            stage.end("a", outcome="cancelled")
        assert (stage.execution.state, stage.standing()["a"]) == ("CANCELLED", "CANCELLED")
        stage.go_to("start")
        assert len(reverts(stage)) == is_handed_out


BELOW = "version: '2.0'\nwf:\n  tasks:\n    below: {workflow: sub}\n"


def reverting() -> tuple[Stage, Execution]:
    """An execution that goes back, and its sub-workflow while that is reverted."""
    stage = Stage(BELOW, others=(SUB,))
    child = stage.child()
    stage.end("t", on=child)
    stage.go_to("start")
    assert (stage.execution.state, child.state) == ("REVERTING", "REVERTING")
    return stage, child


def test_a_sub_workflow_that_is_ended_while_it_is_reverted_is_not_reverted() -> None:
    """C29: its parent does not wait for it; resumed, it has it reverted again."""
    stage, child = reverting()
    stage.cancel(on=child, terminate=ForcedEnd.CANCELLED, message="enough")
    assert (stage.execution.state, child.state) == ("REVERT_ERROR", "CANCELLED")
    assert "below: the sub-workflow could not be reverted: enough" in stage.execution.info
    stage.resume()
    undo(stage, child)
    assert (stage.execution.state, child.state) == ("PAUSED", "REVERTED")
    stage.check()


def test_a_sub_workflow_that_is_led_elsewhere_while_it_is_reverted_is_not_reverted() -> None:
    """C29: when it comes to another end, its parent does not wait for it."""
    stage, child = reverting()
    stage.go_to("start", on=child, resumes=True)
    undo(stage, child)
    stage.end("t", on=child)
    assert (stage.execution.state, child.state) == ("REVERT_ERROR", "SUCCESS")
    assert "below: the sub-workflow could not be reverted: it has ended SUCCESS" in stage.execution.info
    stage.check()


def test_an_end_from_before_the_order_to_go_back_does_not_count() -> None:
    """Decision 17: a sub-workflow that was run again may have ended again before the order of its parent arrives."""
    stage = Stage(BELOW, others=(SUB,))
    world, child = stage.world, stage.child()
    stage.end("t", error="broken", on=child)
    world.tell(child.id, RerunRequested(at_s=world.now_s))
    again = world._mail.pop()
    assert isinstance(again[1], ChildMoved)
    world.tell(stage.execution.id, GoToRequested(at_s=world.now_s, name="start"))
    order = world._mail.pop()
    assert isinstance(order[1], GoToRequested)
    stage.end("t", on=child)
    assert (stage.execution.state, child.state) == ("REVERTING", "SUCCESS")
    stage.tell(order[1], on=child)
    undo(stage, child)
    assert (stage.execution.state, child.state) == ("PAUSED", "REVERTED")
    stage.check()


def test_another_target_has_a_paused_way_back_go_on_in_the_sub_workflows_too() -> None:
    """Decision 23: whoever sends it elsewhere while it is paused has everything go on that the pause had stopped."""
    stage, child = reverting()
    stage.pause()
    assert (stage.execution.state, child.state) == ("PAUSED", "PAUSING")
    stage.go_to("start", resumes=True)
    assert (stage.execution.state, child.state) == ("REVERTING", "REVERTING")
    undo(stage, child)
    assert stage.execution.state == "RUNNING"
    stage.check()
