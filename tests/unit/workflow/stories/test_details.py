"""Stories of the core: small decisions that other stories pass by, each of which somebody would miss."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.workflow.stories.operating import Stage, run, skip

from dalsegno.workflow.events import ContextUpdated, TaskDone, TaskOutcome
from dalsegno.workflow.model import ActionDescription, Parameter
from dalsegno.workflow.refusals import Refused
from dalsegno.workflow.value import Value

MEET = {
    "mistral": """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-success: meet}
    b: {action: std.noop, on-success: meet}
    c: {action: std.noop, on-success: meet}
    breaks: {action: std.noop, on-error: fail}
    meet: {join: all, action: std.noop}
""",
    "orquesta": """
version: 1.0
name: wf
tasks:
  a: {action: std.noop, next: [{do: meet}]}
  b: {action: std.noop, next: [{do: meet}]}
  c: {action: std.noop, next: [{do: meet}]}
  breaks: {action: std.noop}
  meet: {join: all, action: std.noop}
""",
}
LANGUAGES = ("mistral", "orquesta")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_join_that_runs_is_filled_anew_by_what_runs_again(language: str) -> None:
    """Decision 3: the join of before runs on; the next one has the kept arrivals and the new one, and begins."""
    stage = Stage(MEET[language])
    for name in "abc":
        stage.end(name)
    stage.end("breaks", error="broken")
    assert (stage.execution.state, stage.standing()["meet"]) == ("ERROR", "RUNNING")
    stage.rerun(run("a"))
    stage.end("a")
    first, again = stage.task("meet"), stage.task("meet", 2)
    assert (str(first.state), str(again.state)) == ("RUNNING", "RUNNING")
    assert again.arrivals.arrived == {"a", "b", "c"}
    stage.check()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_join_keeps_every_arrival_that_was_not_taken_back(language: str) -> None:
    """Decision 3, O32: after a rerun of one branch the next execution of the join waits for that branch alone."""
    stage = Stage(MEET[language])
    for name in ("breaks", "a", "b", "c", "meet"):
        stage.end(name)
    assert stage.execution.state == "SUCCESS"
    stage.rerun(run("b"))
    again = stage.task("meet", 2)
    assert (str(again.state), again.arrivals.arrived) == ("WAITING", {"a", "c"})
    stage.end("b")
    assert (str(again.state), again.arrivals.arrived) == ("RUNNING", {"a", "b", "c"})
    stage.end("meet")
    assert stage.execution.state == "SUCCESS"
    stage.check()


ECHO = """
version: '2.0'
wf:
  input: [word]
  tasks:
    say: {action: std.echo output=<% $.word %>}
    all:
      with-items: i in <% $.list %>
      action: std.echo output=<% $.i %>
