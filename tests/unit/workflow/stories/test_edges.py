"""Stories of the core: the edges of both languages, where something cannot be made, begun or told."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage, run, skip

from dalsegno.workflow.events import ForcedEnd
from dalsegno.workflow.refusals import Refused
from dalsegno.workflow.running.lifecycle import NOT_BEGUN

ITEMS = """
version: '2.0'
wf:
  tasks:
    each:
      with-items: i in [1, 2, 3]
      concurrency: 1
      action: std.echo output=<% $.i %>
    other: {action: std.noop, on-error: fail}
"""
ORQUESTA_ITEMS = """
version: 1.0
name: wf
tasks:
  each:
    with: {items: "i in <% [1, 2, 3] %>", concurrency: 1}
    action: std.echo output=<% item(i) %>
  other: {action: std.noop}
"""
FAMILY = """
version: '2.0'
wf:
  tasks:
    left: {workflow: middle}
    right: {workflow: child}
middle:
  tasks:
    call: {workflow: child}
child:
  tasks:
    one: {action: std.noop, on-success: two}
    two: {action: std.noop}
"""


@pytest.mark.parametrize("text", [ITEMS, ORQUESTA_ITEMS])
def test_items_that_cannot_begin_any_more_say_so(text: str) -> None:
    """Decision 3: the execution ends, then the item that runs: the task tells what is left; a rerun continues there."""
    stage = Stage(text)
    stage.end("other", error="broken")
    assert (stage.execution.state, stage.task("each").state) == ("ERROR", "RUNNING")
    stage.end("each", "a", item=0)
    assert stage.execution.is_at_rest
    assert stage.task("each").state == "IDLE"
    assert stage.task("each").info.startswith("2 of 3 items not begun: the execution ended first")
    stage.rerun(run("other"))
    stage.end("other")
    for item in (1, 2):
        stage.end("each", "b", item=item)
    assert (stage.execution.state, stage.task("each").state) == ("SUCCESS", "SUCCESS")
    assert len(stage.attempts("each", item=0)) == 1
    stage.check()


def test_what_waits_in_vain_says_why() -> None:
    """S6, S8: in an execution at rest every IDLE or WAITING task has a reason, until it continues."""
    text = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-success: [pause, later]}
    b: {action: std.noop, on-success: meet}
    c: {action: std.noop, on-success: meet}
    later: {action: std.noop}
    meet: {join: all, action: std.noop}
"""
    stage = Stage(text)
    stage.end("b")
    stage.end("a")
    stage.cancel(terminate=ForcedEnd.ERROR)
    assert stage.standing() == {"a": "SUCCESS", "b": "SUCCESS", "c": "CANCELLED", "meet": "WAITING", "later": "IDLE"}
    assert (stage.task("meet").info, stage.task("later").info) == (NOT_BEGUN, NOT_BEGUN)
    stage.resume(run("c"))
    assert (stage.task("meet").info, stage.task("later").info) == ("", "")
    for name in ("later", "c", "meet"):
        stage.end(name)
    assert stage.execution.state == "SUCCESS"
    stage.check()


def test_an_orquesta_task_that_comes_after_the_end_says_why_it_waits() -> None:
    """S6: what is selected when its execution has failed already waits with a word too."""
    stage = Stage(
        ORQUESTA_ITEMS.replace(
            "other: {action: std.noop}",
            """other: {action: std.noop}
  slow: {action: std.noop, next: [{do: after}]}
  after: {action: std.noop}""",
        )
    )
    stage.end("other", error="broken")
    stage.end("slow")
    assert (stage.task("after").state, stage.task("after").info) == ("IDLE", NOT_BEGUN)


def test_an_error_about_an_output_is_not_told_of_a_success() -> None:
    """An output that failed at an earlier end is no error of an execution that has succeeded since."""
    text = """
version: 1.0
name: wf
output: [said: <% ctx(word) + 1 %>]
tasks:
  a: {action: std.noop, next: [{when: <% succeeded() %>, publish: [{word: <% result() %>}]}]}
"""
    stage = Stage(text)
    stage.end("a", "text")
    assert stage.execution.state == "ERROR"
    assert stage.execution.reported_errors is not None
    stage.rerun(run("a"))
    stage.end("a", 1)
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"said": 2})
    assert stage.execution.reported_errors is None
    assert not stage.execution.errors
    stage.check()


