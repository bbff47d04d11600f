"""Stories of the core: operations where two things meet: skips, children, reports, delays and what comes after."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage, run, skip

from dalsegno.workflow.events import ChildChoice, ContextUpdated, ForcedEnd, PauseRequested
from dalsegno.workflow.refusals import InvalidRequest
from dalsegno.workflow.value import Value

REVERSE = """
version: '2.0'
wf:
  type: reverse
  output: {seen: <% task(d).result %>}
  tasks:
    a: {action: std.noop}
    b: {action: std.noop, requires: a}
    c: {action: std.noop, requires: a}
    d: {action: std.echo output=<% task(b).result %>, requires: [b, c]}
"""
TREE = """
version: '2.0'
wf:
  tasks:
    call: {workflow: sub, on-success: after}
    after: {action: std.noop}
sub:
  tasks:
    inner: {action: std.echo output=<% env().get(word) %>}
"""
ITEMS = """
version: '2.0'
wf:
  tasks:
    each:
      with-items: i in [1, 2]
      action: std.echo output=<% $.i %>
"""


def test_what_requires_a_rerun_task_runs_again_whichever_came_last() -> None:
    """O21, O36, decision 3: backwards too everything after the rerun task is superseded and follows again."""
    for name in ("b", "c"):
        stage = Stage(REVERSE, params={"task_name": "d"})
        for each in "abc":
            stage.end(each, f"{each}1")
        stage.end("d", 1)
        assert stage.execution.state == "SUCCESS"
        stage.rerun(run(name))
        assert stage.task("d").superseded_by == "workflow-rerun"
        stage.end(name, f"{name}2")
        assert stage.attempts("d", 2)[0].input.data == {"output": "b2" if name == "b" else "b1"}
        stage.end("d", 2)
        assert (stage.execution.state, stage.output()) == ("SUCCESS", {"seen": 2})
        stage.check()


def test_what_stood_in_for_a_skipped_task_is_never_run_again() -> None:
    """R7, R17, O25: a rerun that repeats what the task ran repeats its own action, not the std.noop of the skip."""
    stage = Stage(ITEMS)
    stage.end("each", 1, item=0)
    stage.end("each", error="broken", item=1)
    stage.resume(skip("each", ["given"]))
    assert stage.execution.state == "SUCCESS"
    stage.rerun(run("each", reset=False))
    for item in (0, 1):
        assert (stage.attempts("each", item=item)[-1].action, stage.attempts("each", item=item)[-1].state) == (
            "std.echo",
            "RUNNING",
        )
    stage.check()


def test_what_stood_in_for_a_skipped_task_is_no_item_of_it() -> None:
    """R13, R17, O25: of a task that was skipped before its items had begun all items run when it is rerun."""
    stage = Stage(ITEMS.replace("[1, 2]", "[0, 1]").replace("<% $.i %>", "<% 1 / $.i %>"))
    stage.resume(skip("each", None))
    assert (stage.execution.state, stage.execution.result(stage.task("each"))) == ("SUCCESS", [])
    stage.tell(ContextUpdated(at_s=stage.world.now_s, values={"any": Value(data=1)}))
    stage.rerun(run("each", items={1: None}, reset=None))
    assert [key[1] for key, each in stage.execution.attempts.items() if each.state == "RUNNING"] == [1]
    stage.end("each", "b", item=1)
    assert (stage.execution.state, stage.task("each").state) == ("ERROR", "ERROR"), "the first cannot begin"
    stage.check()


def test_the_child_of_a_skipped_task_speaks_no_more() -> None:
    """Decisions 4 and 11: whatever output the skip was given, a rerun inside of the old child leaves the parent be."""
    for output in (None, "given"):
        stage = Stage(TREE)
        child = stage.child()
        stage.end("inner", error="broken", on=child)
        stage.resume(skip("call", output))
        stage.end("after")
        revision = stage.execution.revision
        stage.rerun(run("inner"), on=child)
        stage.end("inner", 1, on=child)
        assert child.state == "SUCCESS"
        assert (stage.execution.state, stage.execution.revision) == ("SUCCESS", revision)
        assert stage.standing() == {"call": "SKIPPED", "after": "SUCCESS"}


def test_a_skipped_child_may_be_taken_up_again() -> None:
    """Decision 11: `child: RERUN_FAILED` of a task that was skipped with null finds the child that it had run."""
    stage = Stage(TREE)
    child = stage.child()
    stage.end("inner", error="broken", on=child)
    stage.resume(skip("call", None))
    stage.end("after")
    stage.rerun(run("call", child=ChildChoice.RERUN_FAILED))
    assert stage.attempts("call")[-1].child_id == child.id
    stage.end("inner", 1, on=child)
    stage.end("after")
    assert (child.state, stage.execution.state) == ("SUCCESS", "SUCCESS")
    stage.check()


def test_new_variables_reach_the_existing_child() -> None:
    """R8, decision 11: what is merged into the environment is seen by what runs again inside of the existing child."""
    for ask in ("resume", "rerun"):
        stage = Stage(TREE, environment={"word": "old"})
        child = stage.child()
        stage.end("inner", error="broken", on=child)
        getattr(stage, ask)(run("call", child=ChildChoice.RERUN_FAILED), environment=Value(data={"word": "new"}))
        newest = max(child.attempts.values(), key=lambda each: each.key)
        assert (newest.input.data, newest.comment) == ({"output": "new"}, "launched by workflow-rerun")


PAUSES = {
    "mistral": """
