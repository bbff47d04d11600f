"""Stories of the core: waiting for delegates, is terminated, edits of the context, and reruns from the beginning."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage, run
from tests.world import World

from dalsegno.workflow.changes import AttemptAdded
from dalsegno.workflow.events import ContextUpdated, ForcedEnd, TaskDone, TaskOutcome
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.refusals import InvalidRequest, Refused
from dalsegno.workflow.value import Value

TWO = """
version: '2.0'
wf:
  output: {x: <% $.get(x) %>}
  tasks:
    a: {action: std.noop, publish: {x: <% task().result %>}, on-success: b}
    b: {action: std.noop}
    other: {action: std.noop}
"""
TREE = """
version: '2.0'
child: {tasks: {c: {action: std.noop}}}
wf: {tasks: {s: {workflow: child}, peer: {action: std.noop}}}
"""


def delegated(stage: Stage, name: str, on: Execution | None = None) -> None:
    """The running action of the task hands its work to somebody outside."""
    execution = on or stage.execution
    task = execution.latest(name)
    assert task is not None
    stage.tell(
        TaskDone(key=(task.number, 0, task.progress.attempt), outcome=TaskOutcome.DELEGATED, delivery=1), on=execution
    )


def test_a_pause_may_wait_for_delegates() -> None:
    """Decision 6: WAIT keeps it PAUSING until the delegate has been completed; its task stays RUNNING."""
    stage = Stage(TWO)
    delegated(stage, "a")
    stage.end("other")
    stage.pause(waits_for_delegates=True)
    assert (stage.execution.state, stage.standing()["a"]) == ("PAUSING", "RUNNING")
    stage.end("a", 1)
    assert (stage.execution.state, stage.standing()["b"]) == ("PAUSED", "IDLE")
    stage.check()


def test_a_second_pause_ends_the_waiting() -> None:
    """Decision 6: with LEAVE it is PAUSED at once, and takes the delegate's result when it comes."""
    stage = Stage(TWO)
    delegated(stage, "a")
    stage.end("other")
    stage.pause(waits_for_delegates=True)
    assert stage.pause(waits_for_delegates=True).verdict == "duplicate"
    stage.pause()
    assert stage.execution.state == "PAUSED"
    stage.end("a", 1)
    assert (stage.execution.state, stage.standing()["b"]) == ("PAUSED", "IDLE")
    stage.check()


def test_a_pause_leaves_delegates() -> None:
    """O3, decision 6: by default an outstanding delegate is not active."""
    stage = Stage(TWO)
    delegated(stage, "a")
    stage.end("other")
    stage.pause()
    assert stage.execution.state == "PAUSED"


def test_a_cancel_may_wait_for_delegates() -> None:
    """Decision 6, O13: with WAIT the delegate may come to its end; a second cancel that does not wait ends it."""
    stage = Stage(TWO)
    delegated(stage, "a")
    stage.cancel(waits_for_delegates=True)
    stage.end("other")
    assert stage.execution.state == "CANCELLING"
    stage.end("a", 1)
    assert (stage.execution.state, stage.standing()) == ("CANCELLED", {"a": "SUCCESS", "other": "SUCCESS"})
    again = Stage(TWO)
    delegated(again, "a")
    again.end("other")
    again.cancel(waits_for_delegates=True)
    again.cancel()
    assert (again.execution.state, again.standing()["a"]) == ("CANCELLED", "CANCELLED")
    again.check()


@pytest.mark.parametrize("state", [ForcedEnd.CANCELLED, ForcedEnd.SUCCESS, ForcedEnd.ERROR])
def test_an_end_by_force(state: ForcedEnd) -> None:
    """Decision 7: it ends at once and so; what ran becomes CANCELLED, executors are told, late results are refused."""
    stage = Stage(TWO)
    stage.end("a", 1)
    stage.cancel(terminate=state, comment="enough")
    assert (stage.execution.state, stage.execution.info) == (state.value, "enough")
    assert stage.standing() == {"a": "SUCCESS", "b": "CANCELLED", "other": "CANCELLED"}
    assert len(stage.world.cancelled) == 2
    assert stage.execution.active_count == 0
    late = TaskDone(key=(3, 0, 1), outcome=TaskOutcome.SUCCEEDED, delivery=1)
    assert stage.tell(late).verdict == "superseded"
    if state is ForcedEnd.SUCCESS:
        assert stage.output() == {"x": 1}
    stage.check()


def test_an_end_by_force_brings_its_output() -> None:
    """Decision 7: the output may be given; the children are terminated as well."""
    stage = Stage(TREE)
    child = stage.child()
    stage.cancel(terminate=ForcedEnd.SUCCESS, output=Value(data={"by": "hand"}))
    assert (stage.execution.state, stage.output(), child.state) == ("SUCCESS", {"by": "hand"}, "CANCELLED")
    stage.check()


def test_an_end_that_is_none_is_refused() -> None:
    """Decision 7: only the three ends; and what has ended is not ended again."""
    stage = Stage(TWO)
    with pytest.raises(ValueError, match="PAUSED"):
        ForcedEnd("PAUSED")
    stage.cancel(terminate=ForcedEnd.ERROR)
    with pytest.raises(Refused):
        stage.cancel(terminate=ForcedEnd.SUCCESS)


def test_after_an_end_by_force_tasks_are_resumed() -> None:
    """Decision 1, 7: the CANCELLED tasks are there to be resumed."""
    stage = Stage(TWO)
    stage.end("a", 1)
    stage.cancel(terminate=ForcedEnd.ERROR)
    stage.resume(run("b"), run("other"))
    stage.end("b")
    stage.end("other")
    assert stage.execution.state == "SUCCESS"
    stage.check()


