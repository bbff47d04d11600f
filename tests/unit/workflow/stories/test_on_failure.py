"""Stories of the core: failures that pause their execution, decision 13."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage, run, skip

from dalsegno.definitions.document import read
from dalsegno.workflow.events import Choice, ContextUpdated, TaskChoice
from dalsegno.workflow.refusals import Refused
from dalsegno.workflow.value import Value

PAUSES = {
    "mistral": """
version: '2.0'
wf:
  on-failure: pause
  tasks:
    a: {action: std.noop, on-success: meet}
    b: {action: std.noop, on-success: [meet, beside]}
    beside: {action: std.noop}
    meet: {join: all, action: std.noop}
""",
    "orquesta": """
version: 1.0
name: wf
on-failure: pause
tasks:
  a: {action: std.noop, next: [{when: <% succeeded() %>, do: meet}]}
  b: {action: std.noop, next: [{when: <% succeeded() %>, do: [meet, beside]}]}
  beside: {action: std.noop}
  meet: {join: all, action: std.noop}
""",
}
both = pytest.mark.parametrize("language", PAUSES)


def failed(language: str) -> Stage:
    """An execution that a failure has paused while another branch was at work."""
    stage = Stage(PAUSES[language])
    stage.end("a", error="broken")
    assert stage.execution.state == "PAUSING"
    assert stage.standing()["b"] == "RUNNING", "the rest goes on to its end"
    stage.end("b")
    assert stage.execution.state == "PAUSED"
    assert "a: broken" in stage.execution.info
    assert stage.standing()["beside"] == "IDLE", "nothing new starts"
    return stage


@both
def test_a_failure_pauses_and_is_run_again(language: str) -> None:
    """R3, R4, R24, decision 13: PAUSED with the reason; a plain resume is refused; the task is run again, and all that
    was open continues."""
    stage = failed(language)
    with pytest.raises(Refused, match="task a: has failed"):
        stage.resume()
    stage.resume(run("a"))
    assert stage.standing()["beside"] == "RUNNING"
    stage.end("a")
    stage.end("meet")
    stage.end("beside")
    assert stage.execution.state == "SUCCESS"
    stage.check()


@both
def test_a_failure_pauses_and_is_skipped(language: str) -> None:
    """R15, R24, decision 13: or it is skipped, and its join is filled."""
    stage = failed(language)
    stage.resume(skip("a", 1))
    stage.end("meet")
    stage.end("beside")
    assert stage.execution.state == "SUCCESS"
    stage.check()


@both
def test_a_failure_that_is_left_counts_in_the_end(language: str) -> None:
    """R27, decision 13: what is left as it is fails the execution once the rest has come to its end."""
    stage = failed(language)
    stage.resume(TaskChoice(task="a", choice=Choice.LEAVE))
    assert stage.execution.state == "RUNNING"
    stage.end("beside")
    assert stage.execution.state == "ERROR"
    stage.check()


@both
def test_a_failure_after_a_pause_by_somebody(language: str) -> None:
    """R3, O4: an execution that is paused already stays so, and cannot continue without a word about the failure."""
    stage = Stage(PAUSES[language])
    stage.pause(comment="mine")
    stage.end("a", error="broken")
    stage.end("b")
    assert (stage.execution.state, stage.execution.info) == ("PAUSED", "mine")
    with pytest.raises(Refused, match="task a: has failed"):
        stage.resume()


@both
def test_a_failure_while_an_action_has_paused_itself(language: str) -> None:
    """O4, decision 13: what the action reports next does not undo it."""
    stage = Stage(PAUSES[language])
    stage.end("b", outcome="paused")
    stage.end("a", error="broken")
    stage.end("b", outcome="running")
    stage.end("b")
    assert stage.execution.state == "PAUSED"
    assert "a: broken" in stage.execution.info


def test_what_is_handled_or_meant_to_fail_does_not_pause() -> None:
    """Decision 13: only what nothing handles pauses; `fail` fails, and a retry comes first."""
    text = """
version: '2.0'
wf:
  on-failure: pause
  tasks:
    handled: {action: std.noop, on-error: fine}
    fine: {action: std.noop}
    retried: {action: std.noop, retry: {count: 1, delay: 0}}
    meant: {action: std.noop, on-error: fail}
"""
    stage = Stage(text)
    stage.end("handled", error="broken")
    stage.end("retried", error="broken")
    assert stage.execution.state == "RUNNING"
    stage.end("retried")
    stage.end("meant", error="broken")
    assert stage.execution.state == "ERROR"


def test_an_expression_that_fails_pauses_too() -> None:
    """Decisions 13 and 14: what cannot be evaluated can be edited, and then run again."""
    text = """
version: '2.0'
wf:
  on-failure: pause
  input: [count]
  output: {got: <% $.got %>}
  tasks:
    a: {action: std.echo output=<% 1 / $.count %>, publish: {got: <% task().result %>}}
"""
    stage = Stage(text, {"count": 0})
    assert (stage.execution.state, stage.task("a").state) == ("PAUSED", "ERROR")
    stage.tell(ContextUpdated(at_s=stage.world.now_s, values={"count": Value(data=1)}))
    stage.resume(run("a"))
    stage.end("a", 1)
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"got": 1})
    stage.check()


def test_a_failure_in_a_sub_workflow_stays_there() -> None:
    """O8, O10, O12, decision 12: the sub-workflow is PAUSED, its parent's task shows it, the parent waits."""
    text = """
version: '2.0'
wf:
  tasks:
    call: {workflow: sub, on-success: after}
    beside: {action: std.noop}
    after: {action: std.noop}
sub:
  on-failure: pause
  tasks:
    inner: {action: std.noop}
"""
    stage = Stage(text)
    child = stage.child()
    stage.end("inner", error="broken", on=child)
    stage.end("beside")
    assert (child.state, stage.execution.state) == ("PAUSED", "RUNNING")
    assert stage.standing()["call"] == "PAUSED"
    stage.resume(run("inner"), on=child)
    stage.end("inner", on=child)
    stage.end("after")
    assert stage.execution.state == "SUCCESS"
    stage.check()


@both
def test_other_words_are_not_known(language: str) -> None:
    """Decision 13: an unknown word under `on-failure` is a problem of the definition, with its place."""
    document = read(PAUSES[language].replace("on-failure: pause", "on-failure: sometimes"))
    assert [(problem.path, problem.message) for problem in document.problems] == [
        (
            "wf.on-failure" if language == "mistral" else "on-failure",
            "must be fail, pause, revert or a mapping with `revert`, not 'sometimes'",
        )
    ]
    assert not read(PAUSES[language].replace("on-failure: pause", "on-failure: fail")).problems
