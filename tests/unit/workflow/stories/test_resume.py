"""Stories of the core: resume after pause and failure, R1 to R28."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage, run, skip
from tests.world import Played

from dalsegno.workflow.events import Choice, ResumeRequested, TaskChoice, TaskDone, TaskOutcome
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.refusals import InvalidRequest, Refused
from dalsegno.workflow.value import Value

CHAIN = """
version: '2.0'
wf:
  input: [{host: a}]
  output: {got: <% $.get(got) %>}
  tasks:
    fetch:
      action: std.echo output=<% $.host %>
      publish: {got: <% task().result %>}
      on-success: store
    store: {action: std.noop}
"""
ITEMS = """
version: '2.0'
wf:
  output: {all: <% $.all %>}
  tasks:
    each:
      with-items: i in [10, 20, 30]
      action: std.echo output=<% $.i %>
      publish: {all: <% task().result %>}
      on-success: after
    after: {action: std.noop}
"""
BRANCHES = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-success: j}
    b: {action: std.noop, on-success: j}
    j: {join: all, action: std.noop}
"""


def given(attempt: Attempt) -> object:
    """What std.echo was given to say."""
    assert isinstance(attempt.input.data, dict)
    return attempt.input.data["output"]


def failed(text: str = CHAIN) -> Stage:
    """An execution in ERROR because its first task failed."""
    stage = Stage(text)
    stage.end("fetch", "what came", error="boom")
    assert stage.execution.state == "ERROR"
    return stage


def test_one_operation_serves_all() -> None:
    """R1, R2, R6, R28: the same event continues a pause, runs a failed task again and skips one; a name is enough."""
    stage = Stage(CHAIN)
    stage.pause()
    stage.end("fetch", 1)
    assert stage.execution.state == "PAUSED"
    stage.resume()
    assert stage.execution.state == "RUNNING"
    stage.end("store", error="boom")
    stage.resume(run("store"))
    stage.end("store", error="again")
    stage.resume(skip("store", "by hand"))
    assert (stage.execution.state, stage.standing()) == ("SUCCESS", {"fetch": "SUCCESS", "store": "SKIPPED"})
    stage.check()


def test_a_plain_resume_names_all_failed_tasks() -> None:
    """R3, R4: it is refused, every task in error is named, and nothing changes."""
    stage = Stage(BRANCHES)
    stage.pause()
    stage.end("a", error="one")
    stage.end("b", error="two")
    revision = stage.execution.revision
    with pytest.raises(Refused) as refused:
        stage.resume()
    assert [violation.subject for violation in refused.value.violations if violation.kind == "TASK_FAILED"] == [
        "task a",
        "task b",
    ]
    assert stage.execution.revision == revision


def test_a_plain_resume_of_an_execution_in_error_is_refused() -> None:
    """R3, R5: ERROR becomes RUNNING only when it is said what to do with what failed."""
    stage = failed()
    with pytest.raises(Refused) as refused:
        stage.resume()
    assert "task fetch" in [violation.subject for violation in refused.value.violations]
    stage.resume(run("fetch"))
    assert stage.execution.state == "RUNNING"


def test_run_again_with_the_same_input() -> None:
    """R7, R9, R25: a new attempt under the same task execution; the failed one stays; then all goes its way."""
    stage = failed()
    stage.resume(run("fetch"))
    first, second = stage.attempts("fetch")
    assert (first.state, first.error, first.input.data, first.accepted) == ("ERROR", "boom", {"output": "a"}, False)
    assert (second.state, second.input) == ("RUNNING", first.input)
    assert len(stage.execution.by_name["fetch"]) == 1
    stage.end("fetch", "now")
    stage.end("store")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"got": "now"})
    stage.check()


def test_run_again_with_another_input() -> None:
    """R8: the new attempt runs with the new input, and so do its retries."""
    stage = failed()
    stage.resume(run("fetch", input={"output": "b"}))
    assert [attempt.input.data for attempt in stage.attempts("fetch")] == [{"output": "a"}, {"output": "b"}]
    stage.check()


