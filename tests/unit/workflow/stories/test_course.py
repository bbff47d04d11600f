"""Stories of the core: how executions begin, continue and end."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage, run
from tests.world import HOLD, Played, World, play_standard, states, task

from dalsegno.expressions.compile import Expression
from dalsegno.workflow.changes import Timer
from dalsegno.workflow.events import (
    ChildChoice,
    Event,
    GoToRequested,
    HandedOut,
    PauseRequested,
    Poisoned,
    RerunRequested,
    ResumeRequested,
    SliceDue,
    StartRequested,
    TaskDone,
    TaskOutcome,
    TimerFired,
)
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.identity import attempt_id, parse_attempt_id
from dalsegno.workflow.records import Attempt
from dalsegno.workflow.refusals import InvalidRequest, NotFound
from dalsegno.workflow.value import NULL, Value

CHAIN = """
version: '2.0'
wf:
  input: [n, {m: 2}]
  output: {sum: <% $.a + $.b %>}
  tasks:
    t1: {action: std.echo output=<% $.n %>, publish: {a: <% task().result %>}, on-success: t2}
    t2: {action: std.echo output=<% $.m %>, publish: {b: <% task().result %>}}
"""


def hold(execution: Execution, attempt: Attempt) -> Played:
    """Plays nothing: the story reports itself."""
    return HOLD


def world(text: str, **settings: object) -> World:
    """A world that knows the definitions."""
    made = World(**settings)  # type: ignore[arg-type]
    made.define(text)
    return made


def test_a_chain_runs_to_its_output() -> None:
    """P1, P2, P6: a start decides the first tasks, each completion the next ones, from control and data flow."""
    here = world(CHAIN)
    execution = here.start("wf", {"n": 1})
    assert states(execution) == {"t1": "RUNNING"}
    here.run()
    assert (execution.state, execution.output) == ("SUCCESS", Value(data={"sum": 3}))
    here.check_journals()


def test_a_start_is_refused_for_everything_that_is_wrong_with_it() -> None:
    """Missing and unknown inputs are named together, and nothing is created."""
    here = world(CHAIN)
    with pytest.raises(InvalidRequest) as refused:
        here.start("wf", {"x": 1, "y": 2})
    assert [violation.subject for violation in refused.value.violations] == ["input.n", "input.x", "input.y"]
    assert here.executions == {}


def test_a_second_start_changes_nothing() -> None:
    """An event that was stepped before is a duplicate."""
    here = world(CHAIN)
    execution = here.start("wf", {"n": 1})
    before = execution.revision
    outcome = here.tell(execution.id, StartRequested(at_s=here.now_s))
    assert (outcome.verdict, execution.revision) == ("duplicate", before)


def test_only_the_current_delivery_counts() -> None:
    """P24: a repeated report is a duplicate, one of another delivery is superseded; neither advances anything."""
    here = world(CHAIN, player=hold)
    execution = here.start("wf", {"n": 1})
    here.run()
    attempt = execution.attempts[1, 0, 1]
    stale = TaskDone(key=attempt.key, outcome=TaskOutcome.SUCCEEDED, delivery=7, result=Value(data=9))
    assert here.tell(execution.id, stale).verdict == "superseded"
    assert here.finish(execution, attempt, Played(result=1)).verdict == "accepted"
    before = execution.revision
    assert here.finish(execution, attempt, Played(result=1)).verdict == "duplicate"
    assert here.finish(execution, attempt, Played("failed", error="late")).verdict == "superseded"
    assert execution.revision == before


def test_a_report_for_an_unknown_attempt_is_refused() -> None:
    """P25: it is an error, not a crash."""
    here = world(CHAIN)
    execution = here.start("wf", {"n": 1})
    with pytest.raises(NotFound):
        here.tell(execution.id, TaskDone(key=(9, 0, 1), outcome=TaskOutcome.SUCCEEDED))


def test_a_report_before_the_hand_out_is_known_counts() -> None:
    """P26: a callback that names no delivery completes an attempt that is still READY."""
    here = world(CHAIN, player=hold)
    execution = here.start("wf", {"n": 1})
    here.tell(execution.id, TaskDone(key=(1, 0, 1), outcome=TaskOutcome.SUCCEEDED, result=Value(data=5)))
    assert states(execution) == {"t1": "SUCCESS", "t2": "RUNNING"}


def test_a_delegate_is_completed_by_somebody_else() -> None:
    """P7, P9, P15, P16: it stays RUNNING, is not active, and a failure told from outside takes the error transition."""
    text = (
        "version: '2.0'\nwf:\n  tasks:\n    ask: {action: std.async_noop, on-error: t2}\n    t2: {action: std.noop}\n"
    )
    here = world(text)
    execution = here.start("wf")
    here.run()
    assert (states(execution), execution.active_count) == ({"ask": "RUNNING"}, 0)
    here.tell(execution.id, TaskDone(key=(1, 0, 1), outcome=TaskOutcome.FAILED, error="no"))
    here.run()
    assert (states(execution), execution.state) == ({"ask": "ERROR", "t2": "SUCCESS"}, "SUCCESS")
    here.check_journals()


def test_every_task_state_of_a_join_is_seen() -> None:
    """S7, S8: a join WAITS until enough have come, and fails, without hanging, when they cannot come any more."""
    text = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-success: j}
    b: {action: std.fail, on-success: j}
    j: {join: all, action: std.noop, on-error: rescue}
    rescue: {action: std.noop}
"""
    here = world(text, player=hold)
    execution = here.start("wf")
    here.run()
    here.finish(execution, execution.attempts[1, 0, 1], Played())
    assert task(execution, "j").state == "WAITING"
    here.finish(execution, execution.attempts[2, 0, 1], Played("failed", error="broken"))
    here.run()
    assert task(execution, "j").info == "Failed by tasks: [b]"
    assert states(execution)["rescue"] == "RUNNING"