version: '2.0'
wf:
  tasks:
    asks: {action: std.noop, on-success: after}
    works: {action: std.noop}
    after: {action: std.noop}
""",
    "orquesta": """
version: 1.0
name: wf
tasks:
  asks: {action: std.noop, next: [{do: after}]}
  works: {action: std.noop}
  after: {action: std.noop}
""",
}


def test_a_pause_that_somebody_asked_for_is_not_undone_by_a_report() -> None:
    """O4, decision 12: after a pause by report somebody asks for one: the action's next report starts nothing."""
    for language, text in PAUSES.items():
        for is_at_rest in (False, True):
            stage = Stage(text)
            if is_at_rest:
                stage.end("works")
            stage.end("asks", outcome="paused")
            stage.pause(comment="wait for me")
            if not is_at_rest:
                stage.end("works")
            assert (stage.execution.state, stage.execution.info) == ("PAUSED", "wait for me"), language
            assert stage.pause(comment="again").verdict == "duplicate"
            stage.end("asks", outcome="running")
            stage.end("asks")
            assert stage.execution.state == "PAUSED", language
            assert stage.standing()["after"] == "IDLE", language
            stage.resume()
            assert stage.standing()["after"] == "RUNNING", language
            stage.check()


def test_what_becomes_a_delegate_while_cancelling_is_waited_for() -> None:
    """Decision 6: a cancel with WAIT waits for what becomes a delegate only now too; without, that is cancelled."""
    for waits, states in ((True, ("CANCELLING", "RUNNING")), (False, ("CANCELLED", "CANCELLED"))):
        stage = Stage(PAUSES["mistral"])
        stage.end("works")
        stage.cancel(waits_for_delegates=waits)
        stage.end("asks", outcome="delegated")
        assert (stage.execution.state, stage.task("asks").state) == states
        if waits:
            stage.end("asks", "late")
            assert (stage.execution.state, stage.task("asks").state) == ("CANCELLED", "SUCCESS")
        stage.check()


def test_what_a_failure_held_back_goes_on_however_late_the_rerun() -> None:
    """Decision 3, S9: a delay that comes due in an execution that has failed waits for the rerun, and then starts."""
    text = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-error: fail}
    b: {action: std.noop, wait-before: 10}
    c: {action: std.noop, retry: {count: 3, delay: 10}}
"""
    for late_s in (1, 20):
        stage = Stage(text)
        stage.end("c", error="broken")
        stage.end("a", error="broken")
        assert stage.execution.state == "ERROR"
        stage.world.run(until_s=late_s)
        stage.world.now_s += 1
        assert stage.standing() == {"a": "ERROR", "b": "RUNNING_DELAYED", "c": "RUNNING_DELAYED"}
        stage.rerun()
        stage.world.run(until_s=20)
        assert stage.standing() == {"a": "RUNNING", "b": "RUNNING", "c": "RUNNING"}
        for name in "abc":
            stage.end(name)
        assert stage.execution.state == "SUCCESS"
        stage.check()


MANY = """
version: 1.0
name: wf
tasks:
  many: {with: i in <% ctx().list %>, action: sub, next: [{when: <% succeeded() %>, do: never}]}
  beside: {action: std.noop, next: [{do: after}]}
  after: {action: std.noop}
  never: {action: std.noop}
