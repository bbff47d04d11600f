"""Stories of the core: what a failure sets off by the definition (C6, C9-C13, C25, C26, C30, decision 22)."""

from __future__ import annotations

import pytest
from tests.unit.workflow.stories.operating import Stage
from tests.world import Played, World

from dalsegno.workflow.events import ForcedEnd, GoToRequested
from dalsegno.workflow.execution import Execution
from dalsegno.workflow.records import Attempt

LINE = {
    "mistral": """
version: '2.0'
wf:
  {strategy}
  tasks:
    a: {{action: std.noop, on-success: b, revert: undo}}
    b: {{action: std.noop, {place}, on-success: c, revert: undo}}
    c: {{action: std.noop, on-success: d, revert: undo}}
    d: {{action: std.fail}}
""",
    "orquesta": """
version: 1.0
name: wf
{strategy}
tasks:
  a: {{action: std.noop, revert: undo, next: [{{when: <% succeeded() %>, do: b}}]}}
  b: {{action: std.noop, {place}, revert: undo, next: [{{when: <% succeeded() %>, do: c}}]}}
  c: {{action: std.noop, revert: undo, next: [{{when: <% succeeded() %>, do: d}}]}}
  d: {{action: std.fail}}
""",
}
both = pytest.mark.parametrize("language", LINE)


class Log:
    """A world whose actions write down that they ran."""

    def __init__(self, *texts: str) -> None:
        self.calls: list[str] = []
        self.world = World(player=self.play)
        self.world.adhoc.clear()
        for text in texts:
            self.world.define("version: '2.0'\nundo: {base: std.noop}\n" if text == "undo" else text)
        self.execution = self.world.start("wf")
        self.world.run()

    def play(self, execution: Execution, attempt: Attempt) -> Played:
        name = execution.tasks[attempt.key[0]].name
        self.calls.append(f"-{name}" if attempt.reverts else name)
        if attempt.action == "std.fail":
            return Played("failed", error="broken")
        return Played()


def log(language: str, strategy: str, place: str = "checkpoint: here") -> Log:
    """Run the line, which always fails at its last task, with this strategy."""
    return Log(UNDO, LINE[language].format(strategy=strategy, place=place))


UNDO = """
version: '2.0'
undo: {base: std.noop}
"""


@both
def test_a_failure_reverts_the_whole_flow(language: str) -> None:
    """C9, C13: as if it had never run; it ends as REVERTED and says why."""
    done = log(language, "on-failure: revert")
    assert done.calls == ["a", "b", "c", "d", "-c", "-b", "-a"]
    assert done.execution.state == "REVERTED"
    assert "reverted to checkpoint 'start': " in done.execution.info
    assert done.execution.paused_at == done.execution.start_sequence
    done.world.check_journals()


@both
def test_a_failure_reverts_to_the_last_checkpoint_and_ends(language: str) -> None:
    """C12: the flow is considered reverted."""
    done = log(language, "on-failure: {revert: last}")
    assert done.calls == ["a", "b", "c", "d", "-c"]
    assert (done.execution.state, done.execution.not_reached) == ("REVERTED", "")


@both
def test_a_failure_reverts_and_waits_for_an_operator(language: str) -> None:
    """C11: several tasks are reverted; it is tried again later."""
    done = log(language, "on-failure: {revert: here, then: pause}")
    assert done.calls == ["a", "b", "c", "d", "-c"]
    assert done.execution.state == "PAUSED"
    assert done.execution.entries[done.execution.paused_at].name == "here"


@both
@pytest.mark.parametrize(
    ("to", "place", "tried"),
    [
        ("start", "checkpoint: here", ["a", "b", "c", "d", "-c", "-b", "-a"]),
        ("last", "checkpoint: here", ["c", "d", "-c"]),
        ("here", "checkpoint: {name: here, when: before}", ["b", "c", "d", "-c", "-b"]),
    ],
)
def test_retries_are_bounded(to: str, place: str, tried: list[str], language: str) -> None:
    """C6, C10, decision 22: a flow that always fails makes exactly count + 1 tries, then it fails."""
    done = log(language, f"on-failure: {{revert: {to}, then: retry, count: 3}}", place)
    assert done.calls.count("d") == 4
    first = ["a", "b", "c", "d"]
    undone = [call for call in tried if call.startswith("-")]
    forward = [call for call in tried if not call.startswith("-")]
    assert done.calls == [*first, *(undone + forward) * 3]
    assert done.execution.state == "ERROR"
    done.world.check_journals()