"""


def _edited(error: str = "broken") -> Stage:
    """Both tasks have ended, and then the context was changed."""
    stage = Stage(ECHO.replace("[word]", "[word, list]"), {"word": "old", "list": ["old", "old"]})
    stage.end("say", error=error)
    for item in (0, 1):
        stage.end("all", error=error, item=item)
    values = {"word": Value(data="new"), "list": Value(data=["new"])}
    stage.tell(ContextUpdated(at_s=stage.world.now_s, values=values))
    return stage


@pytest.mark.parametrize(
    ("ask", "reset", "count"),
    [("rerun", True, 1), ("rerun", None, 1), ("rerun", False, 2), ("resume", True, 1), ("resume", None, 2)],
)
def test_a_list_of_items_is_asked_for_again_only_by_a_reset(ask: str, reset: bool | None, count: int) -> None:
    """R7, R10, decision 1: a rerun resets unless it is told otherwise, a resume only when it is told so."""
    stage = _edited()
    getattr(stage, ask)(run("all", reset=reset))
    assert stage.task("all").progress.item_count == count
    stage.check()


@pytest.mark.parametrize("ask", ["rerun", "resume"])
def test_an_operation_on_items_keeps_the_list(ask: str) -> None:
    """R11: who names items means those of the list that there is, unless a reset is asked for too."""
    stage = _edited()
    getattr(stage, ask)(run("all", items={0: None}))
    assert (
        stage.task("all").progress.item_count,
        len(stage.attempts("all", item=0)),
        len(stage.attempts("all", item=1)),
    ) == (
        2,
        2,
        1,
    )


@pytest.mark.parametrize(("comment", "ending"), [("", ""), ("known", ": known")])
def test_what_an_operation_did_says_why_it_was_asked_for(comment: str, ending: str) -> None:
    """R22: the comment of a request is told with what it launched and with what it skipped; without one nothing is."""
    stage = Stage(ECHO.replace("[word]", "[word, list]"), {"word": "old", "list": [1]})
    stage.end("say", error="broken")
    stage.end("all", error="broken")
    stage.resume(run("say"), skip("all", [2]), comment=comment)
    assert stage.attempts("say")[-1].comment == f"launched by workflow-resume{ending}"
    assert stage.attempts("all")[-1].comment == f"launched by workflow-resume{ending}"
    assert stage.task("all").info == f"skipped{ending}"


def test_fail_names_the_task_that_led_to_it() -> None:
    """A failure that is routed to `fail` ends the execution by that command, not as one that nobody has handled."""
    stage = Stage(
        "version: 1.0\nname: wf\ntasks:\n"
        "  a: {action: std.noop, next: [{when: <% failed() %>, do: fail}]}\n"
        "  b: {action: std.noop}\n"
    )
    stage.end("a", error="broken")
    assert (stage.execution.state, stage.execution.info) == ("ERROR", "failed by task 'a'")
    unhandled = Stage("version: 1.0\nname: wf\ntasks:\n  a: {action: std.noop}\n  b: {action: std.noop}\n")
    unhandled.end("a", error="broken")
    assert unhandled.execution.state == "ERROR"
    assert "failed by task" not in unhandled.execution.info


def test_fail_beside_a_task_handles_nothing() -> None:
    """Decision 1: what a failure leads to besides `fail` runs, and yet the failure is none that was handled."""
    stage = Stage(
        "version: 1.0\nname: wf\ntasks:\n"
        "  a: {action: std.noop, next: [{when: <% failed() %>, do: [after, fail]}]}\n"
        "  after: {action: std.noop}\n"
        "  b: {action: std.noop}\n"
    )
    stage.end("b")
    stage.end("a", error="broken")
    stage.end("after")
    assert (stage.execution.state, stage.standing()["after"]) == ("ERROR", "SUCCESS")
    stage.rerun(run("b"))
    stage.end("b")
    assert stage.execution.state == "ERROR"
    stage.check()


ITEMS = """
version: 1.0
name: wf
tasks:
  each:
    with: {items: "<% [1, 2, 3, 4] %>", concurrency: 2}
    action: std.noop