def test_a_failed_output_tells_what_was_published() -> None:
    """An output that cannot be evaluated: ERROR, with what was published, or with output-on-error."""
    for added, output in (("", {"x": 1}), ("\n  output-on-error: {told: <% $.x + 1 %>}", {"told": 2})):
        stage = Stage(f"""
version: '2.0'
wf:
  output: {{y: <% $.missing.missing %>}}{added}
  tasks:
    a: {{action: std.noop, publish: {{x: 1}}}}
""")
        stage.end("a")
        found = stage.output()
        assert stage.execution.state == "ERROR"
        assert found.pop("result").startswith("cannot evaluate the output")
        assert found == output


def test_a_failed_output_of_a_child_reaches_its_parent() -> None:
    """The same in a sub-workflow: its parent's handlers see what it published."""
    stage = Stage("""
version: '2.0'
wf:
  tasks:
    call: {workflow: sub, publish-on-error: {got: <% task().result.x %>}, on-error: tell}
    tell: {action: std.noop}
sub:
  output: {y: <% $.missing.missing %>}
  tasks:
    a: {action: std.noop, publish: {x: 1}}
""")
    stage.end("a", on=stage.child())
    stage.end("tell")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"got": 1})


def test_a_pause_can_be_taken_back() -> None:
    """Decision 15: resume of a PAUSING execution has it run on, and its children, which are PAUSING too."""
    stage = Stage(FAMILY)
    child, middle = stage.world.children(stage.execution)[1], stage.world.children(stage.execution)[0]
    stage.pause()
    assert [each.state for each in (stage.execution, middle, child)] == ["PAUSING"] * 3
    stage.resume()
    assert [each.state for each in (stage.execution, middle, child)] == ["RUNNING"] * 3
    for each in stage.world.executions.values():
        if each.created.workflow == "child":
            stage.end("one", on=each)
            stage.end("two", on=each)
    assert stage.execution.state == "SUCCESS"
    stage.check()


def test_a_pausing_execution_of_one_action_goes_on() -> None:
    """Decision 15: nothing had been stopped: what the running action leads to starts when it ends."""
    stage = Stage("""
version: '2.0'
wf:
  tasks:
    one: {action: std.noop, on-success: two}
    two: {action: std.noop}
""")
    stage.pause()
    assert stage.execution.state == "PAUSING"
    stage.resume()
    stage.end("one")
    stage.end("two")
    assert stage.execution.state == "SUCCESS"


def test_resume_of_a_running_execution_reaches_what_is_paused_below() -> None:
    """O7, decision 15: it goes down through descendants that run to those that are paused, however deep."""
    stage = Stage(FAMILY)
    middle = stage.child(newest=False)
    deep = stage.world.children(middle)[0]
    stage.pause(on=deep)
    stage.end("one", on=deep)
    assert [each.state for each in (stage.execution, middle, deep)] == ["RUNNING", "RUNNING", "PAUSED"]
    stage.resume()
    assert deep.state == "RUNNING"
    with pytest.raises(Refused, match="none of its sub-workflows is paused"):
        stage.resume()


def test_resume_never_runs_over_failures() -> None:
    """Decision 15, R3: a child that is PAUSED on a failure stays so, and whoever resumes its parent is told."""
    stage = Stage(FAMILY.replace("child:\n  tasks", "child:\n  on-failure: pause\n  tasks"))
    right = stage.child()
    stage.end("one", error="broken", on=right)
    assert right.state == "PAUSED"
    with pytest.raises(Refused, match="one"):
        stage.resume()
    stage.pause()
    outcome = stage.resume()
    assert [(below.execution_id, below.failed) for below in outcome.left_paused] == [(right.id, ("one",))]
    assert (stage.execution.state, right.state) == ("RUNNING", "PAUSED")
    stage.resume(skip("one", None), on=right)
    assert right.state == "RUNNING"


def test_a_bad_wait_after_is_found_before_the_action_runs() -> None:
    """The whole kind: a policy of the wrong type fails the task before it does anything."""
    for policy in ("wait-after: <% $.word %>", "retry: {count: <% $.word %>, delay: 0}", "timeout: <% $.word %>"):
        stage = Stage(f"""
version: '2.0'
wf:
  input: [word: text]
  tasks:
    a: {{action: std.noop, {policy}}}
""")
        assert (stage.execution.state, stage.attempts("a")) == ("ERROR", []), policy


def test_a_task_without_a_result_has_an_empty_list() -> None:
    """Mistral: of a task that nobody answered `task(x).result` is [], so that handlers of timeouts can be written."""
    stage = Stage("""
version: '2.0'
wf:
  tasks:
    ring: {action: std.noop, timeout: 5, publish-on-error: {told: <% task(ring).result %>}, on-error: say}
    say: {action: std.echo output=<% task(ring).result.reason %>}
""")
    stage.world.run()
    assert stage.task("ring").published["told"].data == []
    assert stage.attempts("say")[0].input.data == {"output": []}