vars: [{list: [1, 2]}]
"""


def test_a_cancel_among_sub_workflows_stays_where_it_was_asked() -> None:
    """O8, O9, decision 12: of a with-items task over sub-workflows one ends; its peers and its parent continue."""
    stage = Stage(MANY, others=("version: 1.0\nname: sub\ntasks:\n  inner: {action: std.noop}\n",))
    first, second = stage.world.children(stage.execution)
    stage.cancel(on=first)
    stage.end("inner", on=first)
    assert (first.state, second.state, stage.execution.state) == ("CANCELLED", "RUNNING", "RUNNING")
    stage.end("beside")
    stage.end("inner", on=second)
    assert (second.state, stage.standing()) == (
        "SUCCESS",
        {"many": "CANCELLED", "beside": "SUCCESS", "after": "RUNNING"},
    )
    stage.end("after")
    assert (stage.execution.state, stage.execution.info) == ("CANCELLED", "Cancelled tasks: many")
    stage.check()


def test_what_holds_a_task_back_holds_it_back_again() -> None:
    """R7, O20, R22: wait-before and pause-before come before each attempt that an operation launches."""
    text = """
version: '2.0'
wf:
  tasks:
    slow: {action: std.noop, wait-before: 10, on-error: noop}
    held: {action: std.noop, pause-before: true}
"""
    stage = Stage(text)
    stage.resume()
    stage.world.run(until_s=10)
    stage.end("slow", error="broken")
    stage.end("held", error="broken")
    stage.rerun(run("slow"), run("held"), comment="once more")
    assert (stage.execution.state, stage.standing()) == ("PAUSED", {"slow": "RUNNING_DELAYED", "held": "IDLE"})
    stage.resume()
    assert stage.standing() == {"slow": "RUNNING_DELAYED", "held": "RUNNING"}
    stage.world.run(until_s=10)
    assert [stage.attempts(name)[-1].comment for name in ("slow", "held")] == [
        "launched by workflow-rerun: once more"
    ] * 2
    for name in ("slow", "held"):
        assert len(stage.attempts(name)) == 2
        stage.end(name)
    assert stage.execution.state == "SUCCESS"
    stage.check()


def test_a_timeout_that_a_pause_swallowed_still_comes() -> None:
    """Decision 8: it does not run while PAUSED, but continues when the execution is cancelled with WAIT, or resumed."""
    text = "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop, timeout: 5}\n"
    for is_cancelled in (True, False):
        stage = Stage(text)
        began_s = stage.world.now_s
        stage.end("t", outcome="delegated")
        stage.world.now_s += 4 if is_cancelled else 5
        stage.pause()
        stage.world.run(until_s=10)
        assert (stage.execution.state, stage.task("t").state) == ("PAUSED", "RUNNING")
        if is_cancelled:
            stage.world.now_s = began_s + 14
            stage.cancel(waits_for_delegates=True)
            assert (stage.execution.state, stage.task("t").timing.timeout_due_s) == ("CANCELLING", began_s + 15)
        else:
            stage.resume()
        stage.world.run(until_s=1)
        assert (stage.task("t").state, stage.execution.state) == ("ERROR", "CANCELLED" if is_cancelled else "ERROR")
        stage.check()


def test_what_is_overdue_starts_in_the_order_in_which_it_came_due() -> None:
    """Decision 8: at resume what came due first starts first, not what was created first."""
    text = """
version: '2.0'
wf:
  tasks:
    late: {action: std.noop, wait-before: 20}
    early: {action: std.noop, wait-before: 10}
"""
    stage = Stage(text)
    stage.pause()
    stage.world.run(until_s=30)
    assert stage.standing() == {"late": "RUNNING_DELAYED", "early": "RUNNING_DELAYED"}
    stage.world.now_s += 30
    stage.resume()
    begun = list(stage.execution.attempts)
    assert [stage.execution.tasks[key[0]].name for key in begun] == ["early", "late"]


FAILS = {
    "mistral": """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-error: fail}
    b: {action: std.noop}
""",
    "orquesta": """
version: 1.0
name: wf
tasks:
  a: {action: std.noop, next: [{when: <% failed() %>, do: fail}]}
  b: {action: std.noop}