def edit(stage: Stage, task: str = "", removed: tuple[str, ...] = (), **values: object) -> None:
    """Set and unset variables."""
    event = ContextUpdated(
        at_s=stage.world.now_s,
        task=task,
        values={name: Value(data=value) for name, value in values.items()},
        removed=removed,
    )
    stage.tell(event)


READS = """
version: '2.0'
wf:
  input: [host]
  vars: {v: 1}
  output: {x: <% $.get(x) %>}
  tasks:
    a: {action: std.noop, publish: {x: <% task().result %>, d: {p: 1, q: 2}}, on-success: b}
    b:
      action: std.echo
      input: {output: "<% [$.host, $.v, $.get(x), $.d] %>"}
"""


def test_published_values_are_edited() -> None:
    """Decision 14: what an ended task published is edited; a failed task that runs again sees it, and so does all."""
    stage = Stage(READS, {"host": "h"})
    stage.end("a", 1)
    stage.end("b", error="boom")
    edit(stage, task="a", x=2)
    stage.resume(run("b"))
    assert stage.attempts("b")[-1].input.data == {"output": ["h", 1, 2, {"p": 1, "q": 2}]}
    edit_while_running(stage)
    stage.end("b")
    assert stage.output() == {"x": 2}
    stage.check()


def edit_while_running(stage: Stage) -> None:
    """Decision 14: only a PAUSED or completed execution is edited."""
    with pytest.raises(Refused, match="RUNNING"):
        edit(stage, task="a", x=3)


def test_variables_of_the_execution_are_edited() -> None:
    """Decision 14: vars and input, set and unset, while PAUSED; what starts then sees them."""
    stage = Stage(READS, {"host": "h"})
    stage.pause()
    stage.end("a", 1)
    edit(stage, host="k", v=5)
    edit(stage, task="a", removed=("x",))
    stage.resume()
    assert stage.attempts("b")[-1].input.data == {"output": ["k", 5, None, {"p": 1, "q": 2}]}
    assert stage.task("a").published.keys() == {"d"}
    stage.check()


def test_wrong_edits_are_refused() -> None:
    """Decision 14: unknown names to unset, names of the engine, tasks that have not ended: all named, nothing done."""
    stage = Stage(READS, {"host": "h"})
    stage.pause()
    stage.end("a", 1)
    revision = stage.execution.revision
    with pytest.raises(InvalidRequest) as refused:
        edit(stage, removed=("nothing", "host"), host=1, __env=2)
    assert [violation.subject for violation in refused.value.violations] == ["set.host", "set.__env", "unset"]
    with pytest.raises(InvalidRequest, match="nothing to edit"):
        edit(stage)
    with pytest.raises(Refused, match="task b: has not ended"):
        edit(stage, task="b", x=1)
    assert stage.execution.revision == revision


def test_an_edit_is_one_more_publish() -> None:
    """Decision 14: at a join it wins over the branch that published as often as the edited one, and not over more."""
    stage = Stage(
        "version: '2.0'\nwf:\n  output: {x: <% $.x %>}\n  tasks:\n"
        "    a: {action: std.noop, publish: {x: a}, on-success: j}\n"
        "    b: {action: std.noop, publish: {x: b}, on-success: j}\n"
        "    j: {join: all, action: std.noop}\n"
    )
    stage.end("a")
    stage.pause()
    stage.end("b")
    edit(stage, task="b", x="edited")
    stage.resume()
    stage.end("j")
    assert stage.output() == {"x": "edited"}
    stage.check()


def test_from_the_beginning_is_a_new_execution() -> None:
    """O16, O17: a rerun from the beginning starts another execution; the original's journal is what it was."""
    here = World()
    here.define(TWO)
    original = here.start("wf")
    here.run()
    journal = list(here.journals[original.id])
    again = here.start("wf", original.created.input.data)
    here.run()
    assert again.id != original.id
    assert (again.state, here.journals[original.id]) == ("SUCCESS", journal)


def test_requests_do_not_go_up_or_sideways() -> None:
    """O8, O9, O11, decision 12: pause and resume asked of a child stay in it; the parent's task shows PAUSED."""
    stage = Stage(TREE)
    child = stage.child()
    stage.pause(on=child)
    stage.end("c", on=child)
    assert (child.state, stage.execution.state, stage.standing()) == (
        "PAUSED",
        "RUNNING",
        {"s": "PAUSED", "peer": "RUNNING"},
    )
    stage.resume(on=child)
    assert (child.state, stage.execution.state) == ("SUCCESS", "RUNNING")
    stage.end("peer")
    assert stage.execution.state == "SUCCESS"
    stage.check()


def test_what_came_due_starts_in_order() -> None:
    """Decision 8: delays that came due while PAUSED start at resume, in the order in which they were due."""
    stage = Stage(
        "version: '2.0'\nwf:\n  tasks:\n    late: {action: std.noop, wait-before: 3}\n"
        "    soon: {action: std.noop, wait-before: 1}\n    far: {action: std.noop, wait-before: 50}\n"
    )
    stage.pause()
    stage.world.run(until_s=10)
    stage.world.now_s += 10
    assert stage.execution.state == "PAUSED"
    outcome = stage.resume()
    begun = [change.key[0] for change in outcome.changes if isinstance(change, AttemptAdded)]
    assert begun == [stage.task("soon").number, stage.task("late").number]
    assert stage.standing()["far"] == "RUNNING_DELAYED"
    stage.check()