"""


def _shown(stage: Stage) -> tuple[str, str, list[int]]:
    """The state of the execution and of the task, and the items that have an attempt."""
    items = sorted(key[1] for key in stage.execution.attempts)
    return str(stage.execution.state), str(stage.task("each").state), items


def test_a_task_is_paused_while_all_of_its_items_are() -> None:
    """O4, decision 12: one paused item of two is not enough; while nothing of it goes on no other item begins, and when
    one goes on so does the task, with as many items as are allowed."""
    stage = Stage(ITEMS)
    stage.end("each", outcome="paused", item=0)
    assert _shown(stage) == ("RUNNING", "RUNNING", [0, 1])
    stage.end("each", outcome="paused", item=1)
    assert _shown(stage) == ("PAUSED", "PAUSED", [0, 1])
    revision = stage.execution.revision
    stage.end("each", outcome="paused", item=1)
    assert stage.execution.revision == revision, "it was paused already"
    stage.end("each", outcome="running", item=1)
    assert _shown(stage) == ("RUNNING", "RUNNING", [0, 1])
    stage.end("each", item=1)
    assert _shown(stage) == ("PAUSED", "PAUSED", [0, 1])
    stage.end("each", outcome="running", item=0)
    assert _shown(stage) == ("RUNNING", "RUNNING", [0, 1, 2])
    stage.end("each", item=2)
    stage.end("each", item=3)
    stage.end("each", item=0)
    assert _shown(stage) == ("SUCCESS", "SUCCESS", [0, 1, 2, 3])
    stage.check()


def test_paused_items_that_are_answered_make_room_for_the_next() -> None:
    """O4: items that were paused end without going on first; the next ones begin when the execution is resumed."""
    stage = Stage(ITEMS)
    for item in (0, 1):
        stage.end("each", outcome="paused", item=item)
    stage.end("each", item=0)
    assert _shown(stage) == ("PAUSED", "PAUSED", [0, 1])
    stage.end("each", item=1)
    assert _shown(stage) == ("PAUSED", "RUNNING", [0, 1])
    stage.resume()
    assert _shown(stage) == ("RUNNING", "RUNNING", [0, 1, 2, 3])
    stage.check()


@pytest.mark.parametrize(("language", "paused"), [("mistral", False), ("orquesta", True)])
def test_a_delegate_pauses_its_execution_where_the_language_says_so(language: str, paused: bool) -> None:
    """Decision 12: Orquesta's execution pauses as soon as it waits for somebody outside, Mistral's runs on."""
    stage = Stage(MEET[language])
    stage.end("a", outcome="delegated")
    assert str(stage.execution.state) == ("PAUSING" if paused else "RUNNING")
    assert any("PAUSING" in row for row in stage.world.journals[stage.execution.id]) == paused
    for name in ("b", "c", "breaks"):
        stage.end(name)
    assert str(stage.execution.state) == ("PAUSED" if paused else "RUNNING")
    stage.end("a")
    assert (str(stage.execution.state), stage.standing()["meet"]) == ("RUNNING", "RUNNING")
    stage.check()


def test_the_last_delegate_that_answers_has_the_execution_go_on() -> None:
    """Decision 12: of two delegates of an Orquesta execution the first answer changes nothing, the second goes on."""
    stage = Stage(MEET["orquesta"])
    for name in ("a", "b"):
        stage.end(name, outcome="delegated")
    for name in ("c", "breaks"):
        stage.end(name)
    assert stage.execution.state == "PAUSED"
    stage.end("a")
    assert stage.execution.state == "PAUSED"
    stage.end("b")
    assert (str(stage.execution.state), stage.standing()["meet"]) == ("RUNNING", "RUNNING")
    stage.check()


def test_a_delegate_elsewhere_holds_back_no_mistral_execution() -> None:
    """Decision 12: what a Mistral action paused goes on with that action's answer, whoever else is waited for."""
    stage = Stage(MEET["mistral"])
    stage.end("a", outcome="delegated")
    stage.end("b", outcome="paused")
    for name in ("c", "breaks"):
        stage.end(name)
    assert stage.execution.state == "PAUSED"
    stage.end("b")
    assert stage.execution.state == "RUNNING"
    stage.check()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_task_without_an_action_runs_one_in_mistral_only(language: str) -> None:
    """Mistral runs std.noop for it, which an executor must answer; in Orquesta it has succeeded at once."""
    head, body = {
        "mistral": ("version: '2.0'\nwf:\n  tasks:\n    ", "{publish: {x: 1}}"),
        "orquesta": ("version: 1.0\nname: wf\ntasks:\n  ", "{next: [{do: noop}]}"),
    }[language]
    stage = Stage(f"{head}t: {body}\n")
    if language == "mistral":
        assert [(each.action, str(each.state)) for each in stage.attempts("t")] == [("std.noop", "RUNNING")]
        stage.end("t")
    else:
        assert stage.attempts("t") == []
    assert (str(stage.execution.state), stage.standing()) == ("SUCCESS", {"t": "SUCCESS"})


def test_an_action_takes_what_it_declares_and_all_that_it_requires() -> None:
    """A description fits an input with every required parameter and no unknown one, unless it is open to any."""
    needs, may = Parameter("needs"), Parameter("may", required=False)
    closed = ActionDescription("a", (needs, may))
    assert [closed.takes(given) for given in (["needs"], ["needs", "may"], ["may"], [], ["needs", "odd"])] == [
        *(True, True, False, False, False)
    ]
    assert closed.takes([], added=["needs"])
    opened = replace(closed, accepts_any=True)
    assert (opened.takes(["needs", "odd"]), opened.takes(["odd"])) == (True, False)
    served = replace(closed, others=(ActionDescription("a", (may,)), opened))
    assert [served.fitting(given) for given in (["needs"], ["may"], ["needs", "odd"], ["odd"])] == [
        *(served, *served.others, served)
    ]