@both
def test_a_checkpoint_with_retries(language: str) -> None:
    """C6, C25, C30: back to it and on, then the next outer strategy."""
    done = log(language, "on-failure: revert", "checkpoint: {name: here, retry: 2}")
    assert done.calls == ["a", "b", "c", "d", *["-c", "c", "d"] * 2, "-c", "-b", "-a"]
    assert done.execution.state == "REVERTED"


@both
def test_a_person_counts_anew(language: str) -> None:
    """Decision 22: a person's go-to to the entry sets its count to 0."""
    done = log(language, "description: retries", "checkpoint: {name: here, retry: 1}")
    assert (done.calls.count("d"), done.execution.state) == (2, "ERROR")
    done.world.tell(done.execution.id, GoToRequested(at_s=done.world.now_s, name="here", resumes=True))
    done.world.run()
    assert (done.calls.count("d"), done.execution.state) == (4, "ERROR")


@both
def test_the_delay_before_going_on(language: str) -> None:
    """C11, decision 22: it stands at the entry until the delay is over."""
    stage = Stage(
        LINE[language].format(strategy="on-failure: {revert: here, then: retry, delay: 60}", place="checkpoint: here"),
        others=(UNDO,),
    )
    for name in "abc":
        stage.end(name)
    stage.end("d", error="broken")
    attempt = stage.attempts("c")[-1]
    assert attempt.reverts
    stage.world.finish(stage.execution, attempt, Played())
    stage.world.run(until_s=59)
    assert (stage.execution.state, stage.stands_at()) == ("PAUSED", "here")
    stage.world.run(until_s=61)
    assert stage.execution.state == "RUNNING"
    assert stage.standing()["c"] == "RUNNING"
    stage.check()


@both
def test_the_delay_is_held_by_a_pause(language: str) -> None:
    """Decision 23: a person pauses it, and it does not go on by itself."""
    stage = Stage(
        LINE[language]
        .format(strategy="on-failure: {revert: start, then: retry, delay: 60}", place="checkpoint: here")
        .replace("revert: undo, ", "")
        .replace(", revert: undo", ""),
    )
    for name in "abc":
        stage.end(name)
    stage.end("d", error="broken")
    assert stage.execution.state == "PAUSED"
    stage.pause()
    stage.world.run(until_s=600)
    assert stage.execution.state == "PAUSED"


@both
def test_a_cancel_sets_off_nothing(language: str) -> None:
    """Decision 22: strategies are for failures of the execution's own doing."""
    for terminate in (ForcedEnd.NONE, ForcedEnd.ERROR):
        stage = Stage(LINE[language].format(strategy="on-failure: revert", place="checkpoint: here"), others=(UNDO,))
        stage.end("a")
        stage.cancel(terminate=terminate)
        if not terminate:
            stage.end("b")
        assert stage.execution.state == (terminate or "CANCELLED")


@both
def test_a_failing_revert_is_no_failure_that_is_tried_again(language: str) -> None:
    """C29, decision 22: REVERT_ERROR, whatever retries are left."""
    text = LINE[language].format(
        strategy="on-failure: {revert: start, then: retry, count: 5}", place="checkpoint: here"
    )
    done = Log(
        UNDO,
        text.replace(
            "c: {action: std.noop, on-success: d, revert: undo}",
            "c: {action: std.noop, on-success: d, revert: std.fail}",
        ).replace("c: {action: std.noop, revert: undo,", "c: {action: std.noop, revert: std.fail,"),
    )
    assert done.execution.state == "REVERT_ERROR"
    assert done.calls == ["a", "b", "c", "d", "-c"]