def test_a_retry_keeps_the_new_input() -> None:
    """R8, R23, O23: what retries after a resume runs with the new input, but was not launched by the operator."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    fetch:\n      action: std.echo output=1\n"
        "      retry: {count: 1, delay: 0}\n"
    )
    stage.end("fetch", error="one")
    stage.end("fetch", error="two")
    stage.resume(run("fetch", input={"output": 2}), comment="try 2")
    stage.end("fetch", error="three")
    inputs = [(given(attempt), attempt.comment) for attempt in stage.attempts("fetch")]
    assert inputs == [(1, ""), (1, ""), (2, "launched by workflow-resume: try 2"), (2, "")]
    stage.end("fetch", 2)
    assert stage.execution.state == "SUCCESS"
    stage.check()


def test_new_input_must_be_an_object() -> None:
    """R8: anything else is refused before anything changes."""
    with pytest.raises(InvalidRequest, match=r"tasks\[0\].input"):
        failed().resume(run("fetch", input=[1]))


def failed_items() -> Stage:
    """A with-items task of three whose second failed."""
    stage = Stage(ITEMS)
    stage.end("each", "A", item=0)
    stage.end("each", error="boom", item=1)
    stage.end("each", "C", item=2)
    assert stage.execution.state == "ERROR"
    return stage


def test_items_again_whole() -> None:
    """R10: all items run again, each with the input that it had, or with new task input."""
    stage = failed_items()
    stage.resume(run("each"))
    assert [given(stage.attempts("each", item=item)[-1]) for item in range(3)] == [10, 20, 30]
    for item in range(3):
        stage.end("each", f"new {item}", item=item)
    stage.end("after")
    assert stage.output() == {"all": ["new 0", "new 1", "new 2"]}
    again = failed_items()
    again.resume(run("each", input={"output": 7}))
    assert [given(again.attempts("each", item=item)[-1]) for item in range(3)] == [7, 7, 7]
    again.check()


def test_one_item_again() -> None:
    """R11, R13: one item by its index, with new input; the others keep their results, merged in item order."""
    stage = failed_items()
    stage.resume(run("each", items={1: {"output": 21}}))
    assert [len(stage.attempts("each", item=item)) for item in range(3)] == [1, 2, 1]
    assert stage.attempts("each", item=1)[-1].input.data == {"output": 21}
    stage.end("each", "B", item=1)
    stage.end("after")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"all": ["A", "B", "C"]})
    stage.check()


def test_selected_items_again() -> None:
    """R12, R13: several indices, each with its own input or the one it had; items that succeeded as well."""
    stage = failed_items()
    stage.resume(run("each", items={2: {"output": 31}, 1: None}))
    assert [given(stage.attempts("each", item=item)[-1]) for item in range(3)] == [10, 20, 31]
    stage.end("each", "C2", item=2)
    stage.end("each", error="boom again", item=1)
    assert stage.execution.state == "ERROR"
    stage.resume(run("each", reset=False))
    assert [len(stage.attempts("each", item=item)) for item in range(3)] == [1, 3, 2]
    stage.end("each", "B3", item=1)
    stage.end("after")
    assert stage.output() == {"all": ["A", "B3", "C2"]}
    stage.check()


def test_wrong_items_are_refused() -> None:
    """R14: an index out of range is refused with all else that is wrong, and nothing runs."""
    stage = failed_items()
    revision = stage.execution.revision
    with pytest.raises(InvalidRequest) as refused:
        stage.resume(run("each", items={3: None, -1: None, 1: {"output": 1}}), run("nothing"))
    told = [(violation.subject, violation.description) for violation in refused.value.violations]
    assert told[:2] == [
        ("tasks[0].items", "item 3 is out of range: there are 0 to 2"),
        ("tasks[0].items", "item -1 is out of range: there are 0 to 2"),
    ]
    assert told[2][0] == "task nothing"
    assert stage.execution.revision == revision


def test_skip_goes_on_with_an_output() -> None:
    """R15, R17, R19, R20, R21: a std.noop stands beside what failed; publish and what follows see its output."""
    stage = failed()
    stage.resume(skip("fetch", {"by": "hand"}), comment="known")
    first, second = stage.attempts("fetch")
    assert (first.state, first.error) == ("ERROR", "boom")
    assert (second.action, second.state, second.result) == ("std.noop", "SUCCESS", Value(data={"by": "hand"}))
    assert second.comment == "launched by workflow-resume: known"
    assert stage.standing() == {"fetch": "SKIPPED", "store": "RUNNING"}
    stage.end("store")
    assert (stage.execution.state, stage.output()) == ("SUCCESS", {"got": {"by": "hand"}})
    stage.check()


def test_skip_without_an_output_is_refused() -> None:
    """R16: a skip needs its output."""
    stage = failed()
    with pytest.raises(InvalidRequest, match=r"tasks\[0\].output: is missing"):
        stage.resume(TaskChoice(task="fetch", choice=Choice.SKIP))
    assert stage.execution.state == "ERROR"


def test_skip_takes_all_branches_of_the_task() -> None:
    """R18, R19: the conditions of the failed task decide, and several branches may follow."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    t:\n      action: std.noop\n      on-success:\n"
        "        - x: <% task().result.go %>\n        - y\n        - z: <% not task().result.go %>\n"
        "    x: {action: std.noop}\n    y: {action: std.noop}\n    z: {action: std.noop}\n"
    )
    stage.end("t", error="boom")
    stage.resume(skip("t", {"go": True}))
    assert stage.standing() == {"t": "SKIPPED", "x": "RUNNING", "y": "RUNNING"}