def test_a_join_that_can_be_reached_no_more_fails() -> None:
    """S8: also when what was missing would have come by a longer way."""
    text = """
version: '2.0'
wf:
  tasks:
    a: {action: std.noop, on-success: j}
    b: {action: std.noop, on-success: [{c: <% false %>}]}
    c: {action: std.noop, on-success: j}
    j: {join: all, action: std.noop}
"""
    here = world(text)
    execution = here.start("wf")
    here.run()
    assert (execution.state, states(execution)["j"]) == ("ERROR", "ERROR")
    here.check_journals()


def test_retry_makes_new_attempts_of_one_task_execution() -> None:
    """O23, S9, S14: attempts are numbered records under one task; between them it is RUNNING_DELAYED."""
    text = """
version: '2.0'
wf:
  tasks:
    t: {action: std.fail, retry: {count: 2, delay: 5}}
"""
    here = world(text)
    execution = here.start("wf")
    here.run(until_s=1)
    found = task(execution, "t")
    assert (found.state, found.timing.due_s) == ("RUNNING_DELAYED", here.now_s + 5)
    here.run()
    assert sorted(execution.attempts) == [(1, 0, 1), (1, 0, 2), (1, 0, 3)]
    assert [execution.attempts[key].accepted for key in sorted(execution.attempts)] == [False, False, True]
    assert execution.state == "ERROR"
    here.check_journals()


def test_a_timeout_stops_the_action() -> None:
    """Decision 8: what a timeout stops is CANCELLED and its executor is told; the task is in ERROR."""
    text = "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.sleep seconds=60, timeout: 3}\n"
    here = world(text)
    execution = here.start("wf")
    here.run()
    assert task(execution, "t").info == "Task timed out [timeout(s)=3]."
    assert execution.attempts[1, 0, 1].state == "CANCELLED"
    assert [command.key for command in here.cancelled] == [(1, 0, 1)]
    here.check_journals()


def test_items_are_created_in_slices() -> None:
    """A wide fan-out grows by slices, each an event of its own; its results come in the order of the items (S13)."""
    text = """
version: '2.0'
wf:
  input: [n]
  output: {last: <% task(t).result.last() %>, count: <% task(t).result.len() %>}
  tasks:
    t: {with-items: "i in <% range(0, $.n).toList() %>", action: std.echo output=<% $.i %>}
"""
    here = world(text)
    execution = here.start("wf", {"n": 2500})
    assert len(execution.attempts) == 100
    here.run()
    assert execution.output == Value(data={"last": 2499, "count": 2500})
    here.check_journals()


WIDE = """
version: '2.0'
wf:
  input: [n]
  tasks:
    t: {with-items: "i in <% range(0, $.n).toList() %>", action: std.async_noop MORE}
"""