""",
}


def test_a_failure_that_ended_in_fail_is_one() -> None:
    """R27, decision 1: `fail` handles nothing: a rerun of what failed takes the task, a rerun of another no SUCCESS."""
    for language, text in FAILS.items():
        stage = Stage(text)
        stage.end("b")
        stage.end("a", error="broken")
        assert stage.execution.state == "ERROR", language
        stage.rerun(run("b"))
        stage.end("b")
        assert stage.execution.state == "ERROR", language
        stage.rerun()
        assert stage.standing() == {"a": "RUNNING", "b": "SUCCESS"}, language
        stage.end("a")
        assert stage.execution.state == "SUCCESS", language
        stage.check()


def test_a_pause_that_overtakes_the_start_of_a_child() -> None:
    """O6: the child is told to pause before it has begun; once it has it is told again, so that it does not run on."""
    stage = Stage(TREE)
    stage.end("inner", on=stage.child())
    stage.end("after")
    execution = stage.execution = stage.world.start("wf")
    stage.world.tell(execution.id, PauseRequested(at_s=stage.world.now_s))
    stage.world._mail.reverse()
    stage.world.run(until_s=0)
    assert (execution.state, stage.child().state) == ("PAUSED", "PAUSED")
    stage.resume()
    assert (execution.state, stage.child().state) == ("RUNNING", "RUNNING")
    stage.check()


def test_who_had_a_child_run_again_stands_with_its_ancestors() -> None:
    """R22, R23, decisions 2 and 11: their attempts and journals name who it was; the comment is the child's only."""
    stage = Stage(TREE)
    child = stage.child()
    stage.end("inner", error="broken", on=child)
    stage.rerun(run("inner"), on=child, comment="mended")
    again = stage.attempts("call")[-1]
    assert (again.state, again.actor, again.comment) == ("RUNNING", "ann", "")
    assert [each.comment for each in child.attempts.values()] == ["", "launched by workflow-rerun: mended"]


MEETS = {
    "mistral": """
version: '2.0'
wf:
  output: {l: <% $.get(l) %>, r: <% $.get(r) %>}
  tasks:
    left: {action: std.noop, publish: {l: <% task().result %>}, on-success: meet}
    right: {action: std.noop, publish: {r: <% task().result %>}, on-success: meet}
    meet: {join: all, action: std.noop}
""",
    "orquesta": """
version: 1.0
name: wf
vars: [{l: null}, {r: null}]
output: [{l: <% ctx().l %>}, {r: <% ctx().r %>}]
tasks:
  left: {action: std.noop, next: [{when: <% succeeded() %>, publish: [{l: <% result() %>}], do: meet}]}
  right: {action: std.noop, next: [{when: <% succeeded() %>, publish: [{r: <% result() %>}], do: meet}]}
  meet: {join: all, action: std.noop}
""",
}


def test_a_join_that_waited_when_the_execution_was_ended_by_force() -> None:
    """Decisions 3 and 7, O29, O32: the join still waits, with what had arrived, for the branch that is run again."""
    for language, text in MEETS.items():
        for ask in ("resume", "rerun", "failed"):
            stage = Stage(text)
            stage.end("left", "x")
            stage.cancel(terminate=ForcedEnd.ERROR)
            assert stage.standing() == {"left": "SUCCESS", "right": "CANCELLED", "meet": "WAITING"}, language
            if language == "mistral":
                assert stage.output() == {"result": "terminated: ERROR", "l": "x"}
            stage.rerun() if ask == "failed" else getattr(stage, ask)(run("right"))
            assert stage.standing() == {"left": "SUCCESS", "right": "RUNNING", "meet": "WAITING"}, (language, ask)
            stage.end("right", "y")
            stage.end("meet")
            assert (stage.execution.state, stage.output()) == ("SUCCESS", {"l": "x", "r": "y"}), (language, ask)
            stage.check()


def test_what_had_not_begun_when_the_execution_was_ended_by_force() -> None:
    """Decisions 3 and 7: a task that was selected and had not begun continues when the execution runs again."""
    stage = Stage(PAUSES["mistral"])
    stage.pause()
    stage.end("asks")
    stage.cancel(terminate=ForcedEnd.CANCELLED)
    assert stage.standing() == {"asks": "SUCCESS", "works": "CANCELLED", "after": "IDLE"}
    stage.resume(run("works"))
    stage.end("works")
    stage.end("after")
    assert stage.execution.state == "SUCCESS"
    stage.check()


def test_what_a_childs_resume_put_aside_says_so() -> None:
    """Decision 3: what had ended after the parent's task is marked with the operation that was asked of the child."""
    for ask in ("resume", "rerun"):
        stage = Stage(TREE.replace("on-success: after", "on-complete: after"))
        child = stage.child()
        stage.end("inner", error="broken", on=child)
        stage.end("after")
        getattr(stage, ask)(run("inner"), on=child)
        assert stage.task("after").superseded_by == f"workflow-{ask}"
        assert stage.standing() == {"call": "RUNNING"}
        stage.check()