def test_skip_has_its_own_clauses_in_mistral() -> None:
    """Decision 4: publish-on-skip and on-skip apply; null leaves what was published and the result as they were."""
    stage = Stage(
        "version: '2.0'\nwf:\n  output: {p: <% $.p %>}\n  tasks:\n    t:\n      action: std.noop\n"
        "      publish: {p: 1}\n      publish-on-skip: {p: 2}\n      on-success: no\n      on-skip: yes\n"
        "    no: {action: std.noop}\n    yes: {action: std.noop}\n".replace("yes", "instead")
        .replace("no:", "never:")
        .replace("on-success: no", "on-success: never")
    )
    stage.end("t", error="boom")
    stage.resume(skip("t", None))
    assert stage.standing() == {"t": "SKIPPED", "instead": "RUNNING"}
    stage.end("instead")
    assert stage.output() == {"p": 2}


def test_only_what_resume_launched_says_so() -> None:
    """R22, R23: the comment is on the attempts that the resume launched, with the actor, and on no others."""
    stage = failed()
    stage.resume(run("fetch"))
    stage.end("fetch")
    comments = [(attempt.key[0], attempt.comment, attempt.actor) for attempt in stage.execution.attempts.values()]
    assert comments == [(1, "", ""), (1, "launched by workflow-resume", "ann"), (2, "", "")]


def test_items_that_come_later_were_launched_too() -> None:
    """R22: with a concurrency of one, every item of the round carries the comment, also those created later."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    each:\n      with-items: i in [1, 2]\n      concurrency: 1\n"
        "      action: std.echo output=<% $.i %>\n"
    )
    stage.end("each", error="boom", item=0)
    stage.end("each", error="boom", item=1)
    stage.resume(run("each"))
    stage.end("each", item=0)
    assert stage.attempts("each", item=1)[-1].comment == "launched by workflow-resume"
    assert stage.attempts("each", item=1)[-1].actor == "ann"


def test_both_ways_are_open() -> None:
    """R24: the same failure may be run again or gone on after."""
    again, after = failed(), failed()
    again.resume(run("fetch"))
    after.resume(skip("fetch", 1))
    assert (again.standing(), after.standing()) == (
        {"fetch": "RUNNING"},
        {"fetch": "SKIPPED", "store": "RUNNING"},
    )


def test_what_did_not_fail_is_refused() -> None:
    """R26: unknown names, tasks that never ran and tasks that did not fail, all of them named at once."""
    stage = Stage(BRANCHES)
    stage.end("a")
    stage.end("b", error="boom")
    with pytest.raises(Refused) as refused:
        stage.resume(run("a"), run("b"), run("x"))
    assert [violation.subject for violation in refused.value.violations] == ["task a", "task x"]
    running = Stage(CHAIN)
    with pytest.raises(Refused, match="task store: was never executed"):
        running.resume(run("store"))


def test_each_of_several_in_its_own_way() -> None:
    """R27: several failed tasks in one request, each its own way; no SUCCESS while one is left as it is."""
    stage = Stage(BRANCHES)
    stage.end("a", error="one")
    stage.end("b", error="two")
    stage.resume(run("a"), TaskChoice(task="b", choice=Choice.LEAVE))
    assert stage.standing()["b"] == "ERROR"
    stage.end("a")
    assert stage.execution.state == "ERROR"
    stage.resume(skip("b", None))
    stage.end("j")
    assert (stage.execution.state, stage.standing()["j"]) == ("SUCCESS", "SUCCESS")
    stage.check()


def test_a_failed_join_waits_again() -> None:
    """R27, O32: the join that failed for lack of arrivals is filled once what failed before it has been resumed."""
    stage = Stage(BRANCHES)
    stage.end("a")
    stage.end("b", error="boom")
    assert stage.standing()["j"] == "ERROR"
    stage.resume(run("b"))
    assert stage.standing()["j"] == "WAITING"
    stage.end("b")
    stage.end("j")
    assert stage.execution.state == "SUCCESS"
    assert len(stage.execution.by_name["j"]) == 1
    stage.check()


def test_resume_while_it_runs_and_while_it_is_paused() -> None:
    """R1, R6, decision 1: failed tasks may be resumed in a RUNNING or PAUSED execution too."""
    stage = Stage(BRANCHES)
    stage.end("a", error="boom")
    assert stage.execution.state == "RUNNING"
    stage.resume(run("a"))
    stage.end("a", error="boom")
    stage.pause()
    stage.end("b")
    assert stage.execution.state == "PAUSED"
    stage.resume(run("a"))
    stage.end("a")
    stage.end("j")
    assert stage.execution.state == "SUCCESS"
    stage.check()


def test_a_cancelled_task_is_resumed() -> None:
    """Decision 1: so are tasks in CANCELLED of a CANCELLED execution."""
    stage = Stage(CHAIN)
    stage.end("fetch", outcome="cancelled")
    assert stage.execution.state == "CANCELLED"
    stage.resume(run("fetch"))
    stage.end("fetch")
    stage.end("store")
    assert stage.execution.state == "SUCCESS"
    stage.check()


def test_a_late_answer_never_counts_for_the_new_attempt() -> None:
    """R9, P24: the first attempt's executor answers after the rerun: superseded, and the new one is waited for."""
    stage = failed()
    stage.resume(run("fetch"))
    late = TaskDone(key=(1, 0, 1), outcome=TaskOutcome.SUCCEEDED, delivery=1)
    assert stage.tell(late).verdict == "superseded"
    assert stage.standing() == {"fetch": "RUNNING"}