def _wide(more: str = "") -> tuple[World, Execution]:
    """An execution whose items wait for the test; its SliceDues stay where they are until the test delivers them."""
    here = world(WIDE.replace(" MORE", more))
    return here, here.start("wf", {"n": 5000})


def _slices(here: World) -> list[SliceDue]:
    return [event for event in here.waiting_events() if isinstance(event, SliceDue)]


def test_ends_do_not_begin_slices() -> None:
    """However many items end while a SliceDue is under way, no other is sent, and none of them begins a slice."""
    here, execution = _wide()
    assert (len(execution.attempts), len(_slices(here))) == (100, 1)
    for item in range(100):
        here.tell(execution.id, TaskDone(key=(1, item, 1), outcome=TaskOutcome.SUCCEEDED, result=NULL))
    assert (len(execution.attempts), len(_slices(here))) == (100, 1)
    here.tell(execution.id, _slices(here)[0])
    assert len(execution.attempts) == 350


def test_ends_begin_no_more_than_has_room() -> None:
    """With a concurrency beyond a slice the SliceDue makes it full; from then on each end begins one item."""
    here, execution = _wide(", concurrency: 150")
    here.tell(execution.id, TaskDone(key=(1, 0, 1), outcome=TaskOutcome.SUCCEEDED, result=NULL))
    assert len(execution.attempts) == 100
    here.tell(execution.id, _slices(here)[0])
    assert len(execution.attempts) == 151
    here.tell(execution.id, TaskDone(key=(1, 1, 1), outcome=TaskOutcome.SUCCEEDED, result=NULL))
    assert len(execution.attempts) == 152
    assert len(_slices(here)) == 1


def test_a_second_slice_of_the_same_begin_counts_once() -> None:
    """Pause and resume send a SliceDue again; what both say is done once."""
    here, execution = _wide()
    first = _slices(here)[0]
    here.tell(execution.id, PauseRequested())
    here.tell(execution.id, ResumeRequested())
    assert len(execution.attempts) == 200
    here.tell(execution.id, first)
    assert len(execution.attempts) == 200
    here.tell(execution.id, _slices(here)[-1])
    assert len(execution.attempts) == 450


def test_one_step_begins_a_hundred_items_of_all_its_tasks() -> None:
    """Fifty lists that begin together begin a hundred items together; every item is run in the end."""
    tasks = "".join(
        f"    t{n}: {{with-items: 'i in <% range(0, 120).toList() %>', action: std.echo output=1}}\n" for n in range(50)
    )
    here = world(f"version: '2.0'\nwf:\n  tasks:\n{tasks}")
    execution = here.start("wf")
    assert len(execution.attempts) == 100
    here.run()
    assert (execution.state, len(execution.attempts)) == ("SUCCESS", 6000)
    here.check_journals()


def test_concurrency_bounds_what_is_under_way() -> None:
    """With `concurrency: 2` a third item begins when one has ended."""
    text = """
version: '2.0'
wf:
  tasks:
    t: {with-items: "i in [1, 2, 3]", concurrency: 2, action: std.echo output=<% $.i %>}
"""
    here = world(text, player=hold)
    execution = here.start("wf")
    here.run()
    assert len(execution.attempts) == 2
    here.finish(execution, execution.attempts[1, 1, 1], Played(result=2))
    assert len(execution.attempts) == 3


def test_a_sub_workflow_has_an_execution_of_its_own() -> None:
    """S15: a task that runs a workflow has no action execution but a child execution; its output is the result."""
    text = """
version: '2.0'
child: {input: [x], output: {y: <% $.x * 2 %>}, tasks: {c: {action: std.noop}}}
wf: {output: {r: <% task(t).result.y %>}, tasks: {t: {workflow: child x=4}}}
"""
    here = world(text)
    execution = here.start("wf")
    here.run()
    (child,) = here.children(execution)
    assert (child.root_id, child.state) == (execution.id, "SUCCESS")
    assert execution.output == Value(data={"r": 8})
    assert execution.attempts[1, 0, 1].child_id == child.id
    here.check_journals()


def test_a_deadline_ends_the_execution_by_force() -> None:
    """What had not ended is CANCELLED, the execution is in ERROR and says why."""
    text = "version: '2.0'\nwf:\n  tasks:\n    t: {action: std.sleep seconds=60}\n"
    here = world(text)
    execution = here.start("wf", deadline_s=here.now_s + 10)
    here.run()
    assert (execution.state, execution.info) == ("ERROR", "the execution's deadline has passed")
    assert states(execution) == {"t": "CANCELLED"}
    assert execution.active_count == 0