ONE = {
    "mistral": """
version: '2.0'
wf:
  tasks:
    fast: {action: std.noop, on-success: meet}
    slow: {action: std.noop, on-success: meet}
    meet: {join: one, action: std.noop, on-success: fail}
""",
    "orquesta": """
version: 1.0
name: wf
tasks:
  fast: {action: std.noop, next: [{do: meet}]}
  slow: {action: std.noop, next: [{do: meet}]}
  meet: {join: 1, action: std.noop, next: [{do: fail}]}
""",
}


def test_a_join_that_a_kept_branch_reaches_first() -> None:
    """Decision 3, O29, O36: it is of the generation of the rerun that put the earlier one aside."""
    for language, text in ONE.items():
        stage = Stage(text)
        stage.end("fast")
        stage.end("meet")
        assert stage.execution.state == "ERROR", language
        stage.rerun(run("fast"))
        stage.end("slow")
        first, second = (stage.task("meet", nth) for nth in (1, 2))
        assert (first.superseded_by, first.generation) == ("workflow-rerun", 0), language
        assert (second.state, second.generation) == ("RUNNING", 1), language
        stage.end("fast")
        assert len(stage.execution.by_name["meet"]) == 2, language
        stage.check()


def test_a_new_input_that_does_not_fit_is_refused() -> None:
    """R8, R12, R14: what the action or sub-workflow lacks or does not take is named, all of it, and nothing runs; with
    it the execution would have failed at once."""
    text = """
version: '2.0'
wf:
  tasks:
    single: {action: std.echo output=1}
    each:
      with-items: i in [1, 2]
      action: std.echo output=<% $.i %>
    call: {workflow: sub, input: {word: a}}
    computed: {action: "<% 'std.echo' %>", input: {output: 1}}
sub:
  input: [word, {tail: b}]
  tasks:
    t: {action: std.noop}
"""
    stage = Stage(text)
    stage.end("single", error="broken")
    for item in (0, 1):
        stage.end("each", error="broken", item=item)
    stage.end("t", error="broken", on=stage.child())
    stage.end("computed", error="broken")
    revision = stage.execution.revision
    choices = (
        run("single", input={"outputs": 1}),
        run("each", items={0: {"output": 1}, 1: {}}),
        run("call", input={"tail": "c"}),
        run("computed", input={"unknown": "before it runs"}),
    )
    for ask in (stage.resume, stage.rerun):
        with pytest.raises(InvalidRequest) as caught:
            ask(*choices)
        assert {(each.subject, each.description) for each in caught.value.violations} == {
            ("tasks[0].input.output", "is missing: action 'std.echo' needs it"),
            ("tasks[0].input.outputs", "is not a parameter of action 'std.echo'"),
            ("tasks[1].item_inputs[1].output", "is missing: action 'std.echo' needs it"),
            ("tasks[2].input.word", "is missing: workflow 'sub' needs it"),
        }
        assert stage.execution.revision == revision
    laid = Value(data={"__actions": {"std.echo": {"output": "of the environment"}}})
    stage.resume(run("single", input={}), environment=laid)
    assert stage.attempts("single")[-1].input.data == {"output": "of the environment"}


GLOBALS = """
version: '2.0'
wf:
  vars: {word: of the start}
  output: {seen: <% $.seen %>}
  tasks:
    choose:
      action: std.noop
      on-success:
        publish: {global: {chosen: <% task().result %>}}
        next:
          - write: <% task(choose).result = 1 %>
          - read: <% task(choose).result = 2 %>
    write:
      action: std.noop
      on-success: {publish: {global: {word: of write}}, next: [read]}
    read: {action: std.echo output=<% global(word) %>, publish: {seen: <% task().result %>}}
"""


def test_what_was_put_aside_gives_the_whole_execution_nothing() -> None:
    """Decision 3: a global variable that a superseded task had written has the value that it had before."""
    stage = Stage(GLOBALS)
    stage.end("choose", 1)
    stage.end("write")
    assert stage.attempts("read")[0].input.data == {"output": "of write"}
    stage.end("read", "of write")
    stage.rerun(run("choose"))
    assert stage.execution.globals["word"] == Value(data="of the start")
    assert "chosen" not in stage.execution.globals
    stage.end("choose", 2)
    assert stage.execution.globals["chosen"] == Value(data=2)
    assert stage.attempts("read", 2)[0].input.data == {"output": "of the start"}
    stage.end("read", "of the start")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"seen": "of the start"})
    stage.check()