def test_what_nobody_works_on_is_cancelled_at_once() -> None:
    """O13, O15: a task that waits for its time ends with the request, whatever else still comes to its end."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    runs: {action: std.noop}\n    waits: {action: std.noop, wait-before: 10}\n"
    )
    stage.cancel(comment="enough")
    assert (str(stage.execution.state), stage.standing()) == ("CANCELLING", {"runs": "RUNNING", "waits": "CANCELLED"})
    assert "enough" in stage.task("waits").info
    stage.end("runs")
    assert (str(stage.execution.state), stage.standing()["runs"]) == ("CANCELLED", "SUCCESS")
    stage.check()


SUB = "version: '2.0'\nsub:\n  tasks:\n    t: {action: std.noop, on-success: last}\n    last: {action: std.noop}\n"


def test_an_action_that_goes_on_has_paused_sub_workflows_go_on() -> None:
    """O4, decision 12: a report that takes back the pause of a Mistral execution resumes what is paused below it."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    acts: {action: std.noop}\n    below: {workflow: sub}\n", others=(SUB,)
    )
    child = stage.child()
    stage.pause(on=child)
    stage.end("t", on=child)
    stage.end("acts", outcome="paused")
    assert (str(stage.execution.state), str(child.state)) == ("PAUSED", "PAUSED")
    stage.end("acts", outcome="running")
    assert (str(stage.execution.state), str(child.state)) == ("RUNNING", "RUNNING")
    assert stage.standing() == {"acts": "RUNNING", "below": "RUNNING"}
    stage.end("last", on=child)
    stage.end("acts")
    assert stage.execution.state == "SUCCESS"
    stage.check()


@pytest.mark.parametrize("is_delegate_first", [True, False])
def test_a_delegate_pauses_no_sub_workflow_that_is_beginning(is_delegate_first: bool) -> None:
    """Decision 6, O6: a pause that an action has reported stays in its execution, whether the report of a sub-workflow
    that it has begun comes before it or after it: nobody would resume it when the delegate answers."""
    stage = Stage(
        "version: 1.0\nname: wf\n"
        "tasks:\n  asks: {action: std.noop}\n  acts: {action: std.noop}\n  below: {action: sub}\n",
        others=(SUB,),
    )
    execution = stage.execution = stage.world.start("wf")
    stage.world._hand_out()
    delegates = TaskDone(key=(stage.task("asks").number, 0, 1), outcome=TaskOutcome.DELEGATED, delivery=1)
    if is_delegate_first:
        stage.world.tell(execution.id, delegates)
    stage.world.run(until_s=0)
    if not is_delegate_first:
        stage.world.tell(execution.id, delegates)
    assert (str(execution.state), str(stage.child().state)) == ("PAUSING", "RUNNING")
    stage.end("asks")
    stage.end("acts")
    stage.end("t", on=stage.child())
    stage.end("last", on=stage.child())
    assert execution.state == "SUCCESS"
    stage.check()


def test_what_is_noted_after_the_end_moves_no_end() -> None:
    """An error that comes when an execution has failed already is told too; it ended when it ended."""
    stage = Stage(
        "version: 1.0\nname: wf\ntasks:\n  a: {action: std.noop}\n"
        "  b: {action: std.noop, next: [{when: <% int(x) %>, do: noop}]}\n"
    )
    stage.end("a", error="broken")
    ended_s = stage.execution.ended_s
    stage.world.now_s += 5
    stage.end("b")
    assert (str(stage.execution.state), stage.execution.ended_s) == ("ERROR", ended_s)
    assert stage.execution.reported_errors is not None
    told = stage.execution.reported_errors.data
    assert isinstance(told, list)
    assert [each["task_id"] for each in told] == ["a", "b"]
    stage.check()


def test_tasks_of_a_success_are_not_resumed() -> None:
    """R10: a choice for a task of an execution that has succeeded is refused, with what would have to be."""
    stage = Stage("version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop}\n")
    stage.end("t")
    with pytest.raises(Refused) as refused:
        stage.resume(run("t"))
    assert [each.description for each in refused.value.violations] == [
        "its tasks can be resumed while it is CANCELLED, ERROR, PAUSED, RUNNING, it is SUCCESS",
        "did not fail: it is SUCCESS",
    ]