def test_a_poisoned_execution_ends_with_the_reason() -> None:
    """An event that cannot be stored takes only its own execution with it."""
    here = world(CHAIN)
    execution = here.start("wf", {"n": 1})
    here.tell(execution.id, Poisoned(at_s=here.now_s, reason="cannot be stored"))
    assert (execution.state, execution.info) == ("ERROR", "cannot be stored")
    here.check_journals()


def test_what_still_runs_of_an_execution_that_has_ended_ends_with_its_poisoned_report() -> None:
    """Its report is refused and not sent again, so the action is cancelled. The execution keeps its state."""
    text = """
version: '2.0'
wf: {tasks: {ends_it: {action: std.noop, on-complete: [fail]}, goes_on: {action: std.noop}}}
"""
    here = World(player=lambda execution, attempt: HOLD if attempt.key[0] == 2 else Played())
    here.define(text)
    execution = here.start("wf")
    here.run()
    assert (execution.state, states(execution), execution.active_count) == (
        "ERROR",
        {"ends_it": "SUCCESS", "goes_on": "RUNNING"},
        1,
    )
    info = execution.info
    here.tell(execution.id, Poisoned(at_s=here.now_s, reason="cannot be stored"))
    assert (execution.state, execution.info, execution.is_at_rest) == ("ERROR", info, True)
    assert states(execution) == {"ends_it": "SUCCESS", "goes_on": "CANCELLED"}
    assert "cannot be stored" in task(execution, "goes_on").info
    here.check_journals()


FAMILY = """
version: '2.0'
sub: {tasks: {one: {action: std.noop, on-success: two}, two: {action: std.noop}}}
wf:
  tasks:
    call: {workflow: sub, CHECKPOINT on-success: after}
    after: {action: std.noop}
"""


def _family(monkeypatch: pytest.MonkeyPatch, order: type[Event], error: str, checkpoint: str = "") -> Stage:
    """Return an execution whose sub-workflow has ended, and cannot carry out any `order` of it."""
    stage = Stage(FAMILY.replace("CHECKPOINT ", checkpoint))
    tell = stage.world._tell_quietly

    def poisoned(to: str, event: Event) -> None:
        if isinstance(event, order):
            event = Poisoned(at_s=event.at_s, reason="cannot be stored", parent_revision=event.parent_revision)
        tell(to, event)

    monkeypatch.setattr(stage.world, "_tell_quietly", poisoned)
    child = stage.child()
    stage.end("one", on=child)
    stage.end("two", error=error, on=child)
    return stage


def test_an_ended_child_that_cannot_go_back_for_a_retry_tells_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """C26: nothing is tried again, and the failure takes its course."""
    stage = _family(monkeypatch, GoToRequested, "broken", "checkpoint: {name: flow, retry: 2}, on-error: after, ")
    child = stage.child()
    assert (stage.standing(), child.state) == ({"call": "ERROR", "after": "RUNNING"}, "ERROR")
    assert child.info.endswith("two: broken\ncannot be stored")
    stage.check()


def test_an_ended_child_that_cannot_go_back_with_its_parent_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """C29, decision 17: the revert of the parent has failed, and says why."""
    stage = _family(monkeypatch, GoToRequested, "")
    stage.go_to("start")
    stage.end("after")
    assert (stage.execution.state, stage.child().state) == ("REVERT_ERROR", "SUCCESS")
    assert "the sub-workflow could not be reverted: cannot be stored" in stage.execution.info
    stage.check()


def test_an_ended_child_that_cannot_be_rerun_tells_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision 11: the parent waits for its child no longer."""
    stage = _family(monkeypatch, RerunRequested, "broken")
    stage.rerun(run("call", child=ChildChoice.RERUN_FAILED))
    assert (stage.execution.state, stage.child().state) == ("ERROR", "ERROR")
    assert stage.execution.info.endswith("cannot be stored")
    stage.check()


POISONED = {
    "mistral": """
version: '2.0'
parent: {tasks: {below: {workflow: wf, on-error: [mend]}, mend: {action: std.noop}}}
wf:
  output-on-error: {told: <% 1 + 1 %>}
  tasks:
    t: {action: std.noop, publish-on-error: {p: <% 2 %>}, on-error: [after]}
    after: {action: std.noop}