def test_the_same_task_twice() -> None:
    """R27: the same thing said twice is said once; two different things are refused."""
    stage = failed()
    with pytest.raises(InvalidRequest, match="named before"):
        stage.resume(run("fetch"), skip("fetch", 1))
    stage.resume(run("fetch"), run("fetch"))
    assert len(stage.attempts("fetch")) == 2


def test_a_sub_workflow_again() -> None:
    """R7, S15, decision 11: a fresh child under the same task execution, the failed one stays as it ended."""
    stage = Stage("version: '2.0'\nchild: {tasks: {c: {action: std.noop}}}\nwf: {tasks: {s: {workflow: child}}}\n")
    stage.end("c", error="boom", on=stage.child())
    assert stage.execution.state == "ERROR"
    stage.resume(run("s"))
    first, second = stage.world.children(stage.execution)
    assert (first.state, second.state, second.created.comment) == ("ERROR", "RUNNING", "launched by workflow-resume")
    stage.end("c", on=second)
    assert stage.execution.state == "SUCCESS"
    stage.check()


def test_variables_of_the_environment() -> None:
    """R8: new variables are merged into the environment, and what runs again sees them; not while it runs."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.echo output=<% env().v %>}\n    u: {action: std.noop}\n",
        environment={"v": 1, "w": 1},
    )
    stage.end("t", error="boom")
    with pytest.raises(Refused, match="environment"):
        stage.tell(ResumeRequested(choices=(run("t"),), environment=Value(data={"v": 2}), at_s=stage.world.now_s))
    stage.end("u")
    stage.resume(run("t"), environment=Value(data={"v": 2}))
    assert stage.attempts("t")[-1].input.data == {"output": 2}
    assert stage.execution.environment.data == {"v": 2, "w": 1}
    stage.check()


def test_a_played_result_is_unused() -> None:
    """R9: the record of an attempt that has ended never changes again."""
    stage = failed()
    before = (stage.attempts("fetch")[0].result, stage.attempts("fetch")[0].ended_s)
    stage.resume(run("fetch"))
    stage.end("fetch", Played().result)
    assert (stage.attempts("fetch")[0].result, stage.attempts("fetch")[0].ended_s) == before


def test_a_skipped_task_fulfils_what_requires_it() -> None:
    """R19: in a reverse workflow the tasks that require the skipped one start."""
    stage = Stage(
        "version: '2.0'\nwf:\n  type: reverse\n  tasks:\n    first: {action: std.noop}\n"
        "    second: {action: std.noop, requires: first}\n",
        params={"task_name": "second"},
    )
    stage.end("first", error="boom")
    stage.resume(skip("first", 1))
    assert stage.standing() == {"first": "SKIPPED", "second": "RUNNING"}
    stage.end("second")
    assert stage.execution.state == "SUCCESS"
    stage.check()