@pytest.mark.parametrize(("comment", "info"), [("", "task 't' is paused by its action"), ("lunch", "lunch")])
def test_a_pause_that_was_reported_becomes_one_by_request(comment: str, info: str) -> None:
    """O4: it says why it was asked for, or keeps its reason; the report that the action goes on does not end it."""
    stage = Stage("version: '2.0'\nwf:\n  tasks:\n    t: {action: std.noop}\n    u: {action: std.noop}\n")
    stage.end("t", outcome="paused")
    stage.pause(comment=comment)
    assert (str(stage.execution.state), stage.execution.info) == ("PAUSING", info)
    assert stage.pause().verdict == "duplicate"
    stage.end("t", outcome="running")
    assert stage.execution.state == "PAUSING"
    stage.end("t")
    stage.end("u")
    assert (str(stage.execution.state), stage.execution.info) == ("PAUSED", info)
    stage.check()


def test_an_orquesta_execution_knows_who_has_it_run() -> None:
    """A sub-workflow sees the execution and the task above it, the outermost one only who started it."""
    shown = "output: [{up: <% ctx(parent) %>}, {name: <% ctx(st2).action %>}]\ntasks:\n"
    stage = Stage(
        f"version: 1.0\nname: wf\n{shown}  s: {{action: p.sub}}\n",
        others=(f"version: 1.0\nname: p.sub\n{shown}  t: {{action: std.noop}}\n",),
    )
    child = stage.child()
    stage.end("t", on=child)
    assert stage.output() == {"up": {"user": "", "pack": ""}, "name": "wf"}
    assert child.output is not None
    assert child.output.data == {
        "up": {
            "user": "",
            "pack": "p",
            "parent": {"user": "", "execution_id": stage.execution.id},
            "orquesta": {
                "workflow_execution_id": stage.execution.id,
                "task_execution_id": f"{stage.execution.id}.{stage.task('s').number}",
            },
        },
        "name": "p.sub",
    }


@pytest.mark.parametrize(("concurrency", "stands"), [(3, "PAUSED"), (2, "RUNNING")])
def test_a_mistral_task_is_paused_when_none_of_its_items_runs_or_may_begin(concurrency: int, stands: str) -> None:
    """Decision 12: one paused item pauses the execution; the task is PAUSED when all items are, and none is to come."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    each:\n      with-items: i in [1, 2, 3]\n"
        f"      concurrency: {concurrency}\n      action: std.noop\n    other: {{action: std.noop}}\n"
    )
    for item in range(concurrency):
        assert stage.standing()["each"] == "RUNNING"
        stage.end("each", outcome="paused", item=item)
    assert (str(stage.execution.state), stage.standing()["each"]) == ("PAUSING", stands)
    stage.end("each", outcome="running", item=1)
    assert (str(stage.execution.state), stage.standing()["each"]) == ("RUNNING", "RUNNING")
    stage.check()


@pytest.mark.parametrize(
    ("on_skip", "told"), [("", "success"), ("      on-skip: {publish: {branch: {told: skip}}}\n", "skip")]
)
def test_a_skipped_task_publishes_by_its_own_clause_or_as_a_success(on_skip: str, told: str) -> None:
    """R20, decision 4: with an output and no publish-on-skip the task publishes that; the clause is on-skip, if any."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    t:\n      action: std.noop\n      publish: {p: <% task().result %>}\n"
        f"      on-success: {{publish: {{branch: {{told: success}}}}}}\n{on_skip}"
    )
    stage.end("t", error="broken")
    stage.resume(skip("t", 7))
    assert stage.execution.state == "SUCCESS"
    values = stage.task("t").publication.values
    assert {name: value.data for name, value in values.items()} == {"p": 7, "told": told}
    stage.check()


@pytest.mark.parametrize("outcome", ["running", "paused", "succeeded"])
def test_a_paused_item_of_a_task_that_has_failed_changes_nothing_of_it(outcome: str) -> None:
    """O4: what the action of such an item reports later is recorded, and the task stays as it ended."""
    stage = Stage(ITEMS.replace("[1, 2, 3, 4]", "[1, 2]"))
    stage.end("each", outcome="paused", item=0)
    stage.end("each", error="broken", item=1)
    assert (str(stage.execution.state), stage.standing()["each"]) == ("ERROR", "ERROR")
    stage.end("each", outcome=outcome, item=0)
    assert (str(stage.execution.state), stage.standing()["each"]) == ("ERROR", "ERROR")
    stage.check()