""",
    "orquesta": """
version: 1.0
output: [{told: <% 1 + 1 %>}]
tasks:
  t: {action: std.noop, next: [{when: <% failed() %>, publish: [{p: 1}], do: after}]}
  after: {action: std.noop}
""",
}


def test_a_poisoned_execution_evaluates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever could not be stepped may be an expression: neither an output nor a publish nor a condition is evaluated,
    no handler is run, and the parent is told."""
    here = world(POISONED["mistral"], player=lambda execution, attempt: HOLD if attempt.key[0] == 1 else Played())
    parent = here.start("parent")
    here.run()
    (child,) = here.children(parent)
    monkeypatch.setattr(Expression, "evaluate", _never)
    here.tell(child.id, Poisoned(at_s=here.now_s, reason="the engine died"))
    assert (child.state, child.info, states(child)) == ("ERROR", "the engine died", {"t": "CANCELLED"})
    assert child.output == Value(data={"result": "the engine died"})
    here.run()
    assert states(parent) == {"below": "ERROR", "mend": "SUCCESS"}
    assert "the engine died" in task(parent, "below").info
    here.check_journals()


def test_a_poisoned_execution_with_a_list_of_errors_has_the_reason_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orquesta: no output at all, not even the members that could be evaluated; the reason is the error."""
    here = World(player=hold)
    here.define(POISONED["orquesta"], name="wf")
    execution = here.start("wf")
    here.run()
    monkeypatch.setattr(Expression, "evaluate", _never)
    here.tell(execution.id, Poisoned(at_s=here.now_s, reason="the engine died"))
    assert (execution.state, execution.info, states(execution)) == ("ERROR", "the engine died", {"t": "CANCELLED"})
    assert (execution.output, execution.reported_errors) == (
        Value(data=None),
        Value(data=[{"type": "error", "message": "the engine died"}]),
    )
    here.check_journals()


def _never(*_: object) -> object:
    raise AssertionError("nothing is evaluated")


def test_a_cycle_that_never_waits_is_stopped() -> None:
    """Tasks that all end at once cannot keep one step going for ever."""
    text = """
version: '2.0'
wf:
  tasks:
    t0: {action: std.noop, on-success: t}
    t: {with-items: "i in <% list() %>", action: std.noop, on-success: t}
"""
    here = world(text)
    execution = here.start("wf")
    here.run()
    assert execution.state == "ERROR"
    assert "cycle" in execution.info


def test_a_stale_timer_changes_nothing() -> None:
    """A timer counts only for what it was set for."""
    here = world(CHAIN)
    execution = here.start("wf", {"n": 1})
    outcome = here.tell(execution.id, TimerFired(task=1, timer=Timer.RETRY, due_s=3.0))
    assert (outcome.verdict, outcome.changes) == ("superseded", [])


def test_an_attempt_is_handed_out_once() -> None:
    """A second hand-out of what is RUNNING is superseded."""
    here = world(CHAIN, player=hold)
    execution = here.start("wf", {"n": 1})
    here.run()
    again = HandedOut(key=(1, 0, 1), session_id="other", executor_id="other")
    assert here.tell(execution.id, again).verdict == "superseded"


def test_attempt_ids_are_read_back() -> None:
    """Numbers, not names: `<execution>.17.3.2`."""
    assert parse_attempt_id(attempt_id("e", (17, 3, 2))) == ("e", (17, 3, 2))


def test_context_costs_nothing_for_the_length_of_a_chain() -> None:
    """A task far down a chain still sees the first variable, and branches that publish nothing share one context."""
    names = [f"t{number}" for number in range(1, 301)]
    tasks = "\n".join(
        f"    {name}: {{action: std.noop, publish: {{v_{name}: 1}}, on-success: {following}}}"
        for name, following in zip(names, [*names[1:], "end"], strict=True)
    )
    text = f"version: '2.0'\nwf:\n  output: {{first: <% $.v_t1 %>}}\n  tasks:\n{tasks}\n    end: {{action: std.noop}}\n"
    here = world(text, player=play_standard)
    execution = here.start("wf")
    here.run()
    assert execution.output == Value(data={"first": 1})
    end = task(execution, "end")
    assert end.context_out is end.context_in