SUB = """
version: '2.0'
sub:
  tasks:
    one: {action: std.noop, on-success: two, revert: undo}
    two: {action: std.fail}
"""
PARENT = """
version: '2.0'
wf:
  {strategy}
  tasks:
    a: {{action: std.noop, on-success: call, revert: undo}}
    call: {{workflow: sub, checkpoint: {{name: flow, retry: {retry}}}{items}, on-error: {handler}, revert: undo}}
"""
HANDLER = "    z: {{action: std.noop}}\n"


def test_a_sub_flow_is_reverted_and_tried_again() -> None:
    """C25, C26: its tasks are reverted and attempted again, up to the number; then the handlers of the task."""
    done = Log(UNDO, SUB, (PARENT + HANDLER).format(strategy="description: x", retry=2, handler="z", items=""))
    assert done.calls == ["a", *["one", "two", "-one"] * 2, "one", "two", "z"]
    assert done.execution.state == "SUCCESS"
    states = [child.state for child in done.world.children(done.execution)]
    assert states == ["REVERTED", "REVERTED", "ERROR"]
    done.world.check_journals()


def test_the_tries_of_a_sub_flow_are_bounded() -> None:
    """C26, decision 22: what the sub-flow has used of its retries is not there for the parent's failure."""
    done = Log(UNDO, SUB, PARENT.format(strategy="description: x", retry=2, handler="fail", items=""))
    assert done.calls.count("two") == 3
    assert done.execution.state == "ERROR"


def test_each_item_of_a_sub_flow_is_tried_again_by_itself() -> None:
    """Decision 22: per item."""
    items = ", with-items: 'i in [1, 2, 3]'"
    done = Log(UNDO, SUB, (PARENT + HANDLER).format(strategy="description: x", retry=1, handler="z", items=items))
    assert sorted(done.calls) == sorted(["a", *["one", "two"] * 6, *["-one"] * 3, "z"])
    assert done.execution.state == "SUCCESS"
    done.world.check_journals()


def test_a_sub_flow_that_a_person_has_run_again_is_reverted_and_tried_again() -> None:
    """C26, decision 11: a child that began again for a later attempt of the item is reverted for that one."""
    text = PARENT.format(strategy="description: x", retry=2, handler="fail", items="").replace(", revert: undo", "")
    stage = Stage(text, others=(SUB.replace(", revert: undo", ""),))
    stage.end("a")
    stage.end("one", on=stage.child())
    stage.end("two", error="broken", on=stage.child())
    second = stage.child()
    stage.end("one", outcome="cancelled", on=second)
    assert stage.execution.state == "CANCELLED"
    stage.rerun(on=second)
    assert stage.execution.state == "RUNNING"
    stage.end("one", on=second)
    stage.end("two", error="broken", on=second)
    third = stage.child()
    assert (second.state, third.state) == ("REVERTED", "RUNNING")
    stage.end("one", on=third)
    stage.end("two", 1, on=third)
    assert stage.execution.state == "SUCCESS"
    stage.check()


def _reverting_sub_flow() -> tuple[Stage, Execution]:
    """An execution whose sub-flow has failed, and that child while it is reverted, to be tried again."""
    text = (PARENT + HANDLER).format(strategy="description: x", retry=2, handler="z", items="")
    stage = Stage(text.replace(", revert: undo", ""), others=(SUB.replace("revert: undo", "revert: std.noop"),))
    stage.end("a")
    child = stage.child()
    stage.end("one", on=child)
    stage.end("two", error="broken", on=child)
    assert (stage.execution.state, child.state) == ("RUNNING", "REVERTING")
    return stage, child


def test_a_sub_flow_that_is_led_elsewhere_while_it_is_reverted_is_waited_for() -> None:
    """C26, decision 11: a person has a child that goes back for a retry stay there, and resumes it: its end counts."""
    stage, child = _reverting_sub_flow()
    stage.go_to("start", on=child)
    reverting = next(each for each in child.attempts.values() if each.reverts)
    stage.world.finish(child, reverting, Played("succeeded"))
    stage.world.run(until_s=0)
    assert child.state == "PAUSED"
    stage.resume(on=child)
    stage.end("one", on=child)
    stage.end("two", 1, on=child)
    assert (child.state, stage.execution.state) == ("SUCCESS", "SUCCESS")
    stage.check()


def test_a_sub_flow_that_is_ended_while_it_is_reverted_is_not_tried_again() -> None:
    """C26: when a person ends a child that goes back for a retry, its failure takes its course."""
    stage, child = _reverting_sub_flow()
    stage.cancel(on=child, terminate=ForcedEnd.CANCELLED)
    assert (child.state, stage.standing()["call"], stage.standing()["z"]) == ("CANCELLED", "ERROR", "RUNNING")
    stage.check()


def _two_items() -> tuple[Stage, Execution, Execution]:
    """An execution with two sub-flows of one task, and both children: the first one has failed and is reverted, to be
    tried again."""
    items = ", with-items: 'i in [1, 2]'"
    text = (PARENT + HANDLER).format(strategy="description: x", retry=2, handler="z", items=items)
    stage = Stage(text.replace(", revert: undo", ""), others=(SUB.replace("revert: undo", "revert: std.noop"),))
    stage.end("a")
    first, second = stage.world.children(stage.execution)
    stage.end("one", on=first)
    stage.end("two", error="broken", on=first)
    assert (first.state, second.state) == ("REVERTING", "RUNNING")
    return stage, first, second


def _undo(stage: Stage, child: Execution) -> None:
    """The revert of a child comes to its end."""
    reverting = next(each for each in child.attempts.values() if each.reverts)
    stage.world.finish(child, reverting, Played("succeeded"))
    stage.world.run(until_s=0)
    assert child.state == "REVERTED"


def test_a_sub_flow_is_tried_again_while_the_others_are_paused() -> None:
    """C26: its task is not paused any more."""
    stage, first, second = _two_items()
    stage.pause(on=second)
    stage.end("one", on=second)
    assert (second.state, stage.standing()["call"]) == ("PAUSED", "PAUSED")
    _undo(stage, first)
    third = stage.child()
    assert (third.state, stage.standing()["call"]) == ("RUNNING", "RUNNING")
    stage.check()


def test_an_item_whose_sub_flow_is_reverted_after_the_end_has_failed() -> None:
    """C26: when the execution is run again because of another item, nothing waits for this one."""
    stage, first, second = _two_items()
    stage.end("one", outcome="cancelled", on=second)
    assert (second.state, stage.execution.state) == ("CANCELLED", "CANCELLED")
    _undo(stage, first)
    assert stage.execution.state == "CANCELLED"
    stage.rerun(on=second)
    assert stage.execution.state == "RUNNING"
    stage.end("one", on=second)
    stage.end("two", 1, on=second)
    assert (stage.standing()["call"], stage.standing()["z"]) == ("ERROR", "RUNNING")
    stage.check()


def test_the_outer_strategy_reverts_the_children_too() -> None:
    """C30, decision 17: when the retries are used up, the parent goes back: the failed child is reverted as well."""
    done = Log(
        UNDO,
        SUB,
        PARENT.format(strategy="on-failure: revert", retry=0, handler="fail", items="").replace(", retry: 0", ""),
    )
    assert done.calls == ["a", "one", "two", "-one", "-a"]
    assert done.execution.state == "REVERTED"
    assert [child.state for child in done.world.children(done.execution)] == ["REVERTED"]
    done.world.check_journals()


def test_a_child_that_cannot_be_reverted_is_left_to_on_error() -> None:
    """Decision 22: a child in REVERT_ERROR is not retried."""
    done = Log(
        UNDO,
        SUB.replace("revert: undo", "revert: std.fail"),
        (PARENT + HANDLER).format(strategy="description: x", retry=2, handler="z", items=""),
    )
    assert done.calls == ["a", "one", "two", "-one", "z"]
    assert [child.state for child in done.world.children(done.execution)] == ["REVERT_ERROR"]
